"""A training run of the oracle, and how far from it a float32 run may stray."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from error_bounds import EPSILON, UNIT_ROUNDOFF, bounds
from reference import Float, ReferenceAdam, ReferenceAround, ReferenceNet, ReferenceSGD


@dataclass
class TrainingRun:
    losses: Float  # of each step, before its update
    parameters: list[NDArray[np.floating]]  # after the last step
    loss_tolerance: float  # of each loss
    tolerance: float  # of each parameter
    optimizer: ReferenceAdam | ReferenceSGD | ReferenceAround  # after the last step


def train_beside_twin(
    start: ReferenceNet,
    make_optimizer: Callable[[], ReferenceAdam | ReferenceSGD | ReferenceAround],
    X: NDArray[np.generic],
    targets: NDArray[np.generic],
    *,
    batches: Sequence[NDArray[np.int64]],
    rate: float,
    weights: NDArray[np.float32] | None = None,
    label_smoothing: float = 0.0,
) -> TrainingRun:
    """Train the oracle from a start, which stays; in float64, or mixed precision if the start is of that.

    The tolerances are derived by letting rounding errors grow. A float32 run is the oracle's, disturbed in
    every step by the rounding of its gradients and parameters; what a disturbance has grown to by the end,
    the dynamics of training decides. So a twin of the oracle is disturbed on purpose, in random directions
    as roundings are, but each time by the full worst case: gradients by their bounds (error_bounds: k
    epsilon, k following from the number of terms summed), parameters by epsilon. Its distance from the
    oracle is the tolerance; the errors of real sums of n terms are below their worst case by about the root
    of n.
    """
    net = copy.deepcopy(start)
    if not net.mixed_bfloat16:
        net.weights = [w.astype(np.float64) for w in net.weights]
        net.biases = [b.astype(np.float64) for b in net.biases]
    twin, optimizer, twin_optimizer = copy.deepcopy(net), make_optimizer(), make_optimizer()
    rng = np.random.default_rng(0)

    def disturbed(array, error):
        return (array + rng.choice([-1.0, 1.0], array.shape) * error).astype(array.dtype)

    losses, loss_tolerance = [], 0.0
    for batch in batches:
        how = {
            "weights": None if weights is None else weights[batch],
            "label_smoothing": label_smoothing,
        }
        exact = net.gradients(X[batch], targets[batch], **how)
        optimizer.step(net.parameters, [*exact.weights, *exact.biases], rate)

        other = twin.gradients(X[batch], targets[batch], **how)
        bound = bounds(twin, X[batch], targets[batch], **how)
        d_weights = [disturbed(g, error) for g, error in zip(other.weights, bound.weights, strict=True)]
        d_biases = [disturbed(g, error) for g, error in zip(other.biases, bound.biases, strict=True)]
        twin_optimizer.step(twin.parameters, [*d_weights, *d_biases], rate)
        for parameter in twin.parameters:
            parameter[...] = disturbed(parameter, EPSILON * np.abs(parameter))

        losses.append(exact.mean_loss)
        strayed = abs(other.mean_loss - losses[-1])
        loss_tolerance = max(loss_tolerance, strayed + bound.mean_loss + UNIT_ROUNDOFF * losses[-1])
    strays = [np.abs(a - b).max() for a, b in zip(net.parameters, twin.parameters, strict=True)]
    return TrainingRun(np.array(losses), net.parameters, loss_tolerance, max(strays), optimizer)
