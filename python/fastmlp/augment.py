"""Random distortions of training images: shift, rotation, scale, shear, and elastic distortion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _core, _validation
from fastmlp._threads import MAX_THREADS, thread_count

_NO_ELASTIC: Final = (0.0, 1.0)  # alpha, sigma
_MAX_EPOCH: Final = 2**32 - 1


@dataclass(frozen=True)
class Elastic:
    """Elastic distortion, as by the uncontrolled movements of a hand.

    Each pixel is moved by a random displacement field: uniform noise between -alpha and alpha in each
    direction, smoothed by a Gaussian of standard deviation sigma. A small sigma tears images into pieces, a
    large one moves them as a whole; alpha says how far: the displacements that are left after smoothing have
    a standard deviation of about ``0.16 * alpha / sigma`` pixels.

    Parameters
    ----------
    alpha : float, default 34.0
        Largest displacement before smoothing, in pixels, from 0 to 10,000.
    sigma : float, default 4.0
        Standard deviation of the Gaussian, in pixels, greater than 0 and at most 100.

    Raises
    ------
    TypeError
        If a setting is not a real number.
    ValueError
        If a setting is outside of its range.

    Notes
    -----
    The noise has 256 levels, and is 0 outside of the image. The Gaussian is cut off at 3 sigma, and its sum
    made 1 again. Both are convolved in integers of 16 bits: fields are off by less than alpha / 500.

    References
    ----------
    P. Y. Simard, D. Steinkraus, J. C. Platt: Best practices for convolutional neural networks applied to
    visual document analysis, ICDAR 2003, section 2. The defaults are the paper's for MNIST.

    Examples
    --------
    >>> Elastic(alpha=8, sigma=3)
    Elastic(alpha=8.0, sigma=3.0)
    """

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        _validation.set_checked(self, "alpha", _validation.within(0, 10_000))
        _validation.set_checked(self, "sigma", _validation.within(0, 100, or_equal=False))


@dataclass(frozen=True)
class Augmentation:
    """How to distort images at random, so that a net sees more handwritings than there are.

    Each image draws its own numbers, uniform within the ranges given here, all of them 0 by default. It is
    scaled, then sheared, rotated, shifted, and distorted elastically, in one pass: every pixel of the result
    is interpolated (bilinear) between four pixels of the image. What comes from outside of the image is 0,
    the background.

    Parameters
    ----------
    shift : float, default 0.0
        Move by up to this many pixels, to left or right and up or down; from 0 to 10,000.
    rotation : float, default 0.0
        Rotate by up to this many degrees, in either direction, around the middle; from 0 to 180.
    scale : float, default 0.0
        Make width and height, each by itself, up to this fraction larger or smaller; 0.1 means factors from
        0.9 to 1.1. At least 0, less than 1.
    shear : float, default 0.0
        Lean vertical strokes to the left or right by up to this many degrees; from 0 to 80.
    elastic : Elastic, optional
        Elastic distortion; by default none.

    Raises
    ------
    TypeError
        If a setting is not a real number, or `elastic` not an `Elastic`.
    ValueError
        If a setting is outside of its range.

    Notes
    -----
    Pass it to `Net.fit` as ``augment=``: the core distorts the images of a batch on its way to the first
    layer, and stores none of them. What happens to an image depends on the net's seed, the number of the
    epoch in the net's life, and the image's index in X, and on nothing else. Calling it, as below, gives the
    very images that `Net.fit` trains on. All instruction sets with fused multiply-add give the same ones.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((3, 28, 28), np.uint8)
    >>> images[:, 10:18, 10:18] = 255
    >>> augmentation = Augmentation(shift=2, rotation=10, elastic=Elastic(alpha=34, sigma=4))
    >>> distorted = augmentation(images, seed=0)
    >>> distorted.shape, distorted.dtype, bool((distorted != images).any())
    ((3, 28, 28), dtype('uint8'), True)
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: Elastic | None = None

    def __post_init__(self) -> None:
        _validation.set_checked(self, "shift", _validation.within(0, 10_000))
        _validation.set_checked(self, "rotation", _validation.within(0, 180))
        _validation.set_checked(self, "scale", _validation.fraction)
        _validation.set_checked(self, "shear", _validation.within(0, 80))
        if self.elastic is not None:
            _validation.instance(self.elastic, Elastic, "elastic", "Elastic(alpha=34, sigma=4)")

    def __call__(
        self, images: ArrayLike, *, seed: int, epoch: int = 0, threads: int | None = None
    ) -> NDArray[np.uint8]:
        """Return distorted images.

        Parameters
        ----------
        images : array_like
            Pixels, uint8, (n_images, height, width), or (n_images, n_features) if they are square; at most
            2,048 pixels a side.
        seed : int
            In [0, 2**64); for the images of a fit, the net's.
        epoch : int, default 0
            From 0; for the images of a fit, how many epochs the net had begun before this one.
        threads : int, optional
            The most threads to use, from 1 to 1024; by default as for `Net.fit`.

        Returns
        -------
        numpy.ndarray
            uint8, in the shape of `images`.

        Raises
        ------
        TypeError
            If an argument is of a wrong type, such as images that are not uint8.
        ValueError
            If an argument is out of range, or the images are not square and their shape is not known.
        """
        array = _validation.real_array(images, "images")
        height, width = _validation.pixel_dimensions(array, "images")
        limit = thread_count(_validation.threads(threads, MAX_THREADS)).n_threads
        core = self._of_size(height, width, _validation.seed(seed))
        number = _validation.whole_number(epoch, "epoch", minimum=0, maximum=_MAX_EPOCH)
        pixels = np.require(array.reshape(len(array), height, width), np.uint8, ["C", "A"])
        return core.apply(pixels, number, limit).reshape(array.shape)

    def _of_size(self, height: int, width: int, seed: int) -> _core.Augmentation:
        elastic = self.elastic
        alpha, sigma = (elastic.alpha, elastic.sigma) if elastic is not None else _NO_ELASTIC
        return _core.Augmentation(
            height,
            width,
            seed=seed,
            shift=self.shift,
            rotation=self.rotation,
            scale=self.scale,
            shear=self.shear,
            alpha=alpha,
            sigma=sigma,
        )
