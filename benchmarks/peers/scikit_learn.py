"""scikit-learn's MLPClassifier: a private loop, so its start and its shuffles are its own."""

from __future__ import annotations

import warnings

import numpy as np
import sklearn
from cases import SEED, Problem
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier


class ScikitLearn:
    version = sklearn.__version__
    setting = "MLPClassifier on float32 input, no penalty, no early stopping"
    includes = "all of fit, and the float32 copy of the images that it needs; whole epochs only"
    same_start_and_order = False

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        self.epochs = max(1, round(problem.steps / problem.steps_per_epoch))

    def reset(self) -> None:
        case = self.problem.case
        self.model = MLPClassifier(
            hidden_layer_sizes=case.layer_sizes[1:-1],
            activation="relu",
            solver="adam",
            alpha=0.0,
            batch_size=case.batch_size,
            learning_rate_init=case.learning_rate,
            max_iter=self.epochs,
            n_iter_no_change=self.epochs + 1,
            random_state=SEED,
        )

    def train(self) -> None:
        X = np.multiply(self.problem.images, np.float32(1 / 255), dtype=np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is given
            self.model.fit(X, self.problem.labels)

    def losses(self) -> NDArray[np.float32]:
        """Return the mean loss of each epoch, once for each of its steps: the model keeps no more."""
        return np.repeat(np.asarray(self.model.loss_curve_, np.float32), self.problem.steps_per_epoch)

    def parameters(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        return self.model.coefs_, self.model.intercepts_
