"""How good predictions are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What `Net.evaluate` found.

    Attributes
    ----------
    loss : float
        Mean loss of the samples, weighted if there are weights; in nats, but for squared_error.
    accuracy : float
        Fraction of samples whose most probable class is the right one, in [0, 1]; with weights, the part that
        these have of all weight. With sigmoid_cross_entropy, of those all of whose labels are right; with
        squared_error, which knows no right and wrong, not a number (nan).
    confusion_matrix : numpy.ndarray
        int64 (n_classes, n_classes): how many samples of each class (row) were taken for each class (column).
        With sigmoid_cross_entropy (n_outputs, 2, 2), such a matrix for each label, with 0 before 1; with
        squared_error empty, (0, 0). Each sample counts once, whatever its weight.
    n_samples : int
        Number of samples.
    n_wrong : int or None
        Number of samples predicted wrongly; None with squared_error.
    is_weighted : bool
        Whether samples or classes have weights, which loss and accuracy take notice of.

    Examples
    --------
    >>> counts = confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), 2)
    >>> Evaluation(0.25, 0.75, counts, n_samples=4, n_wrong=1)
    <Evaluation: loss 0.2500, accuracy 75.00 % (1 of 4 samples wrong)>
    """

    loss: float
    accuracy: float
    confusion_matrix: NDArray[np.int64]
    n_samples: int
    n_wrong: int | None
    is_weighted: bool = False

    def __repr__(self) -> str:
        return f"<Evaluation: {self}>"

    def __str__(self) -> str:
        weighted = " (weighted)" if self.is_weighted else ""
        if self.n_wrong is None:
            return f"loss {self.loss:.4g}{weighted} ({self.n_samples:,} samples)"
        return (
            f"loss {self.loss:.4f}, accuracy {100 * self.accuracy:.2f} %{weighted} "
            f"({self.n_wrong:,} of {self.n_samples:,} samples wrong)"
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


def confusion_matrices(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count, for each of several labels, how often it was predicted with and without being true.

    Parameters
    ----------
    truth, predicted : numpy.ndarray
        bool (n_samples, n_labels).

    Returns
    -------
    numpy.ndarray
        int64 (n_labels, 2, 2); element (k, i, j) counts the samples for which label k is i and was taken for
        j.

    Examples
    --------
    >>> confusion_matrices(np.array([[True], [False], [True]]), np.array([[True], [True], [True]]))
    array([[[0, 1],
            [0, 2]]])
    """
    counts = [np.count_nonzero((truth == i) & (predicted == j), axis=0) for i in (0, 1) for j in (0, 1)]
    return np.stack(counts, axis=1).astype(np.int64, copy=False).reshape(-1, 2, 2)


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
