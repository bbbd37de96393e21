"""fastmlp: what the others are compared with."""

from __future__ import annotations

import numpy as np
from cases import SEED, Problem
from numpy.typing import NDArray

import fastmlp
from fastmlp import Adam, Net


class FastMlp:
    version = fastmlp.__version__
    includes = "all of net.fit: checks, shuffling, packing, steps, history"
    same_start_and_order = True

    def __init__(self, problem: Problem, threads: int) -> None:
        # FASTMLP_NUM_THREADS, which the driver sets, is an upper limit: the library may use fewer if it pays.
        self.problem = problem
        self.reset()
        self.setting = f"net.fit on uint8 images, {self.net.instruction_set}"

    def reset(self) -> None:
        self.net = Net(self.problem.case.layer_sizes, activation="relu", seed=SEED)
        self.net.set_weights(self.problem.weights, self.problem.biases)

    def train(self) -> None:
        self.history = self.net.fit(
            self.problem.images,
            self.problem.labels,
            steps=self.problem.steps,
            batch_size=self.problem.case.batch_size,
            optimizer=Adam(self.problem.case.learning_rate),
            progress=False,
        )

    def losses(self) -> NDArray[np.float32]:
        return np.asarray(self.history.step_loss, np.float32)

    def parameters(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        return self.net.weights, self.net.biases
