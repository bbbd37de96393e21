"""Distorted images, naive and in float64 NumPy, against which the core's are held."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastmlp import Augmentation, _core

Float = NDArray[np.float64]
Integers = NDArray[np.int64]

PURPOSE_TRANSFORMATION, PURPOSE_DISPLACEMENT = 5, 6
TAP_SUM = 32767


def philox4x32_10(counters: NDArray[np.uint64], seed: int, purpose: int, stream: int) -> Integers:
    """Return the four words of each 64-bit counter, (n, 4): Salmon et al. (2011), section 3.3."""
    lower = np.uint64(0xFFFFFFFF)
    c = [counters & lower, counters >> np.uint64(32), np.full_like(counters, stream)]
    c.append(np.full_like(counters, purpose))
    key_0, key_1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product_0, product_1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (product_1 >> np.uint64(32)) ^ c[1] ^ np.uint64(key_0),
            product_1 & lower,
            (product_0 >> np.uint64(32)) ^ c[3] ^ np.uint64(key_1),
            product_0 & lower,
        ]
        key_0, key_1 = (key_0 + 0x9E3779B9) & 0xFFFFFFFF, (key_1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.int64)


def noise(
    seed: int, purpose: int, stream: int, first_counter: int, height: int, width: int
) -> tuple[Integers, Integers]:
    """Return the noise of x and y, from -32640 to 32640, as kernel_table.h's RandomFields describes it."""
    words_per_row = -(-((width + 1) // 2) // 16) * 16
    n_lines = height * words_per_row // 16
    line, lane = np.divmod(np.arange(16 * n_lines), 16)
    counters = np.uint64(first_counter) + (16 * (line // 4) + lane).astype(np.uint64)
    words = philox4x32_10(counters, seed, purpose, stream)[np.arange(16 * n_lines), line % 4]
    bytes_of = words[:, np.newaxis] >> np.array([0, 8, 16, 24]) & 0xFF
    values = (2 * (bytes_of ^ 0x80) - 255) * 128
    signed = values.reshape(height, words_per_row, 4)
    x, y = signed[:, :, 0::2], signed[:, :, 1::2]
    return x.reshape(height, -1)[:, :width], y.reshape(height, -1)[:, :width]


def convolved(field: NDArray[np.generic], taps: Sequence[float] | NDArray[np.generic]) -> NDArray[np.generic]:
    """Convolve each row with an odd number of taps; what is outside is 0."""
    radius = len(taps) // 2
    padded = np.pad(field, ((0, 0), (radius, radius)))
    return sum(tap * padded[:, i : i + field.shape[1]] for i, tap in enumerate(taps))


def integer_fields(
    fields: tuple[Integers, Integers], taps: NDArray[np.int16], scale: float
) -> list[NDArray[np.float32]]:
    """Convolve in integers, as the kernel says it does."""
    out = []
    for field in fields:
        along_rows = (convolved(field, taps.astype(np.int64)) + 2**14) >> 15
        sums = convolved(along_rows.T, taps.astype(np.int64)).T
        out.append(sums.astype(np.float32) * np.float32(scale))
    return out


def gaussian(sigma: float) -> Float:
    distance = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1) / sigma
    taps = np.exp(-0.5 * distance**2)
    return taps / taps.sum()


def displacement(
    alpha: float, sigma: float, seed: int, epoch: int, index: int, height: int, width: int
) -> list[Float]:
    """Return fields of the noise times alpha, convolved with a Gaussian, in pixels."""
    taps = gaussian(sigma)
    fields = noise(seed, PURPOSE_DISPLACEMENT, epoch, index << 20, height, width)
    return [convolved(convolved(alpha * field / 2**15, taps).T, taps).T for field in fields]


def coefficients(augmentation: Augmentation, seed: int, epoch: int, index: int, height: int, width: int):
    """Return the 2 x 3 matrix which takes (column, row, 1) of a pixel to where it comes from."""
    u = 2 * _core.philox_uniform(seed, PURPOSE_TRANSFORMATION, epoch, 8 * index + 6)[-6:] - 1
    shift_x, shift_y = augmentation.shift * u[:2]
    angle, shear = math.radians(augmentation.rotation * u[2]), math.radians(augmentation.shear * u[5])
    scaling = np.diag([1 + augmentation.scale * u[3], 1 + augmentation.scale * u[4], 1])
    # x points to the right and y down: counter-clockwise takes x to -y, and what is above leans to the right.
    rotation = np.array(
        [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    shearing = np.array([[1, -math.tan(shear), 0], [0, 1, 0], [0, 0, 1]])

    def translation(x: float, y: float) -> Float:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    x, y = (width - 1) / 2, (height - 1) / 2
    forward = (
        translation(x + shift_x, y + shift_y) @ rotation @ shearing @ scaling @ translation(-x, -y)
    )  # of points
    return np.linalg.inv(forward)[:2]


def resampled(image: NDArray[np.uint8], matrix: Float, fields: Sequence[Float] | None = None) -> Float:
    """Interpolate between the centres of pixels; outside of the image is 0. Not rounded."""
    height, width = image.shape
    row, column = np.mgrid[:height, :width]
    x, y = np.tensordot(matrix, np.stack([column, row, np.ones_like(row)]), axes=1)
    if fields is not None:
        x, y = x + fields[0], y + fields[1]

    def pixel(at_x: Float, at_y: Float) -> Float:
        inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
        return np.where(
            inside, image[np.where(inside, at_y, 0).astype(int), np.where(inside, at_x, 0).astype(int)], 0
        )

    left, top = np.floor(x), np.floor(y)
    right_part, lower_part = x - left, y - top
    upper = (1 - right_part) * pixel(left, top) + right_part * pixel(left + 1, top)
    lower = (1 - right_part) * pixel(left, top + 1) + right_part * pixel(left + 1, top + 1)
    return (1 - lower_part) * upper + lower_part * lower
