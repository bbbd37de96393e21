"""scikit-learn's MLPClassifier: its loop is private, so its start and its shuffles are its own."""

from __future__ import annotations

import warnings

import numpy as np
import sklearn
from numpy.typing import NDArray
from problems import SEED, Parameters, Problem, Samples, as_floats
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from . import FLOAT32_PROBABILITY


class Fit:
    version = sklearn.__version__
    setting = "MLPClassifier on float32 input, no penalty, no early stopping"
    includes = "all of fit, and the float32 copy of pixels that it needs; whole epochs only"
    tolerance = None

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem

    def reset(self, order: NDArray[np.int64]) -> None:
        case = self.problem.case
        self.epochs = max(1, round(len(order) / self.problem.steps_per_epoch))
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
        X = as_floats(self.problem.data.X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is given
            self.model.fit(X, self.problem.data.y)

    def losses(self) -> NDArray[np.float32]:
        """Return the mean loss of each epoch, once for each of its steps: the model keeps no more."""
        return np.repeat(np.asarray(self.model.loss_curve_, np.float32), self.problem.steps_per_epoch)

    def parameters(self) -> Parameters:
        weights, biases = self.model.coefs_, self.model.intercepts_
        if self.problem.case.layer_sizes[-1] == 2:  # it has one unit for two classes, the second one's logit
            weights = [*weights[:-1], np.hstack([np.zeros_like(weights[-1]), weights[-1]])]
            biases = [*biases[:-1], np.append(np.zeros_like(biases[-1]), biases[-1])]
        return weights, biases


class Predict:
    version = sklearn.__version__
    setting = "MLPClassifier.predict_proba"
    includes = "all of predict_proba, and the float32 copy of pixels that it needs"
    tolerance = FLOAT32_PROBABILITY

    def __init__(self, problem: Problem, threads: int) -> None:
        classes = np.arange(problem.case.layer_sizes[-1], dtype=np.uint8)
        self.model = MLPClassifier(problem.case.layer_sizes[1:-1], max_iter=1)
        X = np.zeros((len(classes), problem.case.layer_sizes[0]), np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(X, classes)  # makes all that predict_proba looks at
        self.model.coefs_, self.model.intercepts_ = list(problem.weights), list(problem.biases)

    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = self.model.predict_proba(as_floats(X))
        return probabilities
