"""Verify first, then time: every peer must have trained the same net, or predicted the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from problems import Problem, Samples

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class VerificationError(RuntimeError):
    """A peer did not reach the losses that it should."""


def check_steps(
    name: str, losses: Sequence[float], reference: NDArray[np.float64], tolerance: float
) -> float:
    """Compare the first steps' losses with the reference; return the largest relative deviation."""
    deviations = np.abs(np.asarray(losses[: len(reference)]) / reference - 1)
    worst = int(np.nanargmax(np.where(np.isfinite(deviations), deviations, np.inf)))
    if not deviations[worst] <= tolerance:
        raise VerificationError(
            f"{name}: the loss of step {worst + 1} is {losses[worst]:.7g}, but should be "
            f"{reference[worst]:.7g} to within {tolerance:g} of itself. It does not train the same net, "
            "so its speed means nothing."
        )
    return float(deviations[worst])


def check_last_steps(losses: Mapping[str, Sequence[float]], steps: int, tolerance: float) -> None:
    """Compare the mean loss of the last steps with the median of all peers."""
    means = {name: float(np.mean(of_peer[-steps:])) for name, of_peer in losses.items()}
    expected = float(np.median(list(means.values())))
    for name, mean in means.items():
        if not abs(mean / expected - 1) <= tolerance:
            raise VerificationError(
                f"{name}: its mean loss over the last {steps} steps is {mean:.5g}, but the peers' median is "
                f"{expected:.5g}, and {tolerance:.0%} may lie between. It does not train as the others do."
            )


def check_probabilities(
    name: str, probabilities: Sequence[Sequence[float]], reference: NDArray[np.float64], tolerance: float
) -> float:
    """Compare the first samples' probabilities with the reference; return the largest deviation."""
    worst = float(np.max(np.abs(np.asarray(probabilities) - reference[: len(probabilities)])))
    if not worst <= tolerance:
        raise VerificationError(
            f"{name}: a probability is {worst:.2g} off, and {tolerance:g} is allowed. It does not predict "
            "what the net predicts, so its speed means nothing."
        )
    return worst


def reference_losses(problem: Problem, steps: int) -> NDArray[np.float64]:
    """Train in float64, written for the eye; return the loss of each step."""
    parameters = [array.astype(np.float64) for array in [*problem.weights, *problem.biases]]
    n_layers = len(problem.weights)
    first_moments = [np.zeros_like(p) for p in parameters]
    second_moments = [np.zeros_like(p) for p in parameters]
    losses = []
    for step, batch in enumerate(problem.order[:steps]):
        X, y = as_doubles(problem.data.X[batch]), problem.data.y[batch]
        loss, gradients = loss_and_gradients(parameters[:n_layers], parameters[n_layers:], X, y)
        losses.append(loss)
        for w, g, m, v in zip(parameters, gradients, first_moments, second_moments, strict=True):
            m[:] = BETA_1 * m + (1 - BETA_1) * g
            v[:] = BETA_2 * v + (1 - BETA_2) * g**2
            m_hat, v_hat = m / (1 - BETA_1 ** (step + 1)), v / (1 - BETA_2 ** (step + 1))
            w[:] -= problem.case.learning_rate * m_hat / (np.sqrt(v_hat) + EPSILON)
    return np.array(losses)


def reference_probabilities(problem: Problem, n: int) -> NDArray[np.float64]:
    """Predict the first n test samples in float64."""
    weights = [array.astype(np.float64) for array in problem.weights]
    biases = [array.astype(np.float64) for array in problem.biases]
    _, log_probabilities = forward(weights, biases, as_doubles(problem.data.X_test[:n]))
    return np.exp(log_probabilities)


def as_doubles(X: Samples) -> NDArray[np.float64]:
    return X / 255 if X.dtype == np.uint8 else X.astype(np.float64)


def forward(
    weights: Sequence[NDArray[np.float64]], biases: Sequence[NDArray[np.float64]], X: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the inputs of each layer of a ReLU net, and its log probabilities."""
    activations = [X]
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        activations.append(np.maximum(activations[-1] @ W + b, 0))
    logits = activations[-1] @ weights[-1] + biases[-1]
    logits -= logits.max(axis=1, keepdims=True)
    return activations, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def loss_and_gradients(
    weights: Sequence[NDArray[np.float64]],
    biases: Sequence[NDArray[np.float64]],
    X: NDArray[np.float64],
    y: NDArray[np.uint8],
) -> tuple[float, list[NDArray[np.float64]]]:
    """Mean cross-entropy of a ReLU net, and its gradients: those of all weights, then those of all biases."""
    activations, log_probabilities = forward(weights, biases, X)
    samples = np.arange(len(X))

    d_z = np.exp(log_probabilities)
    d_z[samples, y] -= 1
    d_z /= len(X)
    d_weights: list[NDArray[np.float64]] = []
    d_biases: list[NDArray[np.float64]] = []
    for W, h in zip(reversed(weights), reversed(activations), strict=True):
        d_weights.insert(0, h.T @ d_z)
        d_biases.insert(0, d_z.sum(axis=0))
        d_z = (d_z @ W.T) * (h > 0)
    return float(-log_probabilities[samples, y].mean()), d_weights + d_biases
