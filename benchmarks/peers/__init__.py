"""The peers: each solves the same problem, as well as an expert in it would.

A peer is a file with a class that trains, and one that predicts if it takes part in that. The driver never
imports one: worker.py does, in a process that belongs to this peer alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples

FLOAT32_LOSS, BFLOAT16_LOSS = 2e-4, 0.05
"""How far each of the first losses may be from float64's, relatively.

In float64, an error of 1e-6 in the start was found to grow to 1.4e-4 in the loss within 100 steps; so
float32's roundings of 6e-8 grow to about 1e-5, as most peers show; the worst, 9e-5, was seen with batches of
128, since Adam's first steps go by a gradient's sign, however small it is. Adam with an epsilon of 1e-7 is
4e-4 off. bfloat16's operands are off by up to 2**-9, which grows to 0.01 with batches of 32.
"""

FLOAT32_PROBABILITY, BFLOAT16_PROBABILITY = 1e-5, 0.05
"""How far a probability may be from float64's."""


class Peer(Protocol):
    """What is said of every peer."""

    version: str
    setting: str
    """How it is set up, in a few words."""
    includes: str
    """What the measured time consists of."""
    tolerance: float | None
    """Of its losses, or probabilities; None if its own start and order make its losses incomparable."""


class Trainer(Peer, Protocol):
    """What `worker.py` asks of a peer in a case that trains."""

    def __init__(self, problem: Problem, threads: int) -> None: ...

    def reset(self, order: NDArray[np.int64]) -> None:
        """Go back to the start, and get to know the samples of each step; not timed."""

    def train(self) -> None:
        """Train from samples in memory to finished weights; timed."""

    def losses(self) -> NDArray[np.float32]:
        """Mean loss of each step of the latest run, in nats."""

    def parameters(self) -> Parameters:
        """Weights (n_inputs, n_outputs) and biases (n_outputs,) of each layer."""


class Predictor(Peer, Protocol):
    """What `worker.py` asks of a peer in a case that predicts."""

    def __init__(self, problem: Problem, threads: int) -> None: ...

    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        """Return each sample's class probabilities as an array of NumPy's; timed."""


@dataclass(frozen=True)
class Entry:
    """Where a peer is found, what its user imports, and what its process is given.

    Attributes
    ----------
    ceiling : {"fma_gflops", "fma_256_gflops", "bf16_gflops"}
        The rate that bounds its products.
    threads : int, optional
        Instead of as many as all others have.
    augment : str, optional
        With which `problems.augmentation` it distorts its images.
    plain : bool
        Whether its last losses should be the others'; not if a feature is on, which is there to change them.
    """

    module: str
    import_name: str
    fit: str | None = None
    predict: str | None = None
    ceiling: str = "fma_gflops"
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    augment: str | None = None
    plain: bool = True

    @property
    def bfloat16(self) -> bool:
        return self.ceiling == "bf16_gflops"

    def can(self, kind: str) -> bool:
        return getattr(self, kind) is not None

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None if it can."""
        if find_spec(self.import_name.partition(".")[0]) is None:
            return f"{self.import_name.partition('.')[0]} is not installed"
        if (instruction_set := self.environment.get("FASTMLP_ISA")) is not None:
            from fastmlp import _core

            if instruction_set not in _core.supported_instruction_sets():
                return f"this machine has no {instruction_set}"
        return None

    def load(self, kind: str) -> Any:
        return getattr(import_module(f"peers.{self.module}"), getattr(self, kind))


BF16 = "bf16_gflops"

PEERS = {
    "fastmlp": Entry("fastmlp_net", "fastmlp", "Fit", "Predict"),
    "fastmlp-bf16": Entry("fastmlp_net", "fastmlp", "Bfloat16Fit", "Bfloat16Predict", BF16),
    "numpy": Entry("numpy_float32", "numpy", "Fit", "Predict"),
    "jax": Entry("jax_scan", "jax", "Fit", "Predict"),
    "torch": Entry("pytorch", "torch", "Fit", "Predict"),
    "torch-compile": Entry("pytorch", "torch", "CompiledFit", "CompiledPredict"),
    "torch-bf16": Entry("pytorch", "torch", "Bfloat16Fit", "Bfloat16Predict", BF16),
    "torch-bf16-compile": Entry("pytorch", "torch", "CompiledBfloat16Fit", "CompiledBfloat16Predict", BF16),
    "keras": Entry("keras_jit", "keras", "Fit", "Predict", environment={"KERAS_BACKEND": "jax"}),
    "sklearn": Entry("scikit_learn", "sklearn.neural_network", "Fit", "Predict"),
    "fastmlp-1-thread": Entry("fastmlp_net", "fastmlp", "Fit", threads=1),
    "fastmlp-avx2": Entry(
        "fastmlp_net", "fastmlp", "Fit", ceiling="fma_256_gflops", environment={"FASTMLP_ISA": "avx2"}
    ),
    "fastmlp-affine": Entry("fastmlp_features", "fastmlp", "AffineFit", augment="affine", plain=False),
    "fastmlp-elastic": Entry("fastmlp_features", "fastmlp", "ElasticFit", augment="elastic", plain=False),
    "fastmlp-smoothing": Entry("fastmlp_features", "fastmlp", "SmoothingFit", plain=False),
    "fastmlp-sample-weights": Entry("fastmlp_features", "fastmlp", "SampleWeightsFit", plain=False),
    "fastmlp-schedule": Entry("fastmlp_features", "fastmlp", "ScheduleFit", plain=False),
    "fastmlp-weight-decay": Entry("fastmlp_features", "fastmlp", "WeightDecayFit", plain=False),
    "fastmlp-averaging": Entry("fastmlp_features", "fastmlp", "AveragingFit", plain=False),
    "fastmlp-max-norm": Entry("fastmlp_features", "fastmlp", "MaxNormFit", plain=False),
    "fastmlp-clipping": Entry("fastmlp_features", "fastmlp", "ClippingFit", plain=False),
    "fastmlp-dropout": Entry("fastmlp_features", "fastmlp", "DropoutFit", plain=False),
    "fastmlp-batch-norm": Entry("fastmlp_features", "fastmlp", "BatchNormFit", plain=False),
}
