"""fastmlp: what the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from problems import SEED, Parameters, Problem, Samples

import fastmlp
from fastmlp import Adam, Net

from . import BFLOAT16_LOSS, BFLOAT16_PROBABILITY, FLOAT32_LOSS, FLOAT32_PROBABILITY

Settings = Mapping[str, Any]


class Fit:
    version = fastmlp.__version__
    includes = "all of net.fit: checks, shuffling, packing, steps, history"
    tolerance = FLOAT32_LOSS
    precision = "float32"

    def __init__(self, problem: Problem, threads: int) -> None:
        # FASTMLP_NUM_THREADS, which the driver sets, is an upper limit: the library may use fewer if it pays.
        self.problem = problem
        self.reset(problem.order)
        self.setting = f"net.fit on {problem.data.X.dtype}, {self.precision}, {self.net.instruction_set}"
        for settings in (self.net_settings(), self.optimizer_settings(), self.fit_settings()):
            for name, value in settings.items():
                self.setting += f", {name}={'an array' if isinstance(value, np.ndarray) else value}"

    # What a feature changes, by where it is given.

    def net_settings(self) -> Settings:
        return {}

    def optimizer_settings(self) -> Settings:
        return {}

    def fit_settings(self) -> Settings:
        return {}

    def reset(self, order: NDArray[np.int64]) -> None:
        self.net = Net(
            self.problem.case.layer_sizes, precision=self.precision, seed=SEED, **self.net_settings()
        )
        # With batch normalisation biases have more rows; those of a new net are a plain one's zeros.
        biases = self.net.biases if any(self.net.batch_norm) else self.problem.biases
        self.net.set_weights(self.problem.weights, biases)
        self.steps = len(order)  # the net draws the same order itself

    def train(self) -> None:
        self.history = self.net.fit(
            self.problem.data.X,
            self.problem.data.y,
            steps=self.steps,
            batch_size=self.problem.case.batch_size,
            optimizer=Adam(self.problem.case.learning_rate, **self.optimizer_settings()),
            progress=False,
            **self.fit_settings(),
        )

    def losses(self) -> NDArray[np.float32]:
        return np.asarray(self.history.step_loss, np.float32)

    def parameters(self) -> Parameters:
        return self.net.weights, self.net.biases


class Bfloat16Fit(Fit):
    tolerance = BFLOAT16_LOSS
    precision = "mixed_bfloat16"


class Predict:
    version = fastmlp.__version__
    includes = "all of net.predict_proba"
    tolerance = FLOAT32_PROBABILITY
    precision = "float32"

    def __init__(self, problem: Problem, threads: int) -> None:
        self.net = loaded_net(problem, self.precision)
        self.setting = f"{problem.data.X.dtype}, {self.precision}, {self.net.instruction_set}"

    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        return self.net.predict_proba(X)


class Bfloat16Predict(Predict):
    tolerance = BFLOAT16_PROBABILITY
    precision = "mixed_bfloat16"


def loaded_net(problem: Problem, precision: str) -> Net:
    net = Net(problem.case.layer_sizes, activation="relu", precision=precision, seed=SEED)
    net.set_weights(problem.weights, problem.biases)
    return net
