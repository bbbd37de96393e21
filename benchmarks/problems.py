"""What every peer is given: a case's data, start and order of examples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastmlp import Augmentation

SEED = 0

Samples = NDArray[np.uint8] | NDArray[np.float32]
Parameters = tuple[Sequence[NDArray[np.float32]], Sequence[NDArray[np.float32]]]


@dataclass(frozen=True)
class Data:
    """Samples (n, n_features) and labels uint8 (n,); a uint8 pixel p means p/255, a float32 itself."""

    name: str
    X: Samples
    y: NDArray[np.uint8]
    X_test: Samples
    y_test: NDArray[np.uint8]


@dataclass(frozen=True)
class Problem:
    """A case with all that a peer is told.

    Attributes
    ----------
    data : Data
        The number of training samples is a multiple of the batch size. A prediction is asked of test
        samples.
    order : int64 (steps, batch_size)
        The training samples of each step: what `Net.fit` draws from `SEED`.
    weights, biases : float32, per layer (n_inputs, n_outputs) and (n_outputs,)
        The start of every run: He et al. (2015), normal. For predictions, a trained net.
    """

    case: Case
    data: Data
    order: NDArray[np.int64]
    weights: Sequence[NDArray[np.float32]]
    biases: Sequence[NDArray[np.float32]]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.data.X) // self.case.batch_size

    def save(self, folder: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {name: getattr(self.data, name) for name in DATA_ARRAYS}
        arrays["order"] = self.order
        arrays |= {f"weights_{i}": array for i, array in enumerate(self.weights)}
        arrays |= {f"biases_{i}": array for i, array in enumerate(self.biases)}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        facts = {"data_name": self.data.name, "case": asdict(self.case)}
        (folder / "problem.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> Problem:
        def array(name: str) -> NDArray[Any]:
            loaded: NDArray[Any] = np.load(folder / f"{name}.npy")
            return loaded

        facts = json.loads((folder / "problem.json").read_text())
        tuples = {key: tuple(value) for key, value in facts["case"].items() if isinstance(value, list)}
        case = Case(**facts["case"] | tuples)
        layers = range(len(case.layer_sizes) - 1)
        return cls(
            case,
            Data(facts["data_name"], *map(array, DATA_ARRAYS)),
            array("order"),
            weights=[array(f"weights_{i}") for i in layers],
            biases=[array(f"biases_{i}") for i in layers],
        )


DATA_ARRAYS = tuple(field.name for field in fields(Data) if field.name != "name")


def make_problem(case: Case) -> tuple[Problem, str | None]:
    """Put a problem together; the second value says why the data are not the real ones, if they are not."""
    data, reason = DATA[case.data]()
    if case.kind == "predict":
        weights, biases = trained(case, data)
        n = max(len(data.X_test), case.batch_size)  # glyphs has fewer than 10,000 test samples: over again
        X_test, y_test = np.resize(data.X_test, (n, case.layer_sizes[0])), np.resize(data.y_test, n)
        data = Data(data.name, data.X, data.y, X_test, y_test)
        order = np.empty((case.steps, 0), np.int64)
    else:
        # Whole batches only: some peers are compiled for one size.
        n = len(data.X) // case.batch_size * case.batch_size
        data = Data(data.name, data.X[:n], data.y[:n], data.X_test, data.y_test)
        weights, biases = he_normal(case.layer_sizes)
        from fastmlp.benchmark import order_of_fit

        order = order_of_fit(n, case.batch_size, case.steps, SEED)
    return Problem(case, data, order, weights, biases), reason


def mnist() -> tuple[Data, str | None]:
    from fastmlp import datasets

    found, reason = datasets.auto()
    pixels = [split.images.reshape(len(split), -1) for split in (found.train, found.test)]
    data = Data(found.name, pixels[0], found.train.labels, pixels[1], found.test.labels)
    return data, reason and f"not MNIST but {found.name}: {reason}"


def dense() -> tuple[Data, str | None]:
    """MNIST as float32 with a little noise on every pixel, so that there are no zeros to skip."""
    pixels, reason = mnist()
    generator = np.random.default_rng(SEED)
    noisy = []
    for X in (pixels.X, pixels.X_test):
        noise = generator.random(X.shape, np.float32)
        noise *= 0.009
        noise += 0.001
        noise += as_floats(X)
        noisy.append(noise)
    return Data(f"{pixels.name} with noise", noisy[0], pixels.y, noisy[1], pixels.y_test), reason


def table() -> tuple[Data, str | None]:
    """Breast cancer Wisconsin, standardized; without scikit-learn, which holds it, numbers of its shape."""
    generator = np.random.default_rng(SEED)
    name, reason = "breast cancer", None
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        name, reason = "random table", "not breast cancer but random numbers: scikit-learn is not installed"
        X = generator.normal(size=(569, 30))
        y = X @ generator.normal(size=30) + generator.normal(size=569) > 0
    else:
        X, y = load_breast_cancer(return_X_y=True)
    shuffled = generator.permutation(len(X))
    X, y = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)[shuffled], y.astype(np.uint8)[shuffled]
    return Data(name, X[:400], y[:400], X[400:], y[400:]), reason


DATA = {"mnist": mnist, "dense": dense, "table": table}


def augmentation(name: str) -> Augmentation:
    """Return the distortions of that name: those of the tutorial, without and with the elastic one."""
    from fastmlp import Augmentation, Elastic

    elastic = {"affine": None, "elastic": Elastic()}[name]
    return Augmentation(shift=1, rotation=10, scale=0.1, shear=10, elastic=elastic)


def distorted(problem: Problem, name: str) -> Problem:
    """Return a problem whose training samples are those of its first epoch with an augmentation."""
    X = augmentation(name)(problem.data.X, seed=SEED)
    return replace(problem, data=replace(problem.data, X=X), order=problem.order[: problem.steps_per_epoch])


def he_normal(layer_sizes: Sequence[int]) -> Parameters:
    generator = np.random.default_rng(SEED)
    weights = [
        generator.normal(0, np.sqrt(2 / n_inputs), (n_inputs, n_outputs)).astype(np.float32)
        for n_inputs, n_outputs in itertools.pairwise(layer_sizes)
    ]
    return weights, [np.zeros(n_outputs, np.float32) for n_outputs in layer_sizes[1:]]


def trained(case: Case, data: Data) -> Parameters:
    """Train the case's net for an epoch, so that its predictions are a trained net's."""
    from fastmlp import Net

    net = Net(case.layer_sizes, seed=SEED)
    net.fit(data.X, data.y, epochs=1)
    return net.weights, net.biases


def as_floats(X: Samples) -> NDArray[np.float32]:
    """Return the numbers that samples mean; float32 as they are, without a copy."""
    return np.multiply(X, np.float32(1 / 255), dtype=np.float32) if X.dtype == np.uint8 else X
