"""How long an import takes, in processes that do nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from process import environment

PROGRAM = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"


def import_seconds(modules: Iterable[str], repeats: int, threads: int, folder: Path) -> dict[str, float]:
    """Return the median of each module's import times, turn and turn about, what it imports included."""
    modules = list(dict.fromkeys(modules))
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for repeat in range(repeats + 1):
        for module in modules:
            command = [sys.executable, "-c", PROGRAM.format(module)]
            output = subprocess.check_output(command, env=environment(threads), cwd=folder, text=True)
            if repeat > 0:  # the first one may have read from the disk
                seconds[module].append(float(output))
    return {module: median(of_module) for module, of_module in seconds.items()}
