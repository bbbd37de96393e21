"""How good predictions are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `Net.evaluate` found.

    Attributes
    ----------
    loss : float
        Mean cross-entropy of the samples, in nats.
    accuracy : float
        Fraction of samples whose most probable class is the right one, in [0, 1].
    confusion_matrix : numpy.ndarray
        int64 (n_classes, n_classes): how many samples of each class (row) were taken for each class (column).
    n_samples : int
        Number of samples.

    Examples
    --------
    >>> print(Evaluation(0.25, 0.75, confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), 2), 4))
    loss 0.2500, accuracy 75.00 % (1 of 4 samples wrong)
    """

    loss: float
    accuracy: float
    confusion_matrix: NDArray[np.int64]
    n_samples: int

    def __str__(self) -> str:
        n_wrong = self.n_samples - int(np.trace(self.confusion_matrix))
        return (
            f"loss {self.loss:.4f}, accuracy {100 * self.accuracy:.2f} % "
            f"({n_wrong:,} of {self.n_samples:,} samples wrong)"
        )


def confusion_matrix(
    true_classes: NDArray[np.int64], predicted_classes: NDArray[np.int64], n_classes: int
) -> NDArray[np.int64]:
    """Count how many samples of each class were taken for each class.

    Parameters
    ----------
    true_classes, predicted_classes : numpy.ndarray
        int64 (n_samples,), each element from 0 to n_classes - 1.
    n_classes : int
        At least 1. The result takes 8 * n_classes**2 bytes.

    Returns
    -------
    numpy.ndarray
        int64 (n_classes, n_classes); element (i, j) counts the samples of class i that were taken for class
        j.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), 2)
    array([[1, 0],
           [1, 2]])
    """
    counts = np.bincount(true_classes * n_classes + predicted_classes, minlength=n_classes**2)
    return counts.astype(np.int64, copy=False).reshape(n_classes, n_classes)


def classes_of(targets: NDArray[np.int64] | NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the class of each sample: its label, or the most probable one (the first of equals).

    Parameters
    ----------
    targets : numpy.ndarray
        int64 labels (n_samples,), or float32 class probabilities (n_samples, n_classes).

    Returns
    -------
    numpy.ndarray
        int64 (n_samples,).

    Examples
    --------
    >>> classes_of(np.array([[0.1, 0.9], [1.0, 0.0]], np.float32))
    array([1, 0])
    """
    if targets.ndim == 1:
        return targets.astype(np.int64, copy=False)
    classes: NDArray[np.int64] = targets.argmax(axis=1).astype(np.int64, copy=False)
    return classes
