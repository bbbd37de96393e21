"""What lists would leave of products: numbers that are not 0, in nets that have learnt MNIST.

    python benchmarks/density.py        half a minute

A forward product with a list for each row leaves the numbers that are not 0; a gradient with lists for
groups of four columns leaves the groups in which one of four is not 0.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from fastmlp import Adam, Net, datasets

NETS = {(784, 200, 10): 1000, (784, 1024, 1024, 10): 256}  # layer sizes, batch size
EPOCHS = 3
SAMPLES = 1000
GROUP = 4


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    train = datasets.mnist().train
    for sizes, batch_size in NETS.items():
        net = Net(sizes, seed=0)
        net.fit(train.images, train.labels, epochs=EPOCHS, batch_size=batch_size, optimizer=Adam(0.001))
        print("-".join(map(str, sizes)))
        values = train.images[:SAMPLES].reshape(SAMPLES, -1) / np.float32(255)
        for layer, (weights, biases) in enumerate(zip(net.weights, net.biases, strict=True)):
            numbers, groups = left(values)
            print(f"  into layer {layer + 1}: {numbers:.2f} of numbers, {groups:.2f} of groups of {GROUP}")
            values = np.maximum(values @ weights + biases, 0)


def left(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the parts of the numbers, and of the groups of neighbours in a row, that are not (all) 0."""
    inked = values != 0
    groups = inked[:, : inked.shape[1] // GROUP * GROUP].reshape(len(values), -1, GROUP).any(axis=2)
    return float(inked.mean()), float(groups.mean())


if __name__ == "__main__":
    main()
