"""How far float32 may stray from the oracle: a bound on the error of every number, carried along beside it.

The bounds are worst cases in the manner of Higham, "Accuracy and stability of numerical algorithms" (2002):
with the unit roundoff u = 2^-24, a sum of n products in any order, fused or not, errs by at most

    gamma(n) * sum |a| |b|,    gamma(n) = n u / (1 - n u)    (equation 3.5),

and an error e of an operand adds e |b|. Nothing here was fitted to what the core returns. What a bug
changes by less than the bound of a long sum would not be found; products of small integers, which float32
computes exactly, are therefore tested for equality besides.

Each elementary function of the core has an error of its own beside those of its arguments: the constants
below, which tests/test_kernels.py holds the core to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference import (
    LOSSES,
    Dropped,
    Float,
    ReferenceNet,
    cross_entropy,
    drop_of,
    round_to_bfloat16,
    shares,
    sigmoid,
    smoothed,
    softmax,
    target_rows,
)

UNIT_ROUNDOFF = 2.0**-24
EPSILON = 2.0**-23
# The core takes for zero what is below the smallest normal float32, 2^-126, and exp(x) for x < -87: the
# larger.
TINY = np.exp(-87.0)

# Error of a value beside that of its argument: relative to the value, and absolute per unit of |z|.
# exp: argument reduction, a polynomial of degree 7 (rest 5e-9) and two roundings. tanh and sigmoid: exp, a
# sum and a division. gelu: its distribution function is Abramowitz & Stegun's 7.1.26 (0.75e-7 = 0.63
# epsilon), rounded.
EXP_RELATIVE = 2 * EPSILON
LOG_RELATIVE = 2 * EPSILON
LOG_ONE_PLUS_RELATIVE = (
    2 * EPSILON
)  # a sum, a division, its square, nine multiply-adds that shrink, a product
ACTIVATION_RELATIVE = {
    "identity": 0.0,
    "relu": 0.0,
    "leaky_relu": UNIT_ROUNDOFF + 2.3e-8,  # and the slope 0.01 is rounded to float32: relative error 2.3e-8
    "tanh": 4 * EPSILON,
    "sigmoid": 4 * EPSILON,
    "gelu": EPSILON,
}
GELU_PER_Z = 4 * EPSILON
GELU_DERIVATIVE_ABSOLUTE = 8 * EPSILON

# Largest |f'| and |f''|, which carry an error of z to f(z) and to f'(z).
STEEPEST = {"gelu": 1.13}
GELU_MOST_CURVED = 0.8  # f''(0) = 2 / sqrt(2 pi)


def gamma(n: int) -> float:
    return n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)


@dataclass
class Bounds:
    """Largest error of each number of the same name in a ForwardPass and in Gradients."""

    pre_activations: list[Float]
    outputs: list[Float]
    probabilities: Float
    losses: Float
    mean_loss: float  # before it is rounded to float32
    weights: list[Float]
    biases: list[Float]

    @property
    def logits(self) -> Float:
        return self.pre_activations[-1]


def product_bound(a: Float, a_error: Float | float, b: Float, extra: int = 0) -> Float:
    """Bound the error of a @ b, given that of a; `extra` more roundings follow on the result."""
    a_error = np.broadcast_to(a_error, a.shape)
    depth = a.shape[1]
    return gamma(depth + extra) * ((np.abs(a) + a_error) @ np.abs(b)) + a_error @ np.abs(b) + depth * TINY


def operand_bound(net: ReferenceNet, x: Float, error: Float) -> Float:
    """Error of an operand of a product made of x, which errs by `error`: in mixed precision it is rounded.

    Rounding is monotonic, so the worst lies at an end of [x - error, x + error].
    """
    if not net.mixed_bfloat16:
        return error
    rounded = round_to_bfloat16(x)
    ends = [np.abs(round_to_bfloat16(end) - rounded) for end in (x - error, x + error)]
    return np.maximum(*ends)


def activation_bound(name: str, z: Float, z_error: Float, output: Float) -> Float:
    own = ACTIVATION_RELATIVE[name] * np.abs(output) + TINY
    if name == "relu":
        return np.where(z < -z_error, 0.0, z_error)  # what is surely off is exactly 0
    if name == "gelu":
        own = own + GELU_PER_Z * np.abs(z)
    return STEEPEST.get(name, 1.0) * z_error + own


def derivative_bound(name: str, z: Float, z_error: Float, a: Float, a_error: Float) -> Float:
    """Error of an activation's derivative, made of z or of the kept output a."""
    if name == "identity":
        return np.zeros_like(z)
    if name in ("relu", "leaky_relu"):
        return np.where(np.abs(z) <= z_error, 1.0, 0.0)  # it may jump
    if name == "tanh":  # 1 - a^2
        return 2 * np.abs(a) * a_error + a_error**2 + EPSILON
    if name == "sigmoid":  # a (1 - a)
        return a_error + a_error**2 + EPSILON
    return GELU_MOST_CURVED * z_error + GELU_DERIVATIVE_ABSOLUTE


def softmax_bounds(logits: Float, logits_error: Float, T: Float) -> tuple[Float, Float]:
    """Errors of the probabilities and of the losses."""
    n_classes = logits.shape[1]
    p = softmax(logits)
    below_max = logits.max(axis=1, keepdims=True) - logits
    # Relative error of each exp(logit - max): its argument's (the logit's, and one rounding) and its own.
    # That of their sum is the weighted mean, and gamma for the summation.
    term = np.expm1(logits_error + UNIT_ROUNDOFF * below_max) * (1 + EXP_RELATIVE) + EXP_RELATIVE
    total = (p * term).sum(axis=1, keepdims=True) + gamma(n_classes) + n_classes * TINY
    # Both the exponential and the quotient may come out as zero.
    p_error = p * ((1 + term) * (1 + EPSILON) / (1 - total) - 1) + 2 * TINY

    # loss = sum of T (max - logit) + log(sum of exp)
    log_sum = np.log(np.exp(-below_max).sum(axis=1))
    loss_error = (
        (T * (logits_error + gamma(n_classes + 1) * below_max)).sum(axis=1)
        - np.log1p(-total[:, 0])
        + LOG_RELATIVE * log_sum
        + UNIT_ROUNDOFF * cross_entropy(logits, T)
        + n_classes * TINY
    )
    return p_error, loss_error


def sigmoid_bounds(z: Float, z_error: Float | float, T: Float) -> tuple[Float, Float]:
    """Errors of the probabilities of independent outputs, and of the samples' losses."""
    n_outputs = z.shape[1]
    p_error = z_error / 4 + ACTIVATION_RELATIVE["sigmoid"] * sigmoid(z) + TINY
    # max(z, 0) - t z + log(1 + e) with e = exp(-|z|): z's own error counts |p - t| <= 1 times.
    e = np.exp(-np.abs(z))
    terms = np.maximum(z, 0) + T * np.abs(z) + np.log1p(e)
    each = z_error + gamma(3) * terms + EXP_RELATIVE * e + LOG_ONE_PLUS_RELATIVE * np.log1p(e) + TINY
    return p_error, (each + gamma(n_outputs + 1) * (terms + each)).mean(axis=1)


def squared_error_bound(z: Float, z_error: Float | float, T: Float) -> Float:
    """Errors of the samples' losses."""
    difference = np.abs(z - T)
    error = z_error + UNIT_ROUNDOFF * (difference + z_error)
    each = 2 * difference * error + error**2
    return (each + gamma(z.shape[1] + 2) * (difference**2 + each)).mean(axis=1) + TINY


def smoothed_bound(T: Float, label_smoothing: float, loss: str) -> Float:
    """Error of smoothed targets.

    Both terms are rounded products of rounded factors, and their sum is rounded; of the factors, 1 - s may be
    far smaller than the error of s that it has taken over.
    """
    return gamma(4) * smoothed(T, label_smoothing, loss) + UNIT_ROUNDOFF * label_smoothing * T


def output_bounds(
    loss: str, z: Float, z_error: Float | float, T: Float, T_error: Float | float = 0.0
) -> tuple[Float, Float, Float, int]:
    """Errors of probabilities, of losses, of the loss's gradient by the outputs, and roundings of that.

    These roundings of the gradient itself come last: of its terms' difference, of a factor, and of the
    product with it.
    """
    n_outputs = z.shape[1]
    if loss == "softmax_cross_entropy":
        p_error, loss_error = softmax_bounds(z, z_error, T)
        T_error = T_error + np.zeros_like(T)
        below_max = z.max(axis=1, keepdims=True) - z
        log_sum = np.log(np.exp(-below_max).sum(axis=1))
        loss_error = loss_error + (T_error * (below_max + log_sum[:, np.newaxis])).sum(axis=1)
        # p sum(T): the sum, and its product with p
        slope_error = T.sum(axis=1, keepdims=True) * (p_error + gamma(n_outputs + 1) * softmax(z))
        return p_error, loss_error, slope_error + T_error + softmax(z) * T_error.sum(axis=1, keepdims=True), 3
    if loss == "sigmoid_cross_entropy":
        p_error, loss_error = sigmoid_bounds(z, z_error, T)
        loss_error = loss_error + (T_error * np.abs(z)).mean(axis=1)
        return p_error, loss_error, (p_error + T_error) / n_outputs, 5
    no_probabilities = np.full_like(z, np.nan)
    return no_probabilities, squared_error_bound(z, z_error, T), 2 * z_error / n_outputs + 0 * z, 5


def bounds(
    net: ReferenceNet,
    X: NDArray[np.uint8] | NDArray[np.floating],
    targets: NDArray[np.int64] | NDArray[np.floating],
    *,
    weights: NDArray[np.floating] | None = None,
    label_smoothing: float = 0.0,
    dropped: Sequence[Dropped | None] = (),
) -> Bounds:
    """Bound the error of everything that the core computes from float32 parameters and one batch."""
    forward = net.forward(X, dropped)
    T, T_error = target_rows(targets, forward.logits.shape[1]), 0.0
    if label_smoothing:
        T, T_error = smoothed(T, label_smoothing, net.loss), smoothed_bound(T, label_smoothing, net.loss)
    n = len(X)
    names = (*net.activations, "identity")
    z_errors, a_errors, outputs_errors, slope_errors = [], [], [], []

    n_roundings = 2 if drop_of(0, dropped) is None else 4
    a_error: Float | float = 0.0
    for layer, (a, scale, z) in enumerate(
        zip(forward.inputs, forward.input_scales, forward.pre_activations, strict=True)
    ):
        # Two roundings follow the product: of the scale 1/255 and of the sum with the bias; with dropout of
        # the input two more, of its scale and of the product of both scales.
        W = scale * net.operand(net.weights[layer])
        z_error = product_bound(a, a_error, W, extra=n_roundings) + gamma(1) * np.abs(net.biases[layer])
        output = forward.outputs[layer]
        output_error = activation_bound(names[layer], z, z_error, output)
        drop = drop_of(layer + 1, dropped)
        if drop is None:
            next_a_error = operand_bound(net, output, output_error)
            slope_errors.append(derivative_bound(names[layer], z, z_error, net.operand(output), next_a_error))
        else:
            factor = drop.kept * drop.scale
            error = factor * (output_error + gamma(2) * (np.abs(output) + output_error))
            next_a_error = operand_bound(net, output * factor, error)
            slope_errors.append(derivative_bound(names[layer], z, z_error, output, output_error))
        z_errors.append(z_error)
        a_errors.append(np.broadcast_to(a_error, a.shape))
        outputs_errors.append(output_error)
        a_error = next_a_error

    p_error, loss_errors, slope_error, roundings = output_bounds(
        net.loss, forward.logits, z_errors[-1], T, T_error
    )
    mean_error = float(shares(weights, n) @ loss_errors)
    result = Bounds(z_errors, outputs_errors, p_error, loss_errors, mean_error, [], [])
    if n == 0:
        return result

    parts = shares(weights, n)[:, np.newaxis]
    exact_dZ = LOSSES[net.loss].gradient(forward.logits, T) * parts
    if weights is not None:
        roundings += 1  # of the product with the weight
    dZ_error = slope_error * parts + gamma(roundings) * (np.abs(exact_dZ) + slope_error * parts) + TINY
    dZ_error = operand_bound(net, exact_dZ, dZ_error)
    dZ = net.operand(exact_dZ)
    for layer in reversed(range(net.n_layers)):
        a, a_error, scale = forward.inputs[layer], a_errors[layer], forward.input_scales[layer]
        # The error of the sum over the batch, of dZ in it, and of the activations in it.
        weight_error = product_bound(np.abs(dZ).T, dZ_error.T, np.abs(a) + a_error, extra=n_roundings).T
        result.weights.insert(0, scale * (weight_error + a_error.T @ np.abs(dZ)) + TINY)
        result.biases.insert(0, gamma(n) * (np.abs(dZ) + dZ_error).sum(axis=0) + dZ_error.sum(axis=0))
        if layer > 0:
            W = net.operand(net.weights[layer])
            dA, dA_error = dZ @ W.T, product_bound(dZ, dZ_error, W.T)
            drop = drop_of(layer, dropped)
            if drop is not None:
                factor, a = drop.kept * drop.scale, forward.outputs[layer - 1]
                dA_error = factor * (dA_error + gamma(2) * (np.abs(dA) + dA_error))
                dA = dA * factor
            slope = net.activation(layer - 1).derivative(forward.pre_activations[layer - 1], a)
            slope_error = slope_errors[layer - 1]
            exact_dZ = dA * slope
            dZ_error = (
                dA_error * (np.abs(slope) + slope_error)
                + np.abs(dA) * slope_error
                + gamma(1) * np.abs(exact_dZ)
                + TINY
            )
            dZ_error = operand_bound(net, exact_dZ, dZ_error)
            dZ = net.operand(exact_dZ)
    return result
