"""Whether denormals slow it: steps and predictions on tiny numbers, beside the same on ordinary ones.

    python benchmarks/denormals.py        half a minute; exits with 1 if anything takes twice as long

Without flushing, a processor may take a hundred cycles for an operation that takes or gives a denormal. What
NumPy's product of matrices takes shows what this one does. Every turn begins with the same weights, which a
step makes ordinary numbers or zeros.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from machine import describe, machine_facts
from numpy.typing import NDArray

from fastmlp import Adam, Net, _core

TINY = 1e-40  # denormal: the smallest normal float32 is 1.2e-38
SMALL = 1e-20  # of which products are denormal
SIZES = (784, 200, 10)
BATCH, STEPS, ROUNDS = 1000, 2, 9
ALLOWED = 2.0

Weights = list[NDArray[np.float32]]


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(describe(machine_facts()))
    ordinary = np.random.default_rng(0).random((BATCH, SIZES[0]), dtype=np.float32) + np.float32(0.5)
    small = ordinary * np.float32(SMALL)
    products = ratio(lambda: small @ small.T, lambda: ordinary @ ordinary.T)
    print(f"\n{'NumPy, products of 1e-20':72}{products:8.2f}x")

    worst = 0.0
    for name in _core.supported_instruction_sets():
        os.environ["FASTMLP_ISA"] = name
        for precision in ("float32", "mixed_bfloat16"):
            for work in (step, predict):
                for weight, feature in ((TINY, 1.0), (1.0, TINY), (SMALL, SMALL)):
                    tiny = work(precision, weight, ordinary * np.float32(feature))
                    found = ratio(tiny, work(precision, 1.0, ordinary))
                    case = f"{work.__name__}, weights of {weight:g}, features of {feature:g}"
                    print(f"{name + ', ' + precision:28}{case:44}{found:8.2f}x", flush=True)
                    worst = max(worst, found)
    print(f"\nAt most {worst:.2f} times as long, where {ALLOWED:g} are allowed.")
    return int(worst > ALLOWED)


def ratio(tiny: Callable[[], object], ordinary: Callable[[], object]) -> float:
    """Return the median of the ratios of their times, turn and turn about."""
    found = [seconds(tiny) / seconds(ordinary) for _ in range(ROUNDS + 1)]
    return median(found[1:])


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def net_of(precision: str, scale: float) -> tuple[Net, Weights, Weights]:
    net = Net(SIZES, activation="tanh", precision=precision, seed=0)
    weights = [array * np.float32(scale) for array in net.weights]
    biases = [np.full(array.shape, scale, np.float32) for array in net.biases]
    net.set_weights(weights, biases)
    return net, weights, biases


def step(precision: str, scale: float, X: NDArray[np.float32]) -> Callable[[], object]:
    net, weights, biases = net_of(precision, scale)
    y = np.arange(len(X)) % SIZES[-1]

    def train() -> None:
        net.set_weights(weights, biases)
        net.fit(X, y, steps=STEPS, batch_size=BATCH, optimizer=Adam(learning_rate=TINY), threads=1)

    return train


def predict(precision: str, scale: float, X: NDArray[np.float32]) -> Callable[[], object]:
    net, _, _ = net_of(precision, scale)
    return lambda: net.predict(X, threads=1)


if __name__ == "__main__":
    sys.exit(main())
