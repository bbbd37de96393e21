"""The masks of dropout in plain NumPy, number by number as kernel_table.h's DropoutMask describes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from augment_reference import philox4x32_10
from reference import Dropped

PURPOSE_DROPOUT = 7


def kept_columns(
    seed: int, layer: int, epoch: int, rows: NDArray[np.int64], n_columns: int, rate: float
) -> NDArray[np.bool_]:
    """Return which columns these rows of an epoch keep, (n, n_columns)."""
    column = np.arange(n_columns)
    low = (16 * (column // 128) + column % 16).astype(np.uint64)
    counters = rows.astype(np.uint64)[:, np.newaxis] << np.uint64(32) | low
    words = philox4x32_10(counters.ravel(), seed, PURPOSE_DROPOUT + (layer << 16), epoch)
    word, half = np.divmod(column % 128 // 16, 2)
    numbers = words.reshape(len(rows), n_columns, 4)[:, column, word] >> 16 * half & 0xFFFF
    return numbers >= threshold(rate)


def threshold(rate: float) -> int:
    return min(round(rate * 2**16), 2**16 - 1)


def dropped_inputs(
    seed: int, rates: Sequence[float], sizes: Sequence[int], rows: NDArray[np.int64], epoch: int = 0
) -> list[Dropped | None]:
    """Return what a trainer drops of the inputs of each layer, of these rows of an epoch."""
    return [
        Dropped(kept_columns(seed, layer, epoch, rows, n_columns, rate), 2**16 / (2**16 - threshold(rate)))
        if threshold(rate)
        else None
        for layer, (n_columns, rate) in enumerate(zip(sizes[:-1], rates, strict=True))
    ]
