"""What a package costs besides time: to import, to store, to hold in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from machine import ROOT
from peers import PEERS
from process import environment

IMPORT = "import time, numpy; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"

LESSON = """
import json
from fastmlp import Net, datasets
from machine import peak_memory

data, _ = datasets.auto()
net = Net([784, 200, 10], seed=0)
net.fit(data.train.images, data.train.labels, steps=1000, batch_size=1000)
print(json.dumps(peak_memory()))
"""


@dataclass(frozen=True)
class Footprint:
    """Import times beyond NumPy's in seconds, by module; bytes of fastmlp's lesson and of its wheel."""

    import_seconds: Mapping[str, float]
    lesson_peak_bytes: int
    wheel: str | None
    wheel_bytes: int | None


def measure_footprint(peers: Iterable[str], repeats: int, threads: int, wheel: Path | None) -> Footprint:
    wheel = wheel or find_wheel()
    return Footprint(
        import_seconds(["fastmlp", *peers], repeats, threads),
        lesson_peak_bytes=json.loads(output_of(LESSON, threads)),
        wheel=wheel and wheel.name,
        wheel_bytes=wheel and wheel.stat().st_size,
    )


def import_seconds(peers: Iterable[str], repeats: int, threads: int) -> dict[str, float]:
    """Return the median of each module's import times, turn and turn about, NumPy having been imported."""
    environments: dict[str, Mapping[str, str]] = {}
    for name in peers:
        environments.setdefault(PEERS[name].import_name, PEERS[name].environment)
    environments.pop("numpy", None)
    seconds: dict[str, list[float]] = {module: [] for module in environments}
    for repeat in range(repeats + 1):
        for module, further in environments.items():
            measured = float(output_of(IMPORT.format(module), threads, further))
            if repeat > 0:  # the first one may have read from the disk
                seconds[module].append(measured)
    return {module: median(of_module) for module, of_module in seconds.items()}


def output_of(program: str, threads: int, further_environment: Mapping[str, str] | None = None) -> str:
    """Run a Python program in a fresh process that may import what lies beside this file."""
    command = [sys.executable, "-c", program]
    with tempfile.TemporaryFile() as log:  # some libraries are talkative
        return subprocess.check_output(
            command,
            env=environment(threads, further_environment),
            cwd=Path(__file__).parent,
            stderr=log,
            text=True,
        )


def find_wheel() -> Path | None:
    """Return the newest wheel where `python -m build` or cibuildwheel puts it, if there is one."""
    wheels = [path for folder in ("dist", "wheelhouse") for path in (ROOT / folder).glob("fastmlp-*.whl")]
    return max(wheels, key=lambda path: path.stat().st_mtime, default=None)
