"""The oracle: a naive multilayer perceptron in float64 NumPy, against which the compiled core is held.

Nothing here is fast, blocked, fused or threaded, so that a reader can check each line against the paper it
comes from. Shapes: X (n, n_features), weights (n_inputs, n_outputs), biases (n_outputs,); a "pre-activation"
z is what an activation is applied to, dZ the loss's gradient with respect to it.

With ``mixed_bfloat16`` the operands of every matrix product (inputs, weights, dZ) are rounded to bfloat16
first, as precision="mixed_bfloat16" does. Sums stay in float64 here and are float32 in the core. Give such a
net float32 weights: parameters and an optimiser's moments are kept in the dtype of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LEAKY_SLOPE = 0.01
erf = np.vectorize(math.erf, otypes=[np.float64])


# Activations: the function of z, and its derivative at z, given also the output a = f(z) that the backward
# pass has kept (in mixed precision a is rounded: derivatives that are functions of a see the rounded one).


@dataclass(frozen=True)
class Activation:
    function: Callable[[Float], Float]
    derivative: Callable[[Float, Float], Float]


def sigmoid(z: Float) -> Float:
    # Both forms equal 1 / (1 + exp(-z)); the exponent is never positive, so neither overflows.
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def normal_distribution(z: Float) -> Float:
    return (1 + erf(z / math.sqrt(2))) / 2


def normal_density(z: Float) -> Float:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


ACTIVATIONS = {
    "identity": Activation(lambda z: z, lambda z, a: np.ones_like(z)),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda z, a: np.where(a > 0, 1.0, 0.0)),
    "leaky_relu": Activation(
        lambda z: np.where(z > 0, z, LEAKY_SLOPE * z), lambda z, a: np.where(a > 0, 1.0, LEAKY_SLOPE)
    ),
    "tanh": Activation(np.tanh, lambda z, a: 1 - a * a),
    "sigmoid": Activation(sigmoid, lambda z, a: a * (1 - a)),
    # Hendrycks & Gimpel, "Gaussian error linear units" (2016), the exact form.
    "gelu": Activation(
        lambda z: z * normal_distribution(z), lambda z, a: normal_distribution(z) + z * normal_density(z)
    ),
}


def round_to_bfloat16(x: NDArray[np.floating]) -> Float:
    """Round to the nearest bfloat16, ties to even. A bfloat16 is the upper half of a float32."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    kept_is_odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + kept_is_odd) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


# Losses. Each has the losses of the samples, and their gradient with respect to the outputs.


@dataclass(frozen=True)
class Loss:
    function: Callable[[Float, Float], Float]  # of outputs and target rows (n, n_outputs): losses (n,)
    gradient: Callable[[Float, Float], Float]  # of the same: (n, n_outputs)


def log_softmax(logits: Float) -> Float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(logits: Float) -> Float:
    return np.exp(log_softmax(logits))


def target_rows(targets: NDArray[np.int64] | NDArray[np.floating], n_classes: int) -> Float:
    """Class probabilities (n, n_classes) of targets given as such or as class indices (n,)."""
    if targets.ndim == 2:
        return targets.astype(np.float64)
    return np.eye(n_classes)[targets]


def cross_entropy(logits: Float, targets: NDArray[np.int64] | NDArray[np.floating]) -> Float:
    """Loss of each sample, in nats: -sum over the classes of target * log(probability)."""
    return -(target_rows(targets, logits.shape[1]) * log_softmax(logits)).sum(axis=1)


def softmax_cross_entropy_gradient(logits: Float, T: Float) -> Float:
    """d(-sum t log p)/dz = p sum(t) - t."""
    return softmax(logits) * T.sum(axis=1, keepdims=True) - T


def sigmoid_cross_entropy(logits: Float, T: Float) -> Float:
    """Loss of each sample, in nats: the mean over the outputs of -t log(p) - (1 - t) log(1 - p).

    -log(1 - sigmoid(z)) = log(1 + exp(z)) and -log(sigmoid(z)) = log(1 + exp(-z)).
    """
    return (T * np.logaddexp(0, -logits) + (1 - T) * np.logaddexp(0, logits)).mean(axis=1)


def squared_error(outputs: Float, T: Float) -> Float:
    """Loss of each sample: the mean over the outputs of the squared error."""
    return ((outputs - T) ** 2).mean(axis=1)


LOSSES = {
    "softmax_cross_entropy": Loss(cross_entropy, softmax_cross_entropy_gradient),
    "sigmoid_cross_entropy": Loss(sigmoid_cross_entropy, lambda z, T: (sigmoid(z) - T) / z.shape[1]),
    "squared_error": Loss(squared_error, lambda z, T: 2 * (z - T) / z.shape[1]),
}


def smoothed(T: Float, label_smoothing: float, loss: str) -> Float:
    """Spread a part of each label over all: Szegedy et al. (2016), section 7."""
    n_alternatives = T.shape[1] if loss == "softmax_cross_entropy" else 2
    return (1 - label_smoothing) * T + label_smoothing / n_alternatives


# The net.


@dataclass
class ForwardPass:
    inputs: list[Float]  # of each layer, as the product sees them: pixels are 0..255; rounded if mixed
    input_scales: list[
        float
    ]  # of each layer: its product is to be multiplied by this; 1/255 for pixels, else 1
    pre_activations: list[Float]  # z of each layer; the last one's are the logits
    outputs: list[Float]  # f(z), before any rounding; the last layer has no activation

    @property
    def logits(self) -> Float:
        return self.pre_activations[-1]


@dataclass
class Gradients:
    losses: Float  # of each sample
    mean_loss: float  # weighted
    weights: list[Float]  # gradients of the mean loss
    biases: list[Float]


def shares(weights: NDArray[np.floating] | None, n: int) -> Float:
    """Return the part that each sample has of the mean."""
    w = np.ones(n) if weights is None else weights.astype(np.float64)
    return w / w.sum() if n else w


@dataclass
class Dropped:
    """What dropout does to the inputs of one layer: Srivastava et al. (2014), scaled in training.

    Their equations have y~ = r * y with r ~ Bernoulli(p), and W p in prediction; here y~ = r * y / p.
    """

    kept: NDArray[np.bool_]  # r, (n, n_inputs)
    scale: float  # 1 / p


def drop_of(layer: int, dropped: Sequence[Dropped | None]) -> Dropped | None:
    return dropped[layer] if layer < len(dropped) else None


@dataclass
class ReferenceNet:
    weights: list[NDArray[np.floating]]
    biases: list[NDArray[np.floating]]
    activations: Sequence[str]  # one per hidden layer
    mixed_bfloat16: bool = False
    loss: str = "softmax_cross_entropy"

    @property
    def n_layers(self) -> int:
        return len(self.weights)

    @property
    def parameters(self) -> list[NDArray[np.floating]]:
        return [*self.weights, *self.biases]

    def operand(self, x: NDArray[np.floating]) -> Float:
        """Return x as a matrix product sees it."""
        return round_to_bfloat16(x) if self.mixed_bfloat16 else x.astype(np.float64)

    def activation(self, layer: int) -> Activation:
        return ACTIVATIONS[(*self.activations, "identity")[layer]]

    def forward(
        self, X: NDArray[np.uint8] | NDArray[np.floating], dropped: Sequence[Dropped | None] = ()
    ) -> ForwardPass:
        """Compute all layers; `dropped` has what to drop of the inputs of each layer, or nothing."""
        # A uint8 p means p/255. The division follows the product, which sees integers, exact in bfloat16.
        is_pixels = X.dtype == np.uint8
        a, scale = (X.astype(np.float64), 1 / 255) if is_pixels else (self.operand(X), 1.0)
        first = drop_of(0, dropped)
        if first is not None:
            a, scale = a * first.kept, scale * first.scale
        result = ForwardPass([], [], [], [])
        for layer in range(self.n_layers):
            z = scale * (a @ self.operand(self.weights[layer])) + self.biases[layer]
            output = self.activation(layer).function(z)
            result.inputs.append(a)
            result.input_scales.append(scale)
            result.pre_activations.append(z)
            result.outputs.append(output)
            after = drop_of(layer + 1, dropped)
            a = self.operand(output if after is None else output * after.kept * after.scale)
            scale = 1.0
        return result

    def gradients(
        self,
        X: NDArray[np.uint8] | NDArray[np.floating],
        targets: NDArray[np.int64] | NDArray[np.floating],
        *,
        weights: NDArray[np.floating] | None = None,
        label_smoothing: float = 0.0,
        dropped: Sequence[Dropped | None] = (),
    ) -> Gradients:
        """Gradients of the mean loss by backpropagation: Rumelhart, Hinton & Williams (1986)."""
        forward = self.forward(X, dropped)
        T = target_rows(targets, forward.logits.shape[1])
        if label_smoothing:
            T = smoothed(T, label_smoothing, self.loss)
        parts = shares(weights, len(X))
        loss = LOSSES[self.loss]
        losses = loss.function(forward.logits, T)
        result = Gradients(losses, float(parts @ losses), [], [])

        dZ = self.operand(loss.gradient(forward.logits, T) * parts[:, np.newaxis])
        for layer in reversed(range(self.n_layers)):
            a = forward.inputs[layer]
            result.weights.insert(0, forward.input_scales[layer] * (a.T @ dZ))
            result.biases.insert(0, dZ.sum(axis=0))
            if layer > 0:
                dA = dZ @ self.operand(self.weights[layer]).T
                drop = drop_of(layer, dropped)
                if drop is not None:
                    dA, a = dA * drop.kept * drop.scale, forward.outputs[layer - 1]
                slope = self.activation(layer - 1).derivative(forward.pre_activations[layer - 1], a)
                dZ = self.operand(dA * slope)
        return result


# Optimisers. `step` changes parameters in place; a state array has the dtype of its parameter.


class ReferenceAdam:
    """Kingma & Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1, in its notation.

    With weight decay: lines 6 (in the gradient) and 12 (decoupled: AdamW) of Algorithm 2 in Loshchilov &
    Hutter, "Decoupled weight decay regularization" (2019), whose lambda in line 12 is alpha * weight_decay.
    """

    def __init__(
        self,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.t = 0
        self.m: list[NDArray[np.floating]] = []
        self.v: list[NDArray[np.floating]] = []

    def step(
        self, parameters: Sequence[NDArray[np.floating]], gradients: Sequence[Float], alpha: float
    ) -> None:
        if not self.m:
            self.m = [np.zeros_like(theta) for theta in parameters]
            self.v = [np.zeros_like(theta) for theta in parameters]
        self.t += 1
        for theta, m, v, gradient in zip(parameters, self.m, self.v, gradients, strict=True):
            decay = self.weight_decay * theta
            g = gradient if self.decoupled else gradient + decay
            m[...] = self.beta_1 * m + (1 - self.beta_1) * g
            v[...] = self.beta_2 * v + (1 - self.beta_2) * g**2
            m_hat = m / (1 - self.beta_1**self.t)
            v_hat = v / (1 - self.beta_2**self.t)
            moved = alpha * m_hat / (np.sqrt(v_hat) + self.epsilon)
            theta[...] = theta - (moved + alpha * decay if self.decoupled else moved)


class ReferenceSGD:
    """v = momentum * v + g; w -= learning_rate * v, or learning_rate * (g + momentum * v) with nesterov.

    Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and momentum in deep learning"
    (2013), with the learning rate outside of v. g is the gradient plus weight_decay * w.
    """

    def __init__(self, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> None:
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.v: list[NDArray[np.floating]] = []

    def step(
        self, parameters: Sequence[NDArray[np.floating]], gradients: Sequence[Float], learning_rate: float
    ) -> None:
        if not self.v:
            self.v = [np.zeros_like(w) for w in parameters]
        for w, v, gradient in zip(parameters, self.v, gradients, strict=True):
            g = gradient + self.weight_decay * w
            v[...] = self.momentum * v + g
            w[...] = w - learning_rate * (g + self.momentum * v if self.nesterov else v)


class ReferenceAround:
    """An optimiser with what is done before and after its update.

    clip_norm: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks" (2013),
    Algorithm 1. max_norm: Srivastava et al., "Dropout" (2014), section 5.1, for all units. ema_decay: the
    mean of the parameters after each step, of step i with the weight ema_decay**(t - i).
    """

    def __init__(
        self,
        optimizer: ReferenceAdam | ReferenceSGD,
        *,
        clip_norm: float = np.inf,
        max_norm: float = np.inf,
        ema_decay: float | None = None,
    ) -> None:
        self.optimizer, self.clip_norm, self.max_norm, self.ema_decay = (
            optimizer,
            clip_norm,
            max_norm,
            ema_decay,
        )
        self.n_clipped = self.n_limited = 0  # steps, and units of a step
        self.total_weight = 0.0
        self.sums: list[NDArray[np.floating]] = []  # of the parameters, with their weights

    @property
    def averages(self) -> list[NDArray[np.floating]]:
        return [total / self.total_weight for total in self.sums]

    def step(
        self, parameters: Sequence[NDArray[np.floating]], gradients: Sequence[Float], learning_rate: float
    ) -> None:
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        if norm >= self.clip_norm:
            self.n_clipped += 1
            gradients = [self.clip_norm / norm * g for g in gradients]
        self.optimizer.step(parameters, gradients, learning_rate)
        for w in parameters:
            if w.ndim == 2:
                norms = np.sqrt((w.astype(np.float64) ** 2).sum(axis=0))
                too_long = norms > self.max_norm
                self.n_limited += int(too_long.sum())
                w[:, too_long] *= (self.max_norm / norms[too_long]).astype(w.dtype)
        if self.ema_decay is not None:
            self.total_weight = self.ema_decay * self.total_weight + 1
            before = self.sums or [np.zeros(w.shape) for w in parameters]
            self.sums = [self.ema_decay * total + w for total, w in zip(before, parameters, strict=True)]


def train_step(
    net: ReferenceNet,
    optimizer: ReferenceAdam | ReferenceSGD | ReferenceAround,
    X: NDArray[np.uint8] | NDArray[np.floating],
    targets: NDArray[np.int64] | NDArray[np.floating],
    learning_rate: float,
    *,
    weights: NDArray[np.floating] | None = None,
    label_smoothing: float = 0.0,
) -> float:
    """Train on one batch and return its mean loss before the update."""
    gradients = net.gradients(X, targets, weights=weights, label_smoothing=label_smoothing)
    optimizer.step(net.parameters, [*gradients.weights, *gradients.biases], learning_rate)
    return gradients.mean_loss
