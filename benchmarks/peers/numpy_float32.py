"""NumPy, float32: nothing is allocated inside the loop, and every operation works in place."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples, as_floats

from . import FLOAT32_LOSS, FLOAT32_PROBABILITY

Array = NDArray[np.float32]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
BLOCK = 1 << 16  # elements per pass of Adam: four arrays of 256 kB stay in the second level of the cache


class Fit:
    version = np.__version__
    setting = "float32, in place, batches gathered as they are in memory"
    includes = "gathering and converting each batch, steps"
    tolerance = FLOAT32_LOSS

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        sizes, n = problem.case.layer_sizes, problem.case.batch_size
        self.arena, self.weights, self.biases = parameter_arena(sizes)
        self.d_arena, self.d_weights, self.d_biases = parameter_arena(sizes)
        self.first_moment, self.second_moment = np.empty_like(self.arena), np.empty_like(self.arena)

        self.target = np.empty(n, np.uint8)
        self.activations = [np.empty((n, size), np.float32) for size in sizes[:-1]]
        self.is_pixels = problem.data.X.dtype == np.uint8
        self.gathered = np.empty((n, sizes[0]), np.uint8) if self.is_pixels else self.activations[0]
        self.is_active = [np.empty((n, size), np.bool_) for size in sizes[:-1]]
        # A column per sample: sums over classes then add long rows, which NumPy does several times faster.
        self.z = np.empty((sizes[-1], n), np.float32)
        self.samples = np.arange(n)
        self.ones = np.ones(n, np.float32)

    def reset(self, order: NDArray[np.int64]) -> None:
        self.order = order
        self.step_loss = np.empty(len(order), np.float32)
        given = [*self.problem.weights, *self.problem.biases]
        for parameters, start in zip(self.weights + self.biases, given, strict=True):
            parameters[:] = start

    def train(self) -> None:
        self.first_moment[:] = 0
        self.second_moment[:] = 0
        for step, batch in enumerate(self.order):
            self.gather(batch)
            self.step_loss[step] = self.forward()
            self.backward()
            self.adam(step + 1)

    def gather(self, batch: NDArray[np.int64]) -> None:
        # mode="clip", because "raise" makes take write to a buffer first. Gathering bytes and converting the
        # batch takes no longer than gathering from a float copy of all images, which had to be made first.
        self.problem.data.X.take(batch, axis=0, out=self.gathered, mode="clip")
        self.problem.data.y.take(batch, out=self.target, mode="clip")
        if self.is_pixels:
            np.multiply(self.gathered, np.float32(1 / 255), out=self.activations[0])

    def forward(self) -> float:
        """Leave the batch's class probabilities in z; return the mean loss."""
        for layer, h in enumerate(self.activations[1:]):
            np.matmul(self.activations[layer], self.weights[layer], out=h)
            np.add(h, self.biases[layer], out=h)
            np.maximum(h, 0, out=h)
        np.matmul(self.weights[-1].T, self.activations[-1].T, out=self.z)
        self.z += self.biases[-1][:, None]
        self.z -= self.z.max(axis=0)
        target_logit = self.z[self.target, self.samples]
        np.exp(self.z, out=self.z)
        normalizer = self.z.sum(axis=0)
        self.z /= normalizer
        return float(np.mean(np.log(normalizer) - target_logit))

    def backward(self) -> None:
        """Leave the mean loss's gradient in d_arena; activations are overwritten by their own gradients."""
        self.z[self.target, self.samples] -= 1
        self.z *= np.float32(1 / len(self.samples))
        d_z = self.z.T
        for layer in reversed(range(len(self.weights))):
            h, active = self.activations[layer], self.is_active[layer]
            np.matmul(h.T, d_z, out=self.d_weights[layer])
            np.matmul(self.ones, d_z, out=self.d_biases[layer])  # the sum over samples, faster than sum()
            if layer > 0:
                np.greater(h, 0, out=active)
                np.matmul(d_z, self.weights[layer].T, out=h)
                h *= active
                d_z = h

    def adam(self, t: int) -> None:
        """Kingma & Ba (2015), Algorithm 1; moments lack their factors (1 - beta), which saves passes."""
        scale = np.sqrt((1 - BETA_2) / (1 - BETA_2**t))
        rate = np.float32(self.problem.case.learning_rate * (1 - BETA_1) / (1 - BETA_1**t) / scale)
        epsilon = np.float32(EPSILON / scale)
        for start in range(0, self.arena.size, BLOCK):
            block = slice(start, start + BLOCK)
            w, g = self.arena[block], self.d_arena[block]
            m, v = self.first_moment[block], self.second_moment[block]
            m *= np.float32(BETA_1)
            m += g
            g *= g
            v *= np.float32(BETA_2)
            v += g
            np.sqrt(v, out=g)
            g += epsilon
            np.divide(m, g, out=g)
            g *= rate
            w -= g

    def losses(self) -> Array:
        return self.step_loss

    def parameters(self) -> Parameters:
        return self.weights, self.biases


class Predict:
    version = np.__version__
    setting = "float32, in place"
    includes = "conversion of the samples, products, softmax"
    tolerance = FLOAT32_PROBABILITY

    def __init__(self, problem: Problem, threads: int) -> None:
        self.weights, self.biases = problem.weights, problem.biases

    def predict_proba(self, X: Samples) -> Array:
        h = as_floats(X)
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = h @ weights
            h += biases
            np.maximum(h, 0, out=h)
        z = h @ self.weights[-1]
        z += self.biases[-1]
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z


def parameter_arena(sizes: tuple[int, ...]) -> tuple[Array, list[Array], list[Array]]:
    """One array for all parameters, so that the optimiser is one loop; and each layer's views of it."""
    shapes = [shape for n_in, n_out in itertools.pairwise(sizes) for shape in [(n_in, n_out), (n_out,)]]
    ends = list(itertools.accumulate(int(np.prod(shape)) for shape in shapes))
    arena = np.empty(ends[-1], np.float32)
    views = [part.reshape(shape) for part, shape in zip(np.split(arena, ends[:-1]), shapes, strict=True)]
    return arena, views[0::2], views[1::2]
