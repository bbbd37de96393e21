"""Whether too many threads slow it: training with twice as many as CPUs, beside as many as CPUs.

    python benchmarks/oversubscription.py           ten seconds; exits with 1 from 1.5 times as long on
    python benchmarks/oversubscription.py --busy    as many threads as CPUs, beside one, while as many other
                                                    processes are busy; exits with 1 from 3 times on

A thread that is not running keeps others waiting at the next barrier, so how they wait is what counts. Both
train the same net on the same batches, turn and turn about; each turn's team must have had the threads asked
for, and both must end with the same weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np
from machine import describe, machine_facts, n_cpus
from numpy.typing import NDArray

from fastmlp import Net

CASES = {"lesson, batch 1000": (1000, 60), "batch 32": (32, 1000)}  # batch size, steps of a turn
SIZES = (784, 200, 10)
INKED = 0.19  # of MNIST's pixels are not 0
ROUNDS = 9
ALLOWED = 1.5
ALLOWED_BUSY = 3.0  # to wait for a thread that another process keeps from running costs more than it helps
BUSY = "while True: pass"


@dataclass
class Trained:
    """A net that is trained by one number of threads, and the seconds of each turn."""

    net: Net
    threads: int
    seconds: list[float]

    def turn(self, X: NDArray[np.uint8], y: NDArray[np.int64], batch_size: int, steps: int) -> None:
        begin = time.perf_counter()
        self.net.fit(X, y, steps=steps, batch_size=batch_size, threads=self.threads)
        self.seconds.append(time.perf_counter() - begin)
        run = self.net._last_run
        if run is None or run.team_size != self.threads:
            raise RuntimeError(f"{self.threads} threads were asked for, but others ran: {run}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", action="store_true", help="beside as many busy processes as CPUs")
    if not parser.parse_args().busy:
        return compare(n_cpus(), 2 * n_cpus(), ALLOWED)
    with ExitStack() as busy:
        for _ in range(n_cpus()):
            process = busy.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            busy.callback(process.kill)
        return compare(1, n_cpus(), ALLOWED_BUSY)


def compare(few_threads: int, many_threads: int, allowed: float) -> int:
    """Train with both numbers of threads, print what they take, and return 1 if the ratio is not allowed."""
    print(describe(machine_facts()))
    rng = np.random.default_rng(0)
    X = rng.integers(1, 256, (10_000, SIZES[0]), dtype=np.uint8)
    X[rng.random(X.shape) > INKED] = 0
    y = rng.integers(0, SIZES[-1], len(X))

    worst = 0.0
    print(f"\n{'':24}{few_threads:5} threads{many_threads:6} threads")
    for name, (batch_size, steps) in CASES.items():
        few, many = (Trained(Net(SIZES, seed=0), threads, []) for threads in (few_threads, many_threads))
        for _ in range(ROUNDS + 1):
            few.turn(X, y, batch_size, steps)
            many.turn(X, y, batch_size, steps)
        for a, b in zip(few.net.weights, many.net.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        few_us, many_us = (1e6 * median(trained.seconds[1:]) / steps for trained in (few, many))
        ratio = median(b / a for a, b in zip(few.seconds[1:], many.seconds[1:], strict=True))
        print(f"{name:24}{few_us:7.0f} µs/step{many_us:8.0f} µs/step{ratio:8.2f}x", flush=True)
        worst = max(worst, ratio)
    print(f"\nAt most {worst:.2f} times as long, where {allowed:g} are allowed.")
    return int(worst > allowed)


if __name__ == "__main__":
    sys.exit(main())
