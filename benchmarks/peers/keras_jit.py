"""Keras on JAX, which was found faster than on TensorFlow with jit_compile; its shuffles are its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples

from . import FLOAT32_PROBABILITY

STEPS_PER_EXECUTION = 16  # with more, compiling takes long and a step no less


class Fit:
    version = keras.__version__
    setting = f"backend {keras.backend.backend()}, jit, {STEPS_PER_EXECUTION} steps per execution"
    includes = "all of fit; not compiling (see its first run)"
    tolerance = None

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        self.y = problem.data.y.astype(np.int32)
        self.model = make_model(problem)

    def reset(self, order: NDArray[np.int64]) -> None:
        case = self.problem.case
        self.epochs, self.rest = divmod(len(order), self.problem.steps_per_epoch)
        load(self.model, self.problem)
        self.model.compile(
            optimizer=keras.optimizers.Adam(case.learning_rate, epsilon=1e-8),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
            steps_per_execution=min(STEPS_PER_EXECUTION, self.problem.steps_per_epoch, len(order)),
        )

    def train(self) -> None:
        self.fits = []
        if self.epochs:
            self.fits.append(self.fit(self.epochs, None))
        if self.rest:
            self.fits.append(self.fit(1, self.rest))

    def fit(self, epochs: int, steps_per_epoch: int | None) -> Any:
        batch_size = self.problem.case.batch_size
        # Given all samples and a number of steps, Keras takes whole executions, 32 steps for 20.
        n = len(self.y) if steps_per_epoch is None else steps_per_epoch * batch_size
        return self.model.fit(
            self.problem.data.X[:n],
            self.y[:n],
            batch_size=batch_size,
            epochs=epochs,
            shuffle=True,
            verbose=0,
        )

    def losses(self) -> NDArray[np.float32]:
        """Return the mean loss of each epoch, once for each of its steps: fit keeps no more."""
        of_epochs = [loss for fit in self.fits for loss in fit.history["loss"]]
        steps = [self.problem.steps_per_epoch] * self.epochs + [self.rest] * (self.rest > 0)
        return np.repeat(np.asarray(of_epochs, np.float32), steps)

    def parameters(self) -> Parameters:
        arrays = self.model.get_weights()
        return arrays[0::2], arrays[1::2]


class Predict:
    version = keras.__version__
    setting = f"backend {keras.backend.backend()}, jit, predict_on_batch"
    includes = "all of predict_on_batch; not compiling"
    tolerance = FLOAT32_PROBABILITY

    def __init__(self, problem: Problem, threads: int) -> None:
        self.model = make_model(problem)
        load(self.model, problem)
        self.model.add(keras.layers.Softmax())
        self.model.compile(jit_compile=True)

    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        array: NDArray[np.float32] = np.asarray(self.model.predict_on_batch(X))
        return array


def make_model(problem: Problem) -> Any:
    n_features, *hidden, n_classes = problem.case.layer_sizes
    dtype = problem.data.X.dtype.name
    return keras.Sequential(
        [
            keras.layers.Input((n_features,), dtype=dtype),
            *([keras.layers.Rescaling(1 / 255)] if dtype == "uint8" else []),
            *(keras.layers.Dense(size, activation="relu") for size in hidden),
            keras.layers.Dense(n_classes),
        ]
    )


def load(model: Any, problem: Problem) -> None:
    pairs = zip(problem.weights, problem.biases, strict=True)
    model.set_weights([array for layer in pairs for array in layer])
