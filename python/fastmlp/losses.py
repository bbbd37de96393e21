"""Losses: what a net's outputs mean, what its targets are, and how predictions are made and judged.

========================  ==============================  ===================================================
``Net(loss=...)``         Outputs are                     Targets are
========================  ==============================  ===================================================
softmax_cross_entropy     logits of classes that exclude  class labels (n_samples,) or class probabilities
                          one another                     (n_samples, n_classes)
sigmoid_cross_entropy     logits of labels that do not    probabilities, in [0, 1], of each label, mostly 0
                          (multi-label)                   or 1 (n_samples, n_outputs)
squared_error             the numbers themselves          real numbers (n_samples, n_outputs)
                          (regression)
========================  ==============================  ===================================================

With outputs z and targets t of one sample, whose loss is, in nats for the first two::

    softmax_cross_entropy   -sum(t * log(softmax(z)))
    sigmoid_cross_entropy   -mean(t * log(sigmoid(z)) + (1 - t) * log(1 - sigmoid(z)))
    squared_error           mean((z - t)**2)

Sum and means are over the outputs; the loss of a batch is the mean over its samples, sum(w * loss) / sum(w)
if they have weights w. These are the losses of PyTorch (CrossEntropyLoss, BCEWithLogitsLoss and MSELoss) and
Keras (CategoricalCrossentropy, BinaryCrossentropy and MeanSquaredError).

References
----------
C. M. Bishop: Pattern Recognition and Machine Learning, 2006, section 5.2: each loss is, up to a factor, the
negative logarithm of a likelihood, and its output unit that likelihood's canonical link.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._samples import CoreSamples
from fastmlp._shared_network import CoreTargets
from fastmlp.metrics import Evaluation, classes_of, confusion_matrices, confusion_matrix

Weights = NDArray[np.float32] | None
"""How much each sample counts, float32 (n_samples,); None: all alike."""


class Loss:
    """What all losses have."""

    name: ClassVar[str]
    has_accuracy: ClassVar[bool] = True

    def targets(self, y: object, n_samples: int, n_outputs: int, name: str, X_name: str) -> CoreTargets:
        """Return y as the core takes it, or raise TypeError or ValueError."""
        raise NotImplementedError

    def predicted(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return what `Net.predict` makes of the outputs (n_samples, n_outputs) of the last layer."""
        raise NotImplementedError

    def probabilities(self, network: _core.Network, X: CoreSamples, threads: int) -> NDArray[np.float32]:
        """Return what `Net.predict_proba` does."""
        raise NotImplementedError

    def probabilities_of_few(self, network: _core.Network, X: object) -> NDArray[np.float32] | None:
        """Return the same at once, if X is an array of a few samples, unchecked, for which that pays."""
        return None

    def evaluate(
        self, network: _core.Network, X: CoreSamples, targets: CoreTargets, weights: Weights, threads: int
    ) -> tuple[float, NDArray[Any]]:
        """Return the sum of the samples' losses, each times its weight, and what is predicted for each."""
        total, outputs = network.evaluate_outputs(X, targets, threads, weights)
        return total, self.predicted(outputs)

    def is_right(self, targets: CoreTargets, predicted: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return whether each sample is predicted rightly; None if there is no right and wrong."""
        raise NotImplementedError

    def evaluation(
        self, loss: float, targets: CoreTargets, weights: Weights, predicted: NDArray[Any], n_outputs: int
    ) -> Evaluation:
        """Return what `Net.evaluate` does, given the mean loss."""
        is_right = self.is_right(targets, predicted)
        matrix = self._confusion(targets, predicted, n_outputs)
        if is_right is None:
            return Evaluation(loss, float("nan"), matrix, len(targets), None, weights is not None)
        n_wrong = len(targets) - int(np.count_nonzero(is_right))
        accuracy = (len(targets) - n_wrong) / len(targets)
        if weights is not None:
            accuracy = float(np.average(is_right, weights=weights.astype(np.float64)))
        return Evaluation(loss, accuracy, matrix, len(targets), n_wrong, weights is not None)

    def _confusion(self, targets: CoreTargets, predicted: NDArray[Any], n_outputs: int) -> NDArray[np.int64]:
        raise NotImplementedError


class _SoftmaxCrossEntropy(Loss):
    name = "softmax_cross_entropy"

    def targets(self, y: object, n_samples: int, n_outputs: int, name: str, X_name: str) -> CoreTargets:
        return _validation.targets(y, n_samples, n_outputs, name, X_name)

    def predicted(self, outputs: NDArray[np.float32]) -> NDArray[np.int64]:
        classes: NDArray[np.int64] = outputs.argmax(axis=1)
        return classes

    def probabilities(self, network: _core.Network, X: CoreSamples, threads: int) -> NDArray[np.float32]:
        return network.softmax(X, threads)

    def probabilities_of_few(self, network: _core.Network, X: object) -> NDArray[np.float32] | None:
        return network.softmax_of_few(X)

    def evaluate(
        self, network: _core.Network, X: CoreSamples, targets: CoreTargets, weights: Weights, threads: int
    ) -> tuple[float, NDArray[np.int64]]:
        return network.evaluate(X, targets, threads, weights)  # without a copy of the logits

    def is_right(self, targets: CoreTargets, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = predicted == classes_of(targets)
        return right

    def _confusion(self, targets: CoreTargets, predicted: NDArray[Any], n_outputs: int) -> NDArray[np.int64]:
        return confusion_matrix(classes_of(targets), predicted, n_outputs)


class _SigmoidCrossEntropy(Loss):
    name = "sigmoid_cross_entropy"

    def targets(self, y: object, n_samples: int, n_outputs: int, name: str, X_name: str) -> CoreTargets:
        return _validation.label_rows(y, n_samples, n_outputs, name, X_name)

    def predicted(self, outputs: NDArray[np.float32]) -> NDArray[np.int64]:
        return _one_column_flat((outputs > 0).astype(np.int64))

    def probabilities(self, network: _core.Network, X: CoreSamples, threads: int) -> NDArray[np.float32]:
        return network.sigmoid(X, threads)

    def is_right(self, targets: CoreTargets, predicted: NDArray[Any]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = ((targets > 0.5) == predicted.reshape(targets.shape)).all(axis=1)
        return right

    def _confusion(self, targets: CoreTargets, predicted: NDArray[Any], n_outputs: int) -> NDArray[np.int64]:
        return confusion_matrices(targets > 0.5, predicted.reshape(targets.shape) > 0)


class _SquaredError(Loss):
    name = "squared_error"
    has_accuracy = False

    def targets(self, y: object, n_samples: int, n_outputs: int, name: str, X_name: str) -> CoreTargets:
        return _validation.number_rows(y, n_samples, n_outputs, name, X_name)

    def predicted(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return _one_column_flat(outputs)

    def probabilities(self, network: _core.Network, X: CoreSamples, threads: int) -> NDArray[np.float32]:
        raise ValueError(_validation.NO_PROBABILITIES)

    def is_right(self, targets: CoreTargets, predicted: NDArray[Any]) -> None:
        return None

    def _confusion(self, targets: CoreTargets, predicted: NDArray[Any], n_outputs: int) -> NDArray[np.int64]:
        return np.zeros((0, 0), np.int64)


def _one_column_flat(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[:, 0] if rows.shape[1] == 1 else rows


_ALL: Final = (_SoftmaxCrossEntropy(), _SigmoidCrossEntropy(), _SquaredError())


def loss_named(name: object) -> Loss:
    """Return the loss of this name, or raise TypeError or ValueError."""
    checked = _validation.one_of(name, "loss", _validation.LOSSES)
    return next(loss for loss in _ALL if loss.name == checked)
