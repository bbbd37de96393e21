"""A net and its training in plain NumPy: what fastmlp is measured against where nothing else is installed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float32]
_Samples = NDArray[np.uint8] | NDArray[np.float32]
_Labels = NDArray[np.uint8] | NDArray[np.int64]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
_BLOCK: Final = (
    1 << 16
)  # elements per pass of Adam: four arrays of 256 kB stay in the second level of the cache


class NumPyNet:
    """A ReLU net that ends in softmax, trained by Adam on cross-entropy, in float32.

    It is as fast as NumPy's own functions allow: nothing large is allocated inside of the loop, and every
    operation works in place.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units of each layer, inputs first and classes last.
    batch_size : int
        Samples of every batch.

    Attributes
    ----------
    weights, biases : list of numpy.ndarray
        float32 (n_inputs, n_outputs) and (n_outputs,), one for each layer; assigned by `start`.

    Examples
    --------
    >>> import numpy as np
    >>> net = NumPyNet([4, 2], batch_size=2)
    >>> net.start([np.zeros((4, 2), np.float32)], [np.zeros(2, np.float32)])
    >>> images, labels = np.eye(4, dtype=np.uint8), np.array([0, 1, 0, 1])
    >>> losses = net.train(images, labels, np.array([[0, 1], [2, 3]]), learning_rate=0.1)
    >>> round(float(losses[0]), 4)  # two equally probable classes
    0.6931
    """

    def __init__(self, layer_sizes: Sequence[int], batch_size: int) -> None:
        self._arena, self.weights, self.biases = _parameter_arena(layer_sizes)
        self._d_arena, self._d_weights, self._d_biases = _parameter_arena(layer_sizes)
        self._first_moment, self._second_moment = np.empty_like(self._arena), np.empty_like(self._arena)

        self._pixels = np.empty((batch_size, layer_sizes[0]), np.uint8)
        self._target = np.empty(batch_size, np.int64)
        self._activations = [np.empty((batch_size, size), np.float32) for size in layer_sizes[:-1]]
        self._is_active = [np.empty((batch_size, size), np.bool_) for size in layer_sizes[:-1]]
        # A column per sample: sums over classes then add long rows, which NumPy does several times faster.
        self._z = np.empty((layer_sizes[-1], batch_size), np.float32)
        self._samples = np.arange(batch_size)
        self._ones = np.ones(batch_size, np.float32)

    def start(self, weights: Sequence[_Array], biases: Sequence[_Array]) -> None:
        """Set all weights and biases, and Adam's moments to zero."""
        given = [*weights, *biases]
        for parameters, start in zip(self.weights + self.biases, given, strict=True):
            parameters[:] = start
        self._first_moment[:] = 0
        self._second_moment[:] = 0
        self._n_steps = 0

    def train(self, X: _Samples, labels: _Labels, order: NDArray[np.int64], learning_rate: float) -> _Array:
        """Do a step for each row of `order`.

        Parameters
        ----------
        X : numpy.ndarray
            (n, n_features): uint8, of which a pixel p means p / 255; or float32.
        labels : numpy.ndarray
            uint8 or int64 (n,): the class of each sample.
        order : numpy.ndarray
            int64 (steps, batch_size): the samples of each batch.
        learning_rate : float
            Adam's.

        Returns
        -------
        numpy.ndarray
            float32 (steps,): mean loss of each batch before its step, in nats.
        """
        losses = np.empty(len(order), np.float32)
        for step, batch in enumerate(order):
            self._gather(X, labels, batch)
            losses[step] = self._forward()
            self._backward()
            self._n_steps += 1
            self._adam(self._n_steps, learning_rate)
        return losses

    def _gather(self, X: _Samples, labels: _Labels, batch: NDArray[np.int64]) -> None:
        # mode="clip", because "raise" makes take write to a buffer first. Gathering bytes and converting the
        # batch takes no longer than gathering from a float copy of all samples, which had to be made first.
        self._target[:] = labels[batch]
        if X.dtype == np.uint8:
            X.take(batch, axis=0, out=self._pixels, mode="clip")
            np.multiply(self._pixels, np.float32(1 / 255), out=self._activations[0])
        else:
            X.take(batch, axis=0, out=self._activations[0], mode="clip")

    def _forward(self) -> float:
        """Leave the batch's class probabilities in _z; return the mean loss."""
        for layer, h in enumerate(self._activations[1:]):
            np.matmul(self._activations[layer], self.weights[layer], out=h)
            np.add(h, self.biases[layer], out=h)
            np.maximum(h, 0, out=h)
        np.matmul(self.weights[-1].T, self._activations[-1].T, out=self._z)
        self._z += self.biases[-1][:, None]
        self._z -= self._z.max(axis=0)
        target_logit = self._z[self._target, self._samples]
        np.exp(self._z, out=self._z)
        normalizer = self._z.sum(axis=0)
        self._z /= normalizer
        return float(np.mean(np.log(normalizer) - target_logit))

    def _backward(self) -> None:
        """Leave the mean loss's gradient in _d_arena; activations are overwritten by their own gradients."""
        self._z[self._target, self._samples] -= 1
        self._z *= np.float32(1 / len(self._samples))
        d_z = self._z.T
        for layer in reversed(range(len(self.weights))):
            h, active = self._activations[layer], self._is_active[layer]
            np.matmul(h.T, d_z, out=self._d_weights[layer])
            np.matmul(self._ones, d_z, out=self._d_biases[layer])  # the sum over samples, faster than sum()
            if layer > 0:
                np.greater(h, 0, out=active)
                np.matmul(d_z, self.weights[layer].T, out=h)
                h *= active
                d_z = h

    def _adam(self, t: int, learning_rate: float) -> None:
        """Kingma & Ba (2015), Algorithm 1; moments lack their factors (1 - beta), which saves passes."""
        scale = np.sqrt((1 - _BETA_2) / (1 - _BETA_2**t))
        rate = np.float32(learning_rate * (1 - _BETA_1) / (1 - _BETA_1**t) / scale)
        epsilon = np.float32(_EPSILON / scale)
        for start in range(0, self._arena.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            w, g = self._arena[block], self._d_arena[block]
            m, v = self._first_moment[block], self._second_moment[block]
            m *= np.float32(_BETA_1)
            m += g
            g *= g
            v *= np.float32(_BETA_2)
            v += g
            np.sqrt(v, out=g)
            g += epsilon
            np.divide(m, g, out=g)
            g *= rate
            w -= g


def _parameter_arena(layer_sizes: Sequence[int]) -> tuple[_Array, list[_Array], list[_Array]]:
    """One array for all parameters, so that the optimiser is one loop; and each layer's views of it."""
    pairs = list(itertools.pairwise(layer_sizes))
    shapes: list[tuple[int, ...]] = [shape for n_in, n_out in pairs for shape in ((n_in, n_out), (n_out,))]
    ends = list(itertools.accumulate(int(np.prod(shape)) for shape in shapes))
    arena = np.empty(ends[-1], np.float32)
    views = [part.reshape(shape) for part, shape in zip(np.split(arena, ends[:-1]), shapes, strict=True)]
    return arena, views[0::2], views[1::2]
