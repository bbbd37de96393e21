"""The safetensors format: 8 bytes that tell a header's length, the header in JSON, and the tensors' bytes.

The format's own library is not used, since it ends the process when memory is short, and copies all tensors
twice. Here they go straight from the file into their arrays, and back.

References
----------
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp._validation import shortened

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_ALIGNMENT: Final = 8
_MAX_DIMENSIONS: Final = 64  # NumPy's; of these and of sizes up to 2**63 a product is quickly made
_METADATA: Final = "__metadata__"


class Tensor(NamedTuple):
    """What a header says of a tensor.

    Attributes
    ----------
    dtype : numpy.dtype
        Of its elements as they are in the file, little-endian.
    code : str
        The format's word for that, such as "F32".
    shape : tuple of int
        Its dimensions.
    begin, end : int
        Where its bytes are, counted from the header's end.
    """

    dtype: np.dtype[Any]
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def code_of(dtype: np.dtype[Any]) -> str:
    """Return the format's word for a type, such as "F32" for float32; KeyError if it has none."""
    return _CODES[dtype.newbyteorder("<")]


def encode_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return what precedes the tensors' bytes: the header with its length in front."""
    import json

    header: dict[str, object] = {_METADATA: dict(metadata)}
    begin = 0
    for name in _in_order(tensors):
        array = tensors[name]
        end = begin + array.nbytes
        header[name] = {
            "dtype": code_of(array.dtype),
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def write_tensors(file: BinaryIO, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write the tensors' bytes in the order of their header; C-contiguous arrays are not copied."""
    for name in _in_order(tensors):
        array = np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<"))
        file.write(array.reshape(-1).view(np.uint8).data)


def _in_order(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """Large elements first, so that all of them lie at multiples of their size."""
    return sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))


def described_tensors(header: Mapping[str, Any], n_bytes: int) -> dict[str, Tensor]:
    """Return what a decoded header without metadata says of the tensors, in the order of their bytes.

    Raises
    ------
    ValueError
        If a tensor is not properly described, or the tensors do not fill `n_bytes` to the last byte, each in
        a place of its own.
    """
    tensors = {name: _described_tensor(name, description) for name, description in header.items()}
    in_order = sorted(tensors, key=lambda name: (tensors[name].begin, tensors[name].end))
    end = 0
    for name in in_order:
        if tensors[name].begin != end:
            raise ValueError(
                f"tensor {shortened(repr(name))} begins at byte {shortened(tensors[name].begin)}, but the "
                f"one before it ends at {shortened(end)}."
            )
        end = tensors[name].end
    if end != n_bytes:
        raise ValueError(
            f"it is {'cut short' if end > n_bytes else 'too long'}: its tensors take {shortened(end)} bytes, "
            f"but {n_bytes:,} are there."
        )
    return {name: tensors[name] for name in in_order}


def _described_tensor(name: str, description: object) -> Tensor:
    shown = shortened(repr(name))
    match description:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **others}:
            numbers_are_sound = all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end))
        case _:
            raise ValueError(f"tensor {shown} is not described by dtype, shape and data_offsets.")
    if others or len(shape) > _MAX_DIMENSIONS or not numbers_are_sound:
        raise ValueError(f"tensor {shown} is not described by a possible dtype, shape and data_offsets.")
    if code not in _DTYPES:
        raise ValueError(f"tensor {shown} is of {shortened(code)}, which NumPy does not have.")
    dtype = _DTYPES[code]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"tensor {shown} of shape {shortened(tuple(shape))} takes {shortened(end - begin)} bytes."
        )
    return Tensor(dtype, code, tuple(shape), begin, end)


def read_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Read tensors in the order of their bytes, each into a new array in native byte order.

    Raises
    ------
    ValueError
        If the file ends too early, or a tensor has more dimensions than NumPy can hold.
    """
    arrays = {}
    for name, tensor in tensors.items():
        stored = np.empty(tensor.shape, np.uint8 if tensor.code == "BOOL" else tensor.dtype)
        rest = stored.reshape(-1).view(np.uint8).data
        while rest:
            n_read = file.readinto(rest)  # type: ignore[attr-defined]
            if not n_read:
                raise ValueError(f"it is cut short: it ends within tensor {shortened(repr(name))}.")
            rest = rest[n_read:]
        arrays[name] = stored.astype(tensor.dtype.newbyteorder("="), copy=False)
    return arrays
