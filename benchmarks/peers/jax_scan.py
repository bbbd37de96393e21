"""JAX: the whole run is one compiled program, a scan over steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import Problem
from jax import lax
from numpy.typing import NDArray

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Parameters = list[tuple[jax.Array, jax.Array]]


class Jax:
    version = jax.__version__
    setting = "whole run under jit and lax.scan, batches gathered as uint8"
    includes = "gathering and converting each batch, steps; not compiling (see its first run)"
    same_start_and_order = True

    def __init__(self, problem: Problem, threads: int) -> None:
        # XLA takes one thread per CPU that the process may run on, which the driver has limited.
        self.problem = problem
        self.order = problem.order.astype(np.int32)

    def reset(self) -> None:
        self.start = list(zip(self.problem.weights, self.problem.biases, strict=True))

    def train(self) -> None:
        rate = self.problem.case.learning_rate
        result = run(self.start, self.problem.images, self.problem.labels, self.order, rate)
        self.end, self.step_loss = jax.block_until_ready(result)

    def losses(self) -> NDArray[np.float32]:
        return np.asarray(self.step_loss)

    def parameters(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        weights, biases = zip(*self.end, strict=True)
        return [np.asarray(array) for array in weights], [np.asarray(array) for array in biases]


@jax.jit
def run(start: Any, images: Any, labels: Any, order: Any, rate: Any) -> tuple[Parameters, jax.Array]:
    """Train one step per row of order; return the parameters and the loss of each step."""

    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        parameters, moments, t = state
        X = jnp.take(images, batch, axis=0, mode="clip").astype(jnp.float32) * (1 / 255)
        y = jnp.take(labels, batch, mode="clip")
        loss, gradient = jax.value_and_grad(mean_loss)(parameters, X, y)
        parameters, moments = adam(parameters, moments, gradient, t, rate)
        return (parameters, moments, t + 1), loss

    zeros = jax.tree.map(jnp.zeros_like, start)
    (parameters, _, _), losses = lax.scan(step, (start, (zeros, zeros), jnp.float32(1)), order)
    return parameters, losses


def mean_loss(parameters: Parameters, X: jax.Array, y: jax.Array) -> jax.Array:
    h = X
    for weights, biases in parameters[:-1]:
        h = jax.nn.relu(h @ weights + biases)
    weights, biases = parameters[-1]
    logits = h @ weights + biases
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
