"""The safetensors format, against the library of that name and against headers that lie."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import load, save

from fastmlp._safetensors import described_tensors, encode_header, read_tensors, write_tensors

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def arrays_of_all_types() -> dict[str, np.ndarray]:
    shapes = [(3,), (), (2, 0), (2, 3, 1)]
    return {
        f"{dtype} {shape}": (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
        for dtype in DTYPES
        for shape in shapes
    }


def written(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    file.write(encode_header(arrays, {"key": "value"}))
    write_tensors(file, arrays)
    return file.getvalue()


def read(data: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    file = io.BytesIO(data[8 + length :])
    return read_tensors(file, described_tensors(header, len(data) - 8 - length))


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        assert array.shape == right[name].shape
        assert np.array_equal(array, right[name])


def test_arrays_of_all_types_are_read_by_the_library() -> None:
    arrays = arrays_of_all_types()
    assert_same(arrays, load(written(arrays)))


def test_arrays_that_the_library_wrote_are_read() -> None:
    arrays = arrays_of_all_types()
    assert_same(arrays, read(save(arrays, {"key": "value"})))


def test_arrays_of_other_layouts_and_byte_order_are_written_as_their_values() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {"columns first": array.T, "every other": array[:, ::2], "big-endian": array.astype(">f4")}
    assert_same({name: value.astype("f4") for name, value in arrays.items()}, load(written(arrays)))


def test_array_read_is_writable_and_aligned_wherever_it_lies_in_the_file() -> None:
    header = {
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "number": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]},
    }
    arrays = read_tensors(io.BytesIO(b"\7" + struct.pack("<f", 1.5)), described_tensors(header, 5))
    assert arrays["number"] == 1.5
    assert arrays["number"].flags.aligned
    assert arrays["number"].flags.writeable


def test_file_that_gives_single_bytes_is_read() -> None:
    class Slow(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            return super().readinto(memoryview(buffer)[:1])

    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    arrays = read_tensors(Slow(struct.pack("<2f", 1, 2)), described_tensors(header, 8))
    assert arrays["a"].tolist() == [1, 2]


def test_file_cut_short_since_its_header_was_checked_is_refused() -> None:
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    with pytest.raises(ValueError, match="ends within tensor 'a'"):
        read_tensors(io.BytesIO(bytes(7)), described_tensors(header, 8))


SOUND = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F33"},
        {"dtype": "BF16", "shape": [4]},
        {"dtype": 3},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": 2},
        {"shape": [2**62, 2**62, 0], "data_offsets": [0, 0]},
        {"shape": [2] + [1] * 100},
        {"shape": [10**4000] * 900},  # whose product would take minutes
        {"data_offsets": [0]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [4, 12]},
        {"data_offsets": [0, 2**64]},
        {"data_offsets": "08"},
        {"further": 1},
    ],
)
def test_tensor_that_is_not_properly_described_is_refused(change: dict[str, Any]) -> None:
    described_tensors({"a": SOUND}, 8)
    with pytest.raises(ValueError, match=r"tensor 'a'|dimension|too big|it is"):
        read_tensors(io.BytesIO(bytes(8)), described_tensors({"a": SOUND | change}, 8))


numbers = st.integers(0, 9) | st.sampled_from([-1, True, 1.0, None, 2**63, 2**64])
descriptions = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "I8", "F32", "BOOL", "BF16", "X", 1]),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, min_size=1, max_size=3),
    }
)


@given(st.dictionaries(st.sampled_from("abc"), descriptions, max_size=3), st.integers(0, 12))
def test_what_the_library_refuses_is_refused(header: dict[str, Any], n_bytes: int) -> None:
    try:
        accepted = read_tensors(io.BytesIO(bytes(n_bytes)), described_tensors(header, n_bytes))
    except ValueError:
        return
    text = json.dumps(header).encode()
    try:
        stored = dict(deserialize(struct.pack("<Q", len(text)) + text + bytes(n_bytes)))
    except SafetensorError as error:
        raise AssertionError(f"the library refuses {header}: {error}") from error
    assert {name: list(array.shape) for name, array in accepted.items()} == {
        name: tensor["shape"] for name, tensor in stored.items()
    }
