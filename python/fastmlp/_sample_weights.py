"""How much each sample counts: what fit and evaluate are told of samples and classes, made one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp._shared_network import CoreTargets
from fastmlp.metrics import classes_of

ClassWeight = Mapping[int, float] | str
"""A weight for each class, or "balanced"."""

_BALANCED: Final = "balanced"


def combined_weights(
    sample_weight: object, class_weight: object, targets: CoreTargets, n_classes: int, loss: str
) -> NDArray[np.float32] | None:
    """Return the product of a sample's own weight and its class's, divided by the largest product.

    Only ratios of weights matter, and so none of them overflows float32.

    Parameters
    ----------
    sample_weight : array_like or None
        Real numbers (n_samples,), at least 0.
    class_weight : mapping, "balanced" or None
        See `Net.fit`.
    targets : numpy.ndarray
        Targets of the samples, as the core takes them.
    n_classes : int
        How many classes the net knows.
    loss : str
        The net's loss: only softmax_cross_entropy has classes.

    Returns
    -------
    numpy.ndarray or None
        float32 (n_samples,), from 0 to 1; None if all weights are 1.

    Raises
    ------
    TypeError, ValueError
        If a weight is not a finite number of at least 0, or all are 0; or class_weight is no such mapping.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(targets))
    if sample_weight is not None:
        weights = _validation.sample_weights(sample_weight, len(targets))
    if class_weight is not None:
        _validation.has_classes(loss)
        classes = classes_of(targets)
        by_class = _weight_of_each_class(class_weight, classes, n_classes)[classes]
        weights = _below_1(weights) * _below_1(by_class)
    largest = weights.max()
    if largest == 0:
        raise ValueError(_validation.ALL_WEIGHTS_ZERO)
    relative: NDArray[np.float32] = (weights / largest).astype(np.float32)
    return relative


def _below_1(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by a power of two, which is exact, so that none exceeds 1 and no product of two overflows."""
    _, exponent = np.frexp(weights.max())
    scaled: NDArray[np.float64] = np.ldexp(weights, -exponent)
    return scaled


def _weight_of_each_class(
    class_weight: object, classes: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    if isinstance(class_weight, str):
        _validation.one_of(class_weight, "class_weight", (_BALANCED,), "a dict such as {0: 1.0, 1: 10.0}")
        counts = np.bincount(classes, minlength=n_classes)
        present = np.maximum(counts, 1)  # a class without samples has no use for its weight
        return len(classes) / (np.count_nonzero(counts) * present)
    weights = np.ones(n_classes)
    for label, weight in _validation.class_weights(class_weight, n_classes).items():
        weights[label] = weight
    return weights
