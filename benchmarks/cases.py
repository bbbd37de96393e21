"""What is measured: each case is a line of data, and so is what it is for."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

FASTMLP = ("fastmlp", "fastmlp-bf16")
FRAMEWORKS = ("jax", "torch", "torch-compile", "torch-bf16", "torch-bf16-compile", "keras")
EVERYBODY = (*FASTMLP, "numpy", *FRAMEWORKS, "sklearn")
AVX2 = ("fastmlp-avx2", "fastmlp")
DISTORTED = ("fastmlp", "fastmlp-affine", "fastmlp-elastic")
FEATURES = (
    "fastmlp",
    *(f"fastmlp-{feature}" for feature in ("smoothing", "sample-weights", "schedule", "weight-decay")),
    *(f"fastmlp-{feature}" for feature in ("averaging", "max-norm", "clipping", "dropout", "batch-norm")),
)

QUICK_REPEATS = 5  # one of so many


@dataclass(frozen=True)
class Case:
    """One net, and what is done with it: trained (ReLU, Adam, a fresh uniform shuffle per epoch) or asked.

    Attributes
    ----------
    kind : {"fit", "predict"}
        predict: `batch_size` samples in each call, and a step is a call.
    data : {"mnist", "dense", "table"}
        See `problems.py`.
    steps, quick_steps : int
        Of one run; with --quick.
    repeats : int
        Runs of one turn, each from the start: for runs too short to be timed alone.
    peers : tuple of str
        Who takes part. Times are compared with the first one's.
    checked_steps : int
        How many of the first steps are compared with float64.
    """

    name: str
    layer_sizes: tuple[int, ...]
    batch_size: int
    steps: int
    quick_steps: int
    kind: Literal["fit", "predict"] = "fit"
    data: str = "mnist"
    repeats: int = 1
    peers: tuple[str, ...] = EVERYBODY
    checked_steps: int = 100
    learning_rate: float = 1e-3

    def quick(self) -> Case:
        """Return the same case with less to do in a turn."""
        return replace(self, steps=self.quick_steps, repeats=math.ceil(self.repeats / QUICK_REPEATS))

    @property
    def n_weights(self) -> int:
        return sum(n_inputs * n_outputs for n_inputs, n_outputs in itertools.pairwise(self.layer_sizes))

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one step's matrix products, zeros and all.

        Every weight takes part in three products (output, its own gradient, its input's gradient), with one
        multiplication and one addition per sample; those of the first layer in two, as nobody needs the
        gradient of pixels. A prediction is the first of them alone.
        """
        first_layer = self.layer_sizes[0] * self.layer_sizes[1]
        products = self.n_weights if self.kind == "predict" else 3 * self.n_weights - first_layer
        return 2 * self.batch_size * products

    @property
    def bytes_per_step(self) -> int:
        """Bytes that a step must move at least, if nothing stayed in a cache from one step to the next.

        The batch is read once (a byte a pixel, or a float32). So are the weights, and in training they and
        Adam's two moments are written, too. Activations are counted as staying in the caches.
        """
        n_features, n_classes = self.layer_sizes[0], self.layer_sizes[-1]
        inputs = self.batch_size * n_features * (1 if self.data == "mnist" else 4)
        if self.kind == "predict":
            return inputs + 4 * self.n_weights + 4 * self.batch_size * n_classes
        return inputs + 6 * 4 * self.n_weights

    def __str__(self) -> str:
        net = "-".join(map(str, self.layer_sizes))
        if self.kind == "predict":
            return f"{self.name}: predict_proba of net {net}, {self.batch_size:,} at a time"
        return f"{self.name}: net {net}, batch {self.batch_size:,}, Adam({self.learning_rate:g})"


LESSON = (784, 200, 10)
BIG = (784, 2500, 2000, 1500, 1000, 500, 10)

CASES = {
    case.name: case
    for case in [
        Case("lesson", LESSON, batch_size=1000, steps=1000, quick_steps=110),
        Case("dense", LESSON, batch_size=1000, steps=330, quick_steps=110, data="dense"),
        Case("batch128", LESSON, batch_size=128, steps=2145, quick_steps=429),
        Case("batch32", LESSON, batch_size=32, steps=5154, quick_steps=1718),
        # Not scikit-learn, whose whole epochs would take minutes. At higher rates the first losses jump.
        Case("big", BIG, 256, 20, 5, peers=EVERYBODY[:-1], checked_steps=5, learning_rate=1e-4),
        # scikit-learn's default is 200 epochs; there are two steps in each.
        Case("table", (30, 100, 2), 200, steps=400, quick_steps=400, data="table", repeats=20),
        Case("predict1", LESSON, batch_size=1, steps=20_000, quick_steps=2000, kind="predict"),
        Case("predict10000", LESSON, batch_size=10_000, steps=50, quick_steps=10, kind="predict"),
        Case("one-thread", LESSON, 1000, steps=330, quick_steps=110, peers=("fastmlp-1-thread", "jax")),
        Case("avx2-dense", LESSON, 1000, 330, 110, data="dense", peers=AVX2),
        Case("avx2-big", BIG, 256, 20, 5, peers=AVX2, checked_steps=5, learning_rate=1e-4),
        # fastmlp beside itself: what distorting images costs, and what each other feature does.
        Case("augment", (784, 800, 10), 1000, steps=110, quick_steps=40, peers=DISTORTED, checked_steps=20),
        Case("features", LESSON, 1000, steps=330, quick_steps=110, peers=FEATURES),
    ]
}

GROUPS = {"all": tuple(CASES), "avx2": ("avx2-dense", "avx2-big")}
"""Names for several cases."""

ACCURACY_CASE = "lesson"
"""The case whose accuracy is also recorded after these steps, in further runs that are not timed:"""
ACCURACY_STEPS = (5, 10, 20, 50, 100, 200, 500)
