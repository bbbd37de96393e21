"""NumPy, float32: the trainer that `fastmlp benchmark` uses too."""

from __future__ import annotations

import numpy as np
from cases import Problem
from numpy.typing import NDArray

from fastmlp._numpy_net import NumPyNet

Array = NDArray[np.float32]


class NumPy:
    version = np.__version__
    setting = "float32, in place, batches gathered as uint8"
    includes = "gathering and converting each batch, steps"
    same_start_and_order = True

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        self.net = NumPyNet(problem.case.layer_sizes, problem.case.batch_size)

    def reset(self) -> None:
        self.net.start(self.problem.weights, self.problem.biases)

    def train(self) -> None:
        problem = self.problem
        self.step_loss = self.net.train(
            problem.images, problem.labels, problem.order, problem.case.learning_rate
        )

    def losses(self) -> Array:
        return self.step_loss

    def parameters(self) -> tuple[list[Array], list[Array]]:
        return self.net.weights, self.net.biases
