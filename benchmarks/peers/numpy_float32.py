"""NumPy, float32: the trainer that `fastmlp benchmark` uses too, and a plain forward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples, as_floats

from fastmlp._numpy_net import NumPyNet

from . import FLOAT32_LOSS, FLOAT32_PROBABILITY

Array = NDArray[np.float32]


class Fit:
    version = np.__version__
    setting = "float32, in place, batches gathered as they are in memory"
    includes = "gathering and converting each batch, steps"
    tolerance = FLOAT32_LOSS

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        self.net = NumPyNet(problem.case.layer_sizes, problem.case.batch_size)

    def reset(self, order: NDArray[np.int64]) -> None:
        self.order = order
        self.net.start(self.problem.weights, self.problem.biases)

    def train(self) -> None:
        data = self.problem.data
        self.step_loss = self.net.train(data.X, data.y, self.order, self.problem.case.learning_rate)

    def losses(self) -> Array:
        return self.step_loss

    def parameters(self) -> Parameters:
        return self.net.weights, self.net.biases


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
