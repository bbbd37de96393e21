"""What bounds each floor on this machine: the least that a step can take, beside what it takes.

    python benchmarks/compare.py --case all        # it says which file it has written
    python benchmarks/bounds.py FILE

The least is the multiply-adds that are left when zeros are skipped, at the ceiling that was measured in
that run, and Adam, as its kernel updates weights that lie in the cache, divided by the threads. Packing,
activations, memory and waiting come on top. Where a peer's time divided by the least ("at best") is below a
floor, the floor is out of reach on the machine that the run was made on, which must be this one.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Case
from density import left
from kernels import ROUNDS, Variant, measure_once
from native import BuildError, build
from process import Process, ProcessError
from report import aligned
from targets import TARGETS, SpeedUp

from fastmlp import datasets

COLUMNS = (
    "peer, ms",
    "floor",
    "needs, ms",
    "takes, ms",
    "products",
    "Adam",
    "least, ms",
    "at best",
    "measured",
)
SAMPLES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="what compare.py has written")
    run = json.loads(parser.parse_args().run.read_text())
    try:
        adam = adam_seconds_per_weight()
    except (BuildError, ProcessError) as error:
        print(f"bounds.py: {error}", file=sys.stderr)
        return 1
    rows = [row for target in TARGETS if isinstance(target, SpeedUp) and (row := row_of(target, run, adam))]
    print(aligned([("", *COLUMNS), *rows]))
    print(f"Adam: {1e9 * adam:.2f} ns a weight on one thread")
    return 0


def adam_seconds_per_weight() -> float:
    """Measure the kernel on the fastest instruction set, in the cache."""
    with Process("kernel_benchmark", [build("kernel_benchmark")], 1) as process:
        fastest = list(process.ask(request="describe")["sets"])[-1]
        times = [measure_once(process, fastest, "adam_784x200", Variant())["seconds"] for _ in range(ROUNDS)]
    return float(np.median(times)) / (784 * 200)


def row_of(target: SpeedUp, run: dict[str, Any], adam: float) -> tuple[str, ...] | None:
    case, measured = CASES[target.case], run["cases"].get(target.case)
    if measured is None or target.floor is None or case.kind != "fit":
        return None
    peers = measured["peers"]
    if target.peer not in peers:
        return None
    others = [peers[name]["ms_per_step"]["median"] for name in target.others if name in peers]
    pairs = target.peer.endswith("bf16")
    ceiling = measured["ceilings"]["bf16_gflops" if pairs else "fma_gflops"]
    if not others or ceiling is None:
        return None
    peer, takes = min(others), peers[target.peer]["ms_per_step"]["median"]
    threads = peers[target.peer]["threads"]
    products = products_left(case, pairs) / ceiling["median"] * 1e-6 * run["threads"] / threads
    update = 1e3 * adam * case.n_weights / threads
    least = products + update
    numbers = (peer, target.floor, peer / target.floor, takes, products, update, least)
    return (
        target.name,
        *(f"{number:.3g}" for number in numbers),
        f"{peer / least:.2f}x",
        f"{peer / takes:.2f}x",
    )


def products_left(case: Case, pairs: bool) -> float:
    """Return the operations of a step's products without those by zeros of the input."""
    first = 2.0 * case.batch_size * case.layer_sizes[0] * case.layer_sizes[1]
    numbers, groups = input_density(pairs) if case.data == "mnist" else (1.0, 1.0)
    return case.flops_per_step - first * (2.0 - numbers - groups)


@cache
def input_density(pairs: bool) -> tuple[float, float]:
    """Return what is left in the forward product and in the gradient: words of one number, or of two."""
    images = datasets.mnist().train.images[:SAMPLES].reshape(SAMPLES, -1)
    if not pairs:
        return left(images)
    return left(images[:, 0::2] | images[:, 1::2])[0], left(images[0::2] | images[1::2])[1]


if __name__ == "__main__":
    sys.exit(main())
