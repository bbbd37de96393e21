"""What is trained: the cases, and the data, start and order of examples that every peer is given."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 0


@dataclass(frozen=True)
class Case:
    """One net, and how it is trained: ReLU, Adam, batches drawn by a fresh uniform shuffle per epoch."""

    name: str
    layer_sizes: tuple[int, ...]
    batch_size: int
    steps: int
    quick_steps: int
    learning_rate: float = 1e-3

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one step's matrix products, zeros and all.

        Every weight takes part in three products (output, its own gradient, its input's gradient), with one
        multiplication and one addition per sample; those of the first layer in two, as nobody needs the
        gradient of pixels.
        """
        weights = [n_inputs * n_outputs for n_inputs, n_outputs in itertools.pairwise(self.layer_sizes)]
        return 2 * self.batch_size * (3 * sum(weights) - weights[0])

    def __str__(self) -> str:
        net = "-".join(map(str, self.layer_sizes))
        return f"{self.name}: net {net}, batch {self.batch_size:,}, Adam({self.learning_rate:g})"


CASES = {
    case.name: case
    for case in [
        Case("lesson", layer_sizes=(784, 200, 10), batch_size=1000, steps=1000, quick_steps=110),
    ]
}


@dataclass(frozen=True)
class Problem:
    """A case with its data, its start and the order of its examples: all that a peer is told.

    Attributes
    ----------
    images, test_images : uint8 (n, n_features)
        A pixel p means p/255. The number of training images is a multiple of the batch size.
    labels, test_labels : uint8 (n,)
    order : int64 (steps, batch_size)
        The training images of each step: what `Net.fit` draws from `SEED`.
    weights, biases : float32, per layer (n_inputs, n_outputs) and (n_outputs,)
        The start of every run: He et al. (2015), normal.
    """

    case: Case
    data_name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    order: NDArray[np.int64]
    weights: Sequence[NDArray[np.float32]]
    biases: Sequence[NDArray[np.float32]]

    @property
    def steps(self) -> int:
        return len(self.order)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images) // self.case.batch_size

    def save(self, folder: Path) -> None:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {f"weights_{i}": array for i, array in enumerate(self.weights)}
        arrays |= {f"biases_{i}": array for i, array in enumerate(self.biases)}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        facts = {"data_name": self.data_name, "case": asdict(self.case)}
        (folder / "problem.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> Problem:
        facts = json.loads((folder / "problem.json").read_text())
        facts["case"]["layer_sizes"] = tuple(facts["case"]["layer_sizes"])
        case = Case(**facts["case"])
        layers = range(len(case.layer_sizes) - 1)
        return cls(
            case,
            facts["data_name"],
            weights=[np.load(folder / f"weights_{i}.npy") for i in layers],
            biases=[np.load(folder / f"biases_{i}.npy") for i in layers],
            **{name: np.load(folder / f"{name}.npy") for name in ARRAYS},
        )


ARRAYS = ("images", "labels", "test_images", "test_labels", "order")


def make_problem(case: Case, steps: int) -> tuple[Problem, str | None]:
    """Put a problem together; the second value says why the data are not MNIST, if they are not."""
    from fastmlp import datasets

    data, reason = datasets.auto()
    # Whole batches only: some peers are compiled for one size.
    n = len(data.train) // case.batch_size * case.batch_size
    weights, biases = he_normal(case.layer_sizes)
    problem = Problem(
        case,
        data.name,
        images=data.train.images.reshape(len(data.train), -1)[:n],
        labels=data.train.labels[:n],
        test_images=data.test.images.reshape(len(data.test), -1),
        test_labels=data.test.labels,
        order=order_of_fit(n, steps, case.batch_size),
        weights=weights,
        biases=biases,
    )
    return problem, reason


def he_normal(layer_sizes: Sequence[int]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    generator = np.random.default_rng(SEED)
    weights = [
        generator.normal(0, np.sqrt(2 / n_inputs), (n_inputs, n_outputs)).astype(np.float32)
        for n_inputs, n_outputs in itertools.pairwise(layer_sizes)
    ]
    return weights, [np.zeros(n_outputs, np.float32) for n_outputs in layer_sizes[1:]]


def order_of_fit(n: int, steps: int, batch_size: int) -> NDArray[np.int64]:
    """Return the training examples of each step of `Net(..., seed=SEED).fit`, (steps, batch_size)."""
    from fastmlp import _core
    from fastmlp._random import PURPOSE_SHUFFLE

    epochs = -(-steps * batch_size // n)
    shuffles = [_core.philox_permutation(SEED, PURPOSE_SHUFFLE, epoch, n) for epoch in range(epochs)]
    return np.concatenate(shuffles)[: steps * batch_size].reshape(steps, batch_size)
