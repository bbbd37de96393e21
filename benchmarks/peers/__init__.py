"""The peers: each trains the same problem, as well as an expert in it would.

A peer is a class in a file of its own. The driver never imports one: worker.py does, in a process that
belongs to this peer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from cases import Problem
from numpy.typing import NDArray


class Peer(Protocol):
    """What `worker.py` asks of a peer."""

    version: str
    setting: str
    """How it is set up, in a few words."""
    includes: str
    """What the measured time consists of."""
    same_start_and_order: bool
    """Whether its losses can be compared step by step."""

    def __init__(self, problem: Problem, threads: int) -> None: ...

    def reset(self) -> None:
        """Go back to the start; not timed."""

    def train(self) -> None:
        """Train from uint8 images to finished weights; timed."""

    def losses(self) -> NDArray[np.float32]:
        """Mean loss of each step of the latest run, in nats."""

    def parameters(self) -> tuple[Sequence[NDArray[np.float32]], Sequence[NDArray[np.float32]]]:
        """Weights (n_inputs, n_outputs) and biases (n_outputs,) of each layer."""


@dataclass(frozen=True)
class Entry:
    """Where a peer is found, and what its user imports."""

    class_path: str
    import_name: str

    def is_installed(self) -> bool:
        return find_spec(self.import_name.partition(".")[0]) is not None

    def load(self) -> type[Peer]:
        module, _, name = self.class_path.partition(":")
        peer: type[Peer] = getattr(import_module(f"peers.{module}"), name)
        return peer


PEERS = {
    "fastmlp": Entry("fastmlp_net:FastMlp", "fastmlp"),
    "numpy": Entry("numpy_float32:NumPy", "numpy"),
    "torch": Entry("pytorch:PyTorch", "torch"),
    "torch-compile": Entry("pytorch:CompiledPyTorch", "torch"),
    "jax": Entry("jax_scan:Jax", "jax"),
    "sklearn": Entry("scikit_learn:ScikitLearn", "sklearn.neural_network"),
}
