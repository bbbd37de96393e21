"""Initial weights: the four usual distributions, and a normal one of the user's choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._random import PURPOSE_BIASES, PURPOSE_WEIGHTS


@dataclass(frozen=True)
class Normal:
    """Normally distributed initial weights, the same for every layer.

    Parameters
    ----------
    mean : float
        Mean of the weights.
    std : float
        Standard deviation of the weights, at least 0.
    bias_too : bool, default False
        Whether the biases are drawn from the same distribution; otherwise they are zero.

    Raises
    ------
    TypeError
        If `mean` or `std` is not a real number, or `bias_too` is not a bool.
    ValueError
        If a number is not finite, `std` is negative, or float32 could not hold the weights.

    Examples
    --------
    The lesson's own start:

    >>> Normal(0.5, 0.7, bias_too=True)
    Normal(mean=0.5, std=0.7, bias_too=True)
    """

    mean: float
    std: float
    bias_too: bool = False

    def __post_init__(self) -> None:
        _validation.set_checked(self, "mean", _validation.float32_number)
        _validation.set_checked(self, "std", _validation.float32_number)
        _validation.set_checked(self, "bias_too", _validation.boolean)
        if self.std < 0:
            raise ValueError(f"std must be at least 0, not {self.std:g}.")


Initializer = str | Normal
"""The name of a distribution, or a Normal."""


# What a layer's weights are made of: fan_in and fan_out to the standard deviation, or half the width, of the
# distribution.
_NORMAL: dict[str, Callable[[int, int], float]] = {
    "he_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "glorot_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
}
_UNIFORM: dict[str, Callable[[int, int], float]] = {
    "he_uniform": lambda fan_in, fan_out: math.sqrt(6 / fan_in),
    "glorot_uniform": lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out)),
}
NAMES = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform")


def checked_initializer(initializer: object) -> Initializer:
    """Return `initializer` if it is one of the names or a Normal, else raise TypeError or ValueError."""
    if isinstance(initializer, Normal):
        return initializer
    return _validation.one_of(initializer, "initializer", NAMES, or_else="fastmlp.Normal(mean, std)")


def initial_parameters(
    layer_sizes: Sequence[int], initializer: Initializer, seed: int, batch_norm: Sequence[bool] = ()
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Draw the weights and biases that training starts from.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units of each layer, inputs first.
    initializer : str or Normal
        ``he_normal``: N(0, 2 / fan_in) (mean, variance); ``he_uniform``: U(-a, a) with a**2 = 6 / fan_in;
        ``glorot_normal``: N(0, 2 / (fan_in + fan_out)); ``glorot_uniform``: U(-a, a) with a**2 = 6 / (fan_in
        + fan_out); or a Normal. Biases are 0 unless the latter says otherwise. Nothing is truncated.
    seed : int
        In [0, 2**64). The numbers of a layer depend on the seed and on which layer it is, not on NumPy's
        generators.
    batch_norm : sequence of bool, optional
        For each hidden layer, whether it has batch normalisation.

    Returns
    -------
    weights : list of numpy.ndarray
        One float32 array (n_inputs, n_outputs) for each layer after the first.
    biases : list of numpy.ndarray
        One float32 array (n_outputs,) for each of them; with batch normalisation (4, n_outputs): shift, scale
        (1), running mean (0) and running variance (1).

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun: Delving Deep into Rectifiers, ICCV 2015, equation
    10. X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010, equations 12 and 16.

    Examples
    --------
    >>> weights, biases = initial_parameters([784, 200, 10], "he_normal", seed=0)
    >>> [w.shape for w in weights], round(float(weights[0].std() * (784 / 2) ** 0.5), 1)
    ([(784, 200), (200, 10)], 1.0)
    """
    weights, biases = [], []
    for layer, (n_inputs, n_outputs) in enumerate(pairwise(layer_sizes)):
        drawn = _draw(initializer, (seed, PURPOSE_WEIGHTS, layer), n_inputs, n_outputs)
        weights.append(drawn.reshape(n_inputs, n_outputs))
        if isinstance(initializer, Normal) and initializer.bias_too:
            biases.append(_draw(initializer, (seed, PURPOSE_BIASES, layer), 1, n_outputs))
        else:
            biases.append(np.zeros(n_outputs, np.float32))
    for layer, has_norm in enumerate(batch_norm):
        if has_norm:
            shift = biases[layer]
            biases[layer] = np.stack([shift, np.ones_like(shift), np.zeros_like(shift), np.ones_like(shift)])
    return weights, biases


def _draw(
    initializer: Initializer, address: tuple[int, int, int], n_inputs: int, n_outputs: int
) -> NDArray[np.float32]:
    n = n_inputs * n_outputs
    if isinstance(initializer, Normal):
        return _core.scaled_normal(*address, n, initializer.std, initializer.mean)
    if initializer in _NORMAL:
        return _core.scaled_normal(*address, n, _NORMAL[initializer](n_inputs, n_outputs), 0.0)
    half_width = _UNIFORM[initializer](n_inputs, n_outputs)
    return _core.scaled_uniform(*address, n, 2 * half_width, -half_width)
