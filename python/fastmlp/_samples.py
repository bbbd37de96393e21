"""The rows of X as the core takes them: in place where it can, else converted some rows at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES: Final = 32 * 2**20  # of converted rows at a time
_GATHER_BYTES: Final = 2**20  # of rows on their way from the user's type to the core's: stays in the cache
_CHUNK_WORK: Final = 10**9  # multiply-adds of a forward pass between two chances for Ctrl-C

_CHECKED_ROWS: Final = 64
_CHECKED_BYTES: Final = 2**16  # but two rows at least

CoreSamples = NDArray[np.uint8] | NDArray[np.float32]


class Samples:
    """Samples that a net can take, whatever the type and memory layout of the array they are in.

    Pixels (uint8) and float32 numbers that lie one after the other in memory are used where they are. All
    others are converted to float32, or copied if they are pixels, when they are needed, so that no array is
    copied as a whole.

    Parameters
    ----------
    X : numpy.ndarray
        Bools, integers or floats, (n_samples, ...) with n_features elements in each sample.
    n_features : int
        Features of each sample.
    name : str, default "X"
        What messages call the array.
    first_row : int, default 0
        The number that messages give to the first row.

    Attributes
    ----------
    in_place : numpy.ndarray or None
        All rows as the core takes them, without a copy, if the array can be used where it is.
    """

    def __init__(self, X: NDArray[Any], n_features: int, name: str = "X", first_row: int = 0) -> None:
        self.X = X
        self.name = name
        self.first_row = first_row
        self.n_features = n_features
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if X.dtype == np.uint8 else np.float32)
        in_place = X.dtype == self.dtype and X.flags.c_contiguous and X.flags.aligned
        self.in_place: CoreSamples | None = X.reshape(len(X), n_features) if in_place else None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def n_rows_at_a_time(self) -> int:
        """How many converted rows fill the memory that conversion may take; at least 1."""
        return max(1, CHUNK_BYTES // (self.n_features * self.dtype.itemsize))

    def gather(self, rows: slice | NDArray[np.int64]) -> CoreSamples:
        """Return these rows, C-contiguous; a slice of an array that is used in place is not copied."""
        if self.in_place is not None and isinstance(rows, slice):
            return self.in_place[rows]
        n_rows = len(rows) if not isinstance(rows, slice) else len(range(*rows.indices(len(self))))
        gathered = np.empty((n_rows, self.n_features), self.dtype)
        step = max(1, _GATHER_BYTES // max(1, self.n_features * self.X.dtype.itemsize))
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which the core reports
            for first in range(0, n_rows, step):
                last = min(first + step, n_rows)
                if isinstance(rows, slice):
                    start = rows.indices(len(self))[0]
                    piece = self.X[start + first : start + last]
                else:
                    piece = self.X[rows[first:last]]
                gathered[first:last] = piece.reshape(last - first, self.n_features)
        return gathered

    def spread(self, n_rows: int) -> NDArray[np.int64]:
        """Return the numbers of so many rows, evenly spread from the first to the last."""
        return np.linspace(0, len(self) - 1, n_rows).astype(np.int64)

    def checksum(self, *others: NDArray[Any] | None) -> int:
        """Return the CRC-32 of some rows, from the first to the last, with those rows of other arrays."""
        row_bytes = max(1, self.n_features * self.dtype.itemsize)
        n_rows = min(len(self), _CHECKED_ROWS, max(2, _CHECKED_BYTES // row_bytes))
        rows = self.spread(n_rows)
        checksum = 0
        for array in (self.gather(rows), *(other[rows] for other in others if other is not None)):
            checksum = zlib.crc32(array.dtype.str.encode(), checksum)
            checksum = zlib.crc32(array.data, checksum)
        return checksum

    def chunks(self, n_parameters: int) -> Iterator[slice]:
        """Divide the rows so that a forward pass over each part is short; the clock has no say in it."""
        rows = max(1, min(self.n_rows_at_a_time, _CHUNK_WORK // max(1, n_parameters)))
        for first in range(0, len(self), rows):
            yield slice(first, min(first + rows, len(self)))
