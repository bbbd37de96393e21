"""The compiled core as the oracle's tests use it: nets like a ReferenceNet, on a chosen instruction set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import _core
from reference import ReferenceNet

INSTRUCTION_SETS = _core.supported_instruction_sets()
# Those compiled in that have fused multiply-add agree in every bit.
FUSED_SETS = tuple(name for name in _core.compiled_instruction_sets() if name != "baseline")

# One run of a test for each set that is compiled in; those that this machine lacks are skipped by name.
every_instruction_set = pytest.mark.parametrize(
    "instruction_set",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(name not in INSTRUCTION_SETS, reason=f"this machine lacks {name}")
        )
        for name in _core.compiled_instruction_sets()
    ],
)


def random_net(
    rng: np.random.Generator, sizes: Sequence[int], activations: Sequence[str], **options: bool | str
) -> ReferenceNet:
    """Make a net of random float32 parameters, such that activations are around 1."""
    weights = [
        rng.normal(0, 1 / math.sqrt(n), (n, m)).astype(np.float32) for n, m in itertools.pairwise(sizes)
    ]
    biases = [rng.normal(0, 0.3, m).astype(np.float32) for m in sizes[1:]]
    return ReferenceNet(weights, biases, activations, **options)


def random_inputs(rng: np.random.Generator, dtype: str, n: int, n_features: int) -> NDArray[np.generic]:
    """Draw inputs, half of the time with zeros in patches as in pictures of digits, which the core skips."""
    numbers = rng.integers(0, 256, (n, n_features)) if dtype == "uint8" else rng.normal(size=(n, n_features))
    if rng.random() < 0.5:
        always_zero = np.repeat(rng.random((n_features + 3) // 4) < 0.6, 4)[:n_features]
        numbers *= ~always_zero & (rng.random((n, n_features)) < 0.8)
    return numbers.astype(dtype)


def random_targets(
    rng: np.random.Generator, kind: str, n: int, n_classes: int
) -> NDArray[np.int64] | NDArray[np.float32]:
    if kind == "labels":
        return rng.integers(0, n_classes, n)
    if kind == "squared_error":
        return rng.normal(size=(n, n_classes)).astype(np.float32)
    if kind == "sigmoid_cross_entropy":  # labels 0 and 1, and some in between
        return (rng.integers(0, 2, (n, n_classes)) * rng.choice([1, 1, 0.75], (n, n_classes))).astype(
            np.float32
        )
    # Multiples of 1/64 that sum to exactly 1, in float32 as in float64.
    return (rng.multinomial(64, np.ones(n_classes) / n_classes, n) / 64).astype(np.float32)


def network_like(net: ReferenceNet, instruction_set: str) -> _core.Network:
    sizes = [w.shape[0] for w in net.weights] + [net.weights[-1].shape[1]]
    network = _core.Network(
        sizes,
        list(net.activations),
        mixed_bfloat16=net.mixed_bfloat16,
        loss=net.loss,
        instruction_set=instruction_set,
    )
    assert network.instruction_set == instruction_set, "another set ran than the one under test"
    network.set_parameters(net.weights, net.biases)
    return network


def parameters_of(network: _core.Network, n_layers: int) -> list[NDArray[np.float32]]:
    """Weights of all layers, then biases of all layers: the order of ReferenceNet.parameters."""
    layers = range(n_layers)
    return [*(network.weights(layer) for layer in layers), *(network.biases(layer) for layer in layers)]


def sgd_trainer(
    network: _core.Network,
    momentum: float = 0.0,
    *,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    **around: float,
) -> _core.Trainer:
    """Around the update: clip_norm, max_norm, average_decay."""
    trainer = _core.Trainer(network)
    trainer.set_sgd(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, **around)
    return trainer


def adam_trainer(
    network: _core.Network, *, weight_decay: float = 0.0, decoupled: bool = False, **around: float
) -> _core.Trainer:
    trainer = _core.Trainer(network)
    how = {"weight_decay": weight_decay, "decoupled": decoupled}
    trainer.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8, **how, **around)
    return trainer


def run_batches(
    trainer: _core.Trainer,
    X: NDArray[np.generic],
    targets: NDArray[np.generic],
    batches: Sequence[NDArray[np.int64]],
    learning_rate: float | Sequence[float],
    *,
    threads: int | None = None,
    weights: NDArray[np.float32] | None = None,
    label_smoothing: float = 0.0,
) -> _core.RunResult:
    """Train one step per array of row numbers; threads=None lets the core choose, a number is obeyed."""
    offsets = np.cumsum([0, *map(len, batches)], dtype=np.int64)
    order = np.concatenate([*batches, np.empty(0, np.int64)]).astype(np.int64)
    rates = np.broadcast_to(np.asarray(learning_rate, np.float64), (len(batches),)).copy()
    team = threads or 0, threads is not None
    return trainer.run(X, targets, order, offsets, rates, *team, weights, label_smoothing)
