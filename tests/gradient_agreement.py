"""Gradients of the core, held against the oracle's."""

from __future__ import annotations

import numpy as np

from core_networks import parameters_of, run_batches, sgd_trainer
from error_bounds import UNIT_ROUNDOFF, bounds


def assert_within(actual, expected, bound):
    """Assert |actual - expected| <= bound, element by element, and that the bound is of some use."""
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected)
    assert np.isfinite(bound).all()
    assert (error <= bound).all(), f"error {error.max()}, {(error / bound).max()} times its bound"


def assert_gradients_agree(net, network, X, targets, *, threads=None, trainer=None, **how):
    """Read off all gradients from one step of plain SGD, and hold them and the loss against the oracle.

    The learning rate is 2^12: it scales a gradient without rounding it, and little of it is lost when the
    core subtracts it from a weight around 1: w - rate g is rounded, by u |w - rate g|.
    how: weights, label_smoothing, and what the trainer, by default a new one, drops.
    """
    rate = 2.0**12
    before = [p.astype(np.float64) for p in net.parameters]
    expected, bound = net.gradients(X, targets, **how), bounds(net, X, targets, **how)

    how.pop("dropped", None)
    trainer = trainer or sgd_trainer(network)
    result = run_batches(trainer, X, targets, [np.arange(len(X))], rate, threads=threads, **how)

    assert result.stopped == ""
    loss_bound = bound.mean_loss + UNIT_ROUNDOFF * expected.mean_loss
    assert_within(result.losses, np.array([expected.mean_loss]), np.array([loss_bound]))
    after = parameters_of(network, net.n_layers)
    for old, new, gradient, error in zip(
        before,
        after,
        [*expected.weights, *expected.biases],
        [*bound.weights, *bound.biases],
        strict=True,
    ):
        moved = old - new.astype(np.float64)
        # Rounded are rate * g and its difference from the weight.
        rounding = UNIT_ROUNDOFF * (np.abs(new) + rate * (np.abs(gradient) + error))
        assert_within(moved, rate * gradient, rate * error + rounding)
