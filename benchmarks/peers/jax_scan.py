"""JAX: the whole run is one compiled program, a scan over steps; so is a prediction."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples

from . import FLOAT32_LOSS, FLOAT32_PROBABILITY

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Layers = list[tuple[jax.Array, jax.Array]]


class Fit:
    version = jax.__version__
    setting = "whole run under jit and lax.scan, batches gathered as they are in memory"
    includes = "gathering and converting each batch, steps; not compiling (see its first run)"
    tolerance = FLOAT32_LOSS

    def __init__(self, problem: Problem, threads: int) -> None:
        # XLA takes one thread per CPU that the process may run on, which the driver has limited.
        self.problem = problem

    def reset(self, order: NDArray[np.int64]) -> None:
        self.start = list(zip(self.problem.weights, self.problem.biases, strict=True))
        self.order = order.astype(np.int32)

    def train(self) -> None:
        data, rate = self.problem.data, self.problem.case.learning_rate
        # Two steps in each turn of the loop were found some percent faster with batches of 32 and 128, more
        # of them no faster, and both much slower with batches of 1,000.
        unroll = 2 if self.problem.case.batch_size <= 128 else 1
        result = run(self.start, data.X, data.y, self.order, rate, unroll)
        self.end, self.step_loss = jax.block_until_ready(result)

    def losses(self) -> NDArray[np.float32]:
        return np.asarray(self.step_loss)

    def parameters(self) -> Parameters:
        weights, biases = zip(*self.end, strict=True)
        return [np.asarray(array) for array in weights], [np.asarray(array) for array in biases]


class Predict:
    version = jax.__version__
    setting = "jitted softmax of the net, weights on the device"
    includes = "the way from and to NumPy's arrays; not compiling"
    tolerance = FLOAT32_PROBABILITY

    def __init__(self, problem: Problem, threads: int) -> None:
        self.parameters = jax.device_put(list(zip(problem.weights, problem.biases, strict=True)))

    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        return np.asarray(probabilities(self.parameters, X))


@partial(jax.jit, static_argnames="unroll")
def run(
    start: Any, samples: Any, labels: Any, order: Any, rate: Any, unroll: int
) -> tuple[Layers, jax.Array]:
    """Train one step per row of order; return the parameters and the loss of each step."""

    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        parameters, moments, t = state
        X = as_floats(jnp.take(samples, batch, axis=0, mode="clip"))
        y = jnp.take(labels, batch, mode="clip")
        loss, gradient = jax.value_and_grad(mean_loss)(parameters, X, y)
        parameters, moments = adam(parameters, moments, gradient, t, rate)
        return (parameters, moments, t + 1), loss

    zeros = jax.tree.map(jnp.zeros_like, start)
    (parameters, _, _), losses = lax.scan(step, (start, (zeros, zeros), jnp.float32(1)), order, unroll=unroll)
    return parameters, losses


@jax.jit
def probabilities(parameters: Layers, X: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits_of(parameters, as_floats(X)))


def as_floats(X: jax.Array) -> jax.Array:
    return X.astype(jnp.float32) * (1 / 255) if X.dtype == jnp.uint8 else X


def logits_of(parameters: Layers, X: jax.Array) -> jax.Array:
    h = X
    for weights, biases in parameters[:-1]:
        h = jax.nn.relu(h @ weights + biases)
    weights, biases = parameters[-1]
    return h @ weights + biases


def mean_loss(parameters: Layers, X: jax.Array, y: jax.Array) -> jax.Array:
    logits = logits_of(parameters, X)
    # A product with one-hot rows: picking one element per row would make the gradient a scatter.
    target_logit = jnp.sum(logits * jax.nn.one_hot(y, logits.shape[1]), axis=1)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - target_logit)


def adam(parameters: Any, moments: Any, gradient: Any, t: jax.Array, rate: Any) -> tuple[Any, Any]:
    first = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, moments[0], gradient)
    second = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, moments[1], gradient)
    # 1 - beta**t would lose four digits of float32 at first.
    m_scale, v_scale = -1 / jnp.expm1(t * np.log(BETA_1)), -1 / jnp.expm1(t * np.log(BETA_2))

    def update(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return w - rate * m * m_scale / (jnp.sqrt(v * v_scale) + EPSILON)

    return jax.tree.map(update, parameters, first, second), (first, second)
