"""What it gives, where threads' caches are far from one another, to hand data over through memory.

    python benchmarks/far_caches.py        about half a minute; two threads or more

Two nets are trained on the same batches, turn and turn about: one takes the caches for near, the other for
far. Rounds are told apart by what a line really takes from one cache to another then, since processors of a
virtual machine may move. Both nets must end with the same weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
from machine import describe, machine_facts, n_cpus
from numpy.typing import NDArray

from fastmlp import Net, _core

CASES = {
    "lesson, batch 1000": (1000, 40),
    "batch 128": (128, 250),
    "batch 32": (32, 800),
}  # size, steps of a turn
SIZES = (784, 200, 10)
INKED = 0.19  # of MNIST's pixels are not 0
ROUNDS = 12
FAR_NANOSECONDS = 80.0  # as far_from_here in cpp/dispatch has it for AMD's processors


@dataclass
class Turn:
    """Steps of one net: microseconds a step, and nanoseconds for a line."""

    step: float
    line: float


def turn(net: Net, data: tuple[NDArray[np.uint8], NDArray[np.int64]], case: str, far: bool | None) -> Turn:
    batch_size, steps = CASES[case]
    _core.assume_far(far)
    try:
        begin = time.perf_counter()
        net.fit(*data, steps=steps, batch_size=batch_size, threads=n_cpus())
        seconds = time.perf_counter() - begin
    finally:
        _core.assume_far(None)
    run = net._last_run
    assert run is not None
    return Turn(1e6 * seconds / steps, run.thread_distance)


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(describe(machine_facts()))
    if n_cpus() == 1:
        print("far_caches.py: one processor has no other one.", file=sys.stderr)
        return 2
    rng = np.random.default_rng(0)
    X = rng.integers(1, 256, (10_000, SIZES[0]), dtype=np.uint8)
    X[rng.random(X.shape) > INKED] = 0
    data = X, rng.integers(0, SIZES[-1], len(X))

    for precision in ("float32", "mixed_bfloat16"):
        for case in CASES:
            near, far, asked = (Net(SIZES, seed=0, precision=precision) for _ in range(3))
            rounds = []
            for _ in range(ROUNDS + 1):
                line = turn(asked, data, case, None).line
                rounds.append((line, turn(near, data, case, False).step, turn(far, data, case, True).step))
            for a, b in zip(near.weights, far.weights, strict=True):
                np.testing.assert_array_equal(a, b)
            report(f"{case}, {precision}", rounds[1:])
    return 0


def report(name: str, rounds: list[tuple[float, float, float]]) -> None:
    for where, kept in (
        ("near", [each for each in rounds if each[0] < FAR_NANOSECONDS]),
        ("far", [each for each in rounds if each[0] >= FAR_NANOSECONDS]),
    ):
        if not kept:
            continue
        line, step_near, step_far = (median(column) for column in zip(*kept, strict=True))
        ratio = median(far / near for _, near, far in kept)
        print(
            f"{name:30}{where:>5} ({len(kept):2} rounds, {line:3.0f} ns){step_near:7.0f} µs through caches"
            f"{step_far:7.0f} through memory{ratio:6.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
