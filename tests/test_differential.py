"""All instruction sets against each other, on nets, data and training that are drawn at random.

In float32 the sets with fused multiply-add agree in every bit. The others, and all in mixed precision, are
within twice the bound (error_bounds.py) of each other, since each is within the bound of the exact result.
Bounds hold for one step: what later ones make of a difference, training decides, which may fall on either
side of a kink. Any set agrees with itself on other numbers of threads in every bit, in either precision.

A draw is made of its seed alone. `FASTMLP_DRAWS=100000 pytest -m slow tests/test_differential.py` makes
more of them.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core_networks import (
    FUSED_SETS,
    INSTRUCTION_SETS,
    adam_trainer,
    parameters_of,
    random_net,
    random_targets,
    run_batches,
    sgd_trainer,
)
from dropout_reference import dropped_inputs
from error_bounds import UNIT_ROUNDOFF, bounds
from fastmlp import _core
from reference import ACTIVATIONS, ReferenceNet

DRAWS = 40
SLOW_DRAWS = int(os.environ.get("FASTMLP_DRAWS", "1000"))

LOSSES_OF_TARGETS = {
    "labels": "softmax_cross_entropy",
    "probabilities": "softmax_cross_entropy",
    "sigmoid_cross_entropy": "sigmoid_cross_entropy",
    "squared_error": "squared_error",
}


@dataclass
class Draw:
    """A net, its data, and how to train it."""

    net: ReferenceNet
    batch_norm: list[bool]
    X: NDArray[np.generic]
    targets: NDArray[np.generic]
    batches: list[NDArray[np.int64]]
    learning_rate: float
    new_trainer: Callable[[_core.Network], _core.Trainer]
    dropout_seed: int
    dropout: list[float]
    how: dict[str, Any]  # weights, label_smoothing
    threads: dict[str, tuple[int, int]]  # two numbers for each instruction set

    @property
    def sizes(self) -> list[int]:
        return [w.shape[0] for w in self.net.weights] + [self.net.weights[-1].shape[1]]

    def network(self, instruction_set: str) -> _core.Network:
        network = _core.Network(
            self.sizes,
            list(self.net.activations),
            mixed_bfloat16=self.net.mixed_bfloat16,
            loss=self.net.loss,
            batch_norm=self.batch_norm,
            instruction_set=instruction_set,
        )
        assert network.instruction_set == instruction_set, "another set ran than the one under test"
        network.set_parameters(self.net.weights, self.net.biases)
        return network


def drawn(seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    # Small ones most of the time, which have many edges for their size; at times as large as real ones.
    most = int(rng.choice([9, 40, 150, 500], p=[0.3, 0.4, 0.2, 0.1]))
    sizes = [int(n) for n in rng.integers(1, most + 1, rng.integers(2, 6))]
    n_hidden, n = len(sizes) - 2, int(rng.integers(1, most + 1))
    kind = str(rng.choice(list(LOSSES_OF_TARGETS)))
    net = random_net(
        rng,
        sizes,
        [str(name) for name in rng.choice(sorted(ACTIVATIONS), n_hidden)],
        mixed_bfloat16=bool(rng.random() < 0.4),
        loss=LOSSES_OF_TARGETS[kind],
    )
    batch_norm = [bool(chosen) for chosen in rng.random(n_hidden) < 0.5 * (rng.random() < 0.4)]
    for layer, has_statistics in enumerate(batch_norm):
        if has_statistics:  # shift, scale, running mean and running variance
            shift = net.biases[layer]
            spread = rng.uniform(0.5, 2, (3, shift.size)).astype(np.float32)
            net.biases[layer] = np.stack([shift, *spread])
    batch_size = int(rng.integers(1, n + 1))
    how: dict[str, Any] = {}
    if rng.random() < 0.4:
        how["weights"] = (rng.random(n) + 1e-3).astype(np.float32)
    if rng.random() < 0.4 and kind != "squared_error":
        how["label_smoothing"] = float(rng.uniform(0, 0.5))
    drops = rng.random() < 0.4
    return Draw(
        net=net,
        batch_norm=batch_norm,
        X=inputs_of_any_density(rng, n, sizes[0]),
        targets=random_targets(rng, kind, n, sizes[-1]),
        batches=np.split(rng.permutation(n), range(batch_size, n, batch_size))[:8],
        learning_rate=float(10.0 ** rng.uniform(-4, -1)),
        new_trainer=drawn_trainer(rng),
        dropout_seed=int(rng.integers(2**63)),
        dropout=[float(rate) for rate in rng.uniform(0, 0.9, n_hidden + 1) * drops],
        how=how,
        threads={name: (int(rng.integers(1, 6)), int(rng.integers(1, 6))) for name in INSTRUCTION_SETS},
    )


def drawn_trainer(rng: np.random.Generator) -> Callable[[_core.Network], _core.Trainer]:
    choices = (
        (adam_trainer, {}),
        (adam_trainer, {"weight_decay": 0.1, "decoupled": bool(rng.random() < 0.5)}),
        (sgd_trainer, {}),
        (sgd_trainer, {"momentum": 0.9, "nesterov": bool(rng.random() < 0.5), "weight_decay": 0.01}),
    )
    new_trainer, settings = choices[rng.integers(len(choices))]
    return functools.partial(
        new_trainer,
        **settings,
        clip_norm=float(rng.choice([np.inf, 10.0 ** rng.uniform(-2, 1)])),
        max_norm=float(rng.choice([np.inf, rng.uniform(0.5, 2)])),
        average_decay=float(rng.choice([0.0, rng.uniform(0.5, 0.999)])),
    )


def inputs_of_any_density(rng: np.random.Generator, n: int, n_features: int) -> NDArray[np.generic]:
    """Draw bytes or float32 of which as many are 0 as chance wills, here more and there fewer."""
    is_uint8 = rng.random() < 0.5
    X = rng.integers(1, 256, (n, n_features)) if is_uint8 else rng.normal(size=(n, n_features))
    density = rng.choice([0.0, 0.05, 0.3, 0.8, 1.0, 1.0], (n, 1)) * rng.choice([0.1, 1.0, 1.0], n_features)
    return (X * (rng.random((n, n_features)) < density)).astype(np.uint8 if is_uint8 else np.float32)


def trained_bits(draw: Draw, instruction_set: str, threads: int) -> list[bytes]:
    """Everything that training, evaluating and predicting compute."""
    network = draw.network(instruction_set)
    trainer = draw.new_trainer(network)
    trainer.set_dropout(draw.dropout_seed, draw.dropout)
    result = run_batches(
        trainer, draw.X, draw.targets, draw.batches, draw.learning_rate, threads=threads, **draw.how
    )
    assert result.team_size == threads, "fewer threads ran than were asked for"
    n_layers = draw.net.n_layers
    loss, outputs = network.evaluate_outputs(draw.X, draw.targets, threads, draw.how.get("weights"))
    state = trainer.snapshot()
    computed = [result.losses, result.right, *parameters_of(network, n_layers), outputs, np.float64(loss)]
    computed += [array for name in sorted(state.arrays) for array in state.arrays[name]]
    computed += [network.forward(draw.X, layer + 1, threads) for layer in range(n_layers)]
    computed += [network.softmax(draw.X, threads), network.sigmoid(draw.X, threads)]
    return [array.tobytes() for array in computed] + [result.stopped.encode()]


def check_bits(draw: Draw) -> None:
    """Hold sets with fused multiply-add against each other, and each set against itself on other threads."""
    bits = {}
    for name in INSTRUCTION_SETS:
        bits[name], again = (trained_bits(draw, name, threads) for threads in draw.threads[name])
        assert bits[name] == again, f"{name} on {draw.threads[name]} threads"
    if not draw.net.mixed_bfloat16:
        fused = [name for name in INSTRUCTION_SETS if name in FUSED_SETS]
        for name in fused[1:]:
            assert bits[name] == bits[fused[0]], f"{name} and {fused[0]}"


def check_distances(draw: Draw) -> tuple[int, int]:
    """Hold all sets against each other within what roundings can do in one step.

    Gradients are read off as in gradient_agreement.py: a rate of 2^12 lets them show in weights around 1.
    Returns how many of how many numbers had a bound.
    """
    rate, net = 2.0**12, draw.net
    dropped = dropped_inputs(draw.dropout_seed, draw.dropout, draw.sizes, np.arange(len(draw.X)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a softmax of sums that may err by 1 has no bound
        forward_bound = bounds(net, draw.X, draw.targets)
        bound = bounds(net, draw.X, draw.targets, dropped=dropped, **draw.how)
    found = {}
    for name in INSTRUCTION_SETS:
        network = draw.network(name)
        outputs = [network.forward(draw.X, layer + 1, 0) for layer in range(net.n_layers)]
        trainer = sgd_trainer(network)
        trainer.set_dropout(draw.dropout_seed, draw.dropout)
        result = run_batches(trainer, draw.X, draw.targets, [np.arange(len(draw.X))], rate, **draw.how)
        found[name] = [*outputs, result.losses, *parameters_of(network, net.n_layers)]
    errors = [*forward_bound.outputs, bound.mean_loss, *(rate * e for e in (*bound.weights, *bound.biases))]
    n_bounded = n_numbers = 0
    for (one_name, one), (other_name, other) in itertools.combinations(found.items(), 2):
        for ours, theirs, error in zip(one, other, errors, strict=True):
            x, y = ours.astype(np.float64), theirs.astype(np.float64)
            assert np.isfinite(x).all() and np.isfinite(y).all(), f"{one_name} or {other_name} is not finite"
            # Rounded are the loss, the rate's product with a gradient, and its difference from a weight,
            # whose size is around 1.
            limit = 2 * error + 2 * UNIT_ROUNDOFF * (np.abs(x) + np.abs(y) + error + 4)
            bounded = np.broadcast_to(np.isfinite(limit), x.shape)
            distance = np.abs(x - y)
            assert (distance <= limit)[bounded].all(), f"{one_name} and {other_name}: {distance.max()}"
            n_bounded += int(bounded.sum())
            n_numbers += bounded.size
    return n_bounded, n_numbers


def check(seeds: Iterable[int]) -> None:
    n_bounded = n_numbers = 0
    for seed in seeds:
        draw = drawn(seed)
        try:
            check_bits(draw)
            if not any(draw.batch_norm):  # the bounds do not cover it
                bounded, numbers = check_distances(draw)
                n_bounded += bounded
                n_numbers += numbers
        except (AssertionError, RuntimeWarning) as error:
            raise AssertionError(f"draw {seed}: {error}") from error
    assert n_numbers == 0 or n_bounded > 0.9 * n_numbers, "most numbers had no bound"


def test_instruction_sets_agree_on_random_nets() -> None:
    check(range(DRAWS))


@pytest.mark.slow
def test_instruction_sets_agree_on_many_random_nets() -> None:
    check(range(DRAWS, DRAWS + SLOW_DRAWS))
