"""The IDX reader and writer: what the format says, and what hostile files try."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from fastmlp import idx
from fastmlp.errors import IdxFormatError

TYPES = ["u1", "i1", "i2", "i4", "f4", "f8"]
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
MEGABYTE = 2**20


def header(code: int, *dimensions: int) -> bytes:
    return struct.pack(f">HBB{len(dimensions)}I", 0, code, len(dimensions), *dimensions)


def read_bytes(data: bytes, **options: int) -> np.ndarray:
    return idx.read(io.BytesIO(data), **options)


class OneByteAtATime(io.RawIOBase):
    """A file that cannot seek, gives one byte a time and takes at most three."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.written = bytearray()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        part, self.data = self.data[:1], self.data[1:]
        return part

    def write(self, data: bytes) -> int:
        self.written += bytes(data[:3])
        return min(len(data), 3)


# What the format says


@pytest.mark.parametrize("letters", TYPES)
def test_read_each_type_gives_native_order(letters: str) -> None:
    values = np.array([[1, 2, 3], [4, 5, 100]], dtype=f">{letters}")

    array = read_bytes(header(CODES[letters], 2, 3) + values.tobytes())

    assert array.dtype == np.dtype(letters) and array.dtype.isnative
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("letters", TYPES)
def test_write_each_type_and_order_is_big_endian(letters: str) -> None:
    for order in "<>":
        file = io.BytesIO()
        idx.write(file, np.array([1, -2 if letters[0] != "u" else 2, 3], dtype=f"{order}{letters}"))
        expected = np.array([1, -2 if letters[0] != "u" else 2, 3], dtype=f">{letters}")
        assert file.getvalue() == header(CODES[letters], 3) + expected.tobytes()


def test_read_file_without_dimensions_gives_one_element() -> None:
    array = read_bytes(header(0x0C) + b"\0\0\1\0")
    assert array.shape == () and array == 256


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (3, 0), (0, 0)])
def test_read_dimension_of_zero_gives_empty_array(shape: tuple[int, ...]) -> None:
    assert read_bytes(header(0x0D, *shape)).shape == shape


def test_read_many_dimensions() -> None:
    shape = (1,) * 31 + (2,)
    assert read_bytes(header(0x08, *shape) + b"ab").shape == shape


def test_read_leaves_file_open_and_starts_where_it_stands() -> None:
    file = io.BytesIO(b"something else" + header(0x08, 1) + b"\7")
    file.seek(14)
    assert idx.read(file) == [7]
    assert not file.closed


def test_read_result_is_independent_of_the_file() -> None:
    data = bytearray(header(0x08, 3) + b"abc")
    first, second = read_bytes(bytes(data)), read_bytes(bytes(data))
    first[:] = 0
    assert second.tobytes() == b"abc"


@pytest.mark.parametrize("compress", [False, True])
def test_read_and_write_file_that_cannot_seek(compress: bool) -> None:
    array = np.arange(1000, dtype=np.int16).reshape(10, 100)
    file = OneByteAtATime()
    idx.write(file, array, compress=compress)
    np.testing.assert_array_equal(idx.read(OneByteAtATime(bytes(file.written))), array)


def test_read_from_pipe() -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as file:  # noqa: PTH123
        idx.write(file, np.arange(100, dtype=np.float64))
    with open(reading, "rb") as file:  # noqa: PTH123
        np.testing.assert_array_equal(idx.read(file), np.arange(100.0))


def test_read_goes_by_content_not_by_name(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8)
    idx.write(tmp_path / "plain.gz", array, compress=False)
    idx.write(tmp_path / "packed", array, compress=True)
    assert (tmp_path / "plain.gz").read_bytes()[:2] == b"\0\0"
    assert (tmp_path / "packed").read_bytes()[:2] == b"\x1f\x8b"
    np.testing.assert_array_equal(idx.read(tmp_path / "plain.gz"), array)
    np.testing.assert_array_equal(idx.read(str(tmp_path / "packed")), array)


def test_read_gzip_of_several_members_is_one_file() -> None:
    data = header(0x08, 300) + bytes(range(256)) + bytes(44)
    parts = [data[:3], b"", data[3:100], data[100:]]
    array = read_bytes(b"".join(gzip.compress(part) for part in parts))
    assert array.tobytes() == data[8:]


def test_read_gzip_with_name_comment_and_header_crc() -> None:
    data = header(0x08, 2) + b"ab"
    packer = zlib.compressobj(wbits=-15)
    deflated = packer.compress(data) + packer.flush()
    start = b"\x1f\x8b\x08" + bytes([0x02 | 0x04 | 0x08 | 0x10]) + bytes(4) + b"\0\3"
    start += b"\3\0xyz" + b"name\0" + b"comment\0"
    start += struct.pack("<H", zlib.crc32(start) & 0xFFFF)
    assert read_bytes(start + deflated + struct.pack("<II", zlib.crc32(data), len(data))).tobytes() == b"ab"


def test_write_name_ending_in_gz_compresses(tmp_path: Path) -> None:
    idx.write(tmp_path / "a.gz", np.zeros(1000, np.uint8))
    assert (tmp_path / "a.gz").stat().st_size < 100


def test_write_gzip_twice_gives_same_bytes(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.int32)
    idx.write(tmp_path / "a.gz", array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 4e9)
        idx.write(tmp_path / "other.gz", array)
    packed = (tmp_path / "a.gz").read_bytes()
    assert packed == (tmp_path / "other.gz").read_bytes()
    assert packed[3:8] == bytes(5)  # no name, no comment, no time
    assert gzip.decompress(packed) == header(0x0C, 1000) + array.astype(">i4").tobytes()


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: a[::-1, ::-2],
        lambda a: a.T,
        lambda a: np.broadcast_to(a[:1], (7, *a.shape)),
    ],
    ids=["fortran", "strided", "transposed", "broadcast"],
)
def test_write_any_layout_is_c_order(layout) -> None:
    array = layout(np.arange(600 * 700, dtype=np.float32).reshape(600, 700))
    array.flags.writeable = False
    file = io.BytesIO()
    idx.write(file, array)
    assert file.getvalue() == header(0x0D, *array.shape) + np.ascontiguousarray(array, ">f4").tobytes()


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros(3, np.int64), "astype(np.int32)"),
        (np.zeros(3, bool), "astype(np.uint8)"),
        (np.zeros(3, np.uint16), "astype(np.uint8)"),
        (np.zeros(3, np.float16), "astype(np.float32)"),
        (np.zeros(3, complex), "complex128"),
        (np.array(["a"]), "<U1"),
        (np.array([None]), "object"),
        (np.zeros(3, [("a", "u1")]), "float64"),
        ([1, 2], "astype(np.int32)"),
    ],
)
def test_write_other_type_raises_with_advice(array, advice: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="IDX files hold uint8") as caught:
        idx.write(tmp_path / "a", array)
    assert advice in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write_dimension_over_32_bits_raises() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        idx.write(io.BytesIO(), np.broadcast_to(np.uint8(0), (2**32,)))


# Files


def test_read_missing_file_and_folder_raise_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        idx.read(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        idx.read(tmp_path)


@pytest.mark.parametrize("file", [3, None, b"name", object()])
def test_read_and_write_neither_path_nor_file_raise_type_error(file) -> None:
    with pytest.raises(TypeError, match="a path or a file"):
        idx.read(file)
    with pytest.raises(TypeError, match="a path or a file"):
        idx.write(file, np.zeros(3, np.uint8))


def test_read_text_file_raises_type_error() -> None:
    with pytest.raises(TypeError, match="binary mode"):
        idx.read(io.StringIO("\0\0"))


def test_read_non_blocking_file_without_data_raises_os_error() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb", buffering=0) as file, pytest.raises(BlockingIOError):  # noqa: PTH123
        idx.read(file)
    os.close(writing)


@pytest.mark.parametrize(
    ("limit", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_read_bad_max_bytes_raises(limit, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_bytes"):
        read_bytes(header(0x08, 0), max_bytes=limit)


def test_write_to_folder_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        idx.write(tmp_path, np.zeros(3, np.uint8))
    with pytest.raises(FileNotFoundError, match="missing"):
        idx.write(tmp_path / "missing" / "a", np.zeros(3, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_write_failing_halfway_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    idx.write(path, np.zeros(3, np.uint8))
    old = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        idx.write(path, np.ones(3, np.uint8))
    assert caught.value.filename == str(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_write_to_full_device_raises_os_error() -> None:
    for compress in (False, True):
        with pytest.raises(OSError, match="No space left"):
            idx.write("/dev/full", np.zeros(100_000, np.uint8), compress=compress)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_write_interrupted_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        idx.write(path, np.ones(3, np.uint8))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_write_through_link_keeps_link_and_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    idx.write(link, np.zeros(3, np.uint8))
    assert link.is_symlink() and target.stat().st_size == 11
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_write_new_file_has_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    idx.write(tmp_path / "new", np.zeros(3, np.uint8))
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_write_long_and_non_ascii_names(tmp_path: Path) -> None:
    for name in ["n" * 255, "数字 ö\n"]:
        idx.write(tmp_path / name, np.zeros(3, np.uint8))
        assert idx.read(tmp_path / name).shape == (3,)


# Malformed files


PIXELS = bytes(range(24))
GOOD = header(0x08, 2, 3, 4) + PIXELS
PACKED = gzip.compress(GOOD, mtime=0)
MALFORMED = {
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "unpacks to nothing"),
    "three bytes": (b"\0\0\x08", "ends after 3 bytes"),
    "text": (b"<!DOCTYPE html>", "not an IDX file: it begins with 0x3c21444f"),
    "little endian": (b"\x03\x08\0\0" + bytes(12), "not an IDX file"),
    "packed twice": (gzip.compress(PACKED), "not an IDX file: it begins with 0x1f8b"),
    "type 0": (b"\0\0\0\1" + bytes(4), "element type 0x00"),
    "type 0x0A": (b"\0\0\x0a\1" + bytes(4), "element type 0x0A"),
    "no room for dimensions": (GOOD[:15], "ends within its header, which has 3 dimensions"),
    "one byte missing": (GOOD[:-1], "24 bytes after the header, but only 23 are there"),
    "no pixels": (GOOD[:16], "but only 0 are there"),
    "one byte too many": (GOOD + b"\0", "too long"),
    "one byte too many in gzip": (gzip.compress(GOOD + b"\0"), "too long"),
    "one byte missing in gzip": (gzip.compress(GOOD[:-1]), "but only 23 are there"),
    "bytes after nothing": (header(0x08, 0, 28, 28) + b"x", "too long"),
    "more dimensions than NumPy has": (header(0x08, *[1] * 65) + b"x", "65 dimensions, more than NumPy"),
    "255 dimensions": (header(0x08, *[1] * 255) + b"x", "255 dimensions, more than NumPy"),
    "2**64 bytes": (header(0x08, 2**31, 2**31, 4), "no machine can hold"),
    "2**64 + 24 bytes": (header(0x08, 2, 2**31, 2**32 - 1) + PIXELS, "no machine can hold"),
    "overflow hidden by a 0": (header(0x08, 0, 2**32 - 1, 2**32 - 1), "no machine can hold"),
    "2**63 bytes": (header(0x0E, 2**30, 2**30), "no machine can hold"),
    "4 GB": (header(0x08, 2**32 - 1), "claims 4,294,967,295 bytes"),
    "gzip magic alone": (PACKED[:2], "gzip data have no end"),
    "gzip header cut": (PACKED[:9], "gzip data have no end"),
    "gzip data cut": (PACKED[:-12], "gzip data have no end"),
    "gzip trailer cut": (PACKED[:-1], "gzip data have no end"),
    "gzip wrong CRC": (PACKED[:-8] + bytes(4) + PACKED[-4:], "incorrect data check"),
    "gzip wrong length": (PACKED[:-1] + b"\1", "incorrect length check"),
    "gzip unknown method": (b"\x1f\x8b\x07" + PACKED[3:], "unknown compression method"),
    "gzip invalid block": (PACKED[:10] + b"\xff" + PACKED[11:], "damaged gzip data"),
    "after the gzip end": (PACKED + b"x", "goes on after the end of its gzip data"),
    "zeros after the gzip end": (PACKED + bytes(512), "goes on after the end of its gzip data"),
    "half a magic after the gzip end": (PACKED + b"\x1f", "goes on after the end of its gzip data"),
    "second member cut": (PACKED + PACKED[:5], "gzip data have no end"),
    "second member whole": (PACKED + PACKED, "too long"),
}


@pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_read_malformed_raises_and_names_file(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "malformed-file"
    path.write_bytes(data)
    with pytest.raises(IdxFormatError) as from_path:
        idx.read(path)
    assert message in str(from_path.value) and str(path) in str(from_path.value)
    with path.open("rb") as file, pytest.raises(IdxFormatError) as from_file:
        idx.read(file)
    assert message in str(from_file.value) and str(path) in str(from_file.value)
    for file in (io.BytesIO(data), OneByteAtATime(data)):
        with pytest.raises(IdxFormatError, match=f"<{type(file).__name__}>"):
            idx.read(file)


@pytest.mark.parametrize("data", [GOOD, PACKED], ids=["plain", "gzip"])
def test_read_every_truncation_raises(data: bytes) -> None:
    assert read_bytes(data).tobytes() == PIXELS
    for n in range(len(data)):
        with pytest.raises(IdxFormatError):
            read_bytes(data[:n])


def test_read_gzip_every_flipped_bit_raises_or_is_harmless() -> None:
    for bit in range(8 * len(PACKED)):
        damaged = bytearray(PACKED)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            array = read_bytes(bytes(damaged))
        except IdxFormatError:
            continue
        # Not covered by the CRC: flags, time and system; the bits that fill the compressed data's last byte.
        assert 3 <= bit // 8 < 10 or bit // 8 == len(PACKED) - 9
        assert array.tobytes() == PIXELS


def test_read_damaged_gzip_object_of_the_caller_raises() -> None:
    for data in (PACKED[:-12], PACKED[:-8] + bytes(8), b"\x1f\x8b\x07"):
        with pytest.raises(IdxFormatError):
            idx.read(gzip.GzipFile(fileobj=io.BytesIO(data)))


def test_read_max_bytes_is_the_arrays_size() -> None:
    assert read_bytes(GOOD, max_bytes=24).size == 24
    with pytest.raises(IdxFormatError, match=r"claims 24 bytes .* limit of 23; .* max_bytes=24"):
        read_bytes(GOOD, max_bytes=23)
    assert read_bytes(header(0x08, 0), max_bytes=np.int64(0)).size == 0


@pytest.mark.parametrize("n", [0, 1, 2**14, MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 3 * MEGABYTE + 5])
def test_read_sizes_about_the_chunk(n: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, n, dtype=np.uint8).tobytes()
    data = header(0x08, n) + pixels
    for packed in (data, gzip.compress(data, 1)):
        assert read_bytes(packed).tobytes() == pixels
        with pytest.raises(IdxFormatError):
            read_bytes(packed[:-1])


# Memory and time


def peak_of_failing_read(data: bytes, **options: int) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(IdxFormatError):
            read_bytes(data, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_read_short_file_of_huge_claim_takes_no_memory() -> None:
    claim = header(0x0E, 2**20, 100) + bytes(1000)  # 800 MB, allowed by the default limit
    assert peak_of_failing_read(claim) < 3 * MEGABYTE
    assert peak_of_failing_read(gzip.compress(claim)) < 3 * MEGABYTE


def test_read_gzip_bomb_is_stopped_early() -> None:
    n = 100 * MEGABYTE
    zeros = gzip.compress(bytes(n))
    assert len(zeros) < n / 900
    small = gzip.compress(header(0x08, 10)) + zeros  # claims 10 bytes
    huge = gzip.compress(header(0x08, 2**31)) + zeros  # claims more than the limit
    for bomb in (small, huge):
        assert peak_of_failing_read(bomb) < 3 * MEGABYTE
    # The claim is within the limit, but the data end: memory has followed what was unpacked.
    claims_more = gzip.compress(header(0x08, 2**30)) + gzip.compress(bytes(10 * MEGABYTE))
    assert peak_of_failing_read(claims_more) < 2 * 10 * MEGABYTE


@pytest.mark.parametrize(
    "pack", [lambda data: data, lambda data: gzip.compress(data, 1)], ids=["plain", "gzip"]
)
@pytest.mark.parametrize("letters", ["u1", "f8"])
def test_read_takes_at_most_twice_the_bytes(pack, letters: str) -> None:
    n_bytes = 20 * MEGABYTE
    data = pack(header(CODES[letters], n_bytes // np.dtype(letters).itemsize) + bytes(n_bytes))
    tracemalloc.start()
    try:
        array = read_bytes(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array.nbytes == n_bytes
    assert peak < 2 * n_bytes + 3 * MEGABYTE


def test_read_many_tiny_members_is_not_quadratic() -> None:
    # One after the other they take about 10 us each; quadratic time would take minutes.
    n = 50_000
    data = gzip.compress(header(0x08, n)) + gzip.compress(b"\7") * n
    assert read_bytes(data).sum() == 7 * n
    with pytest.raises(IdxFormatError, match="unpacks to nothing"):
        read_bytes(gzip.compress(b"") * n)


# Properties

arrays = hypothesis_numpy.arrays(
    dtype=st.sampled_from(TYPES).flatmap(
        lambda letters: st.sampled_from(["<", ">"]).map(lambda o: np.dtype(o + letters))
    ),
    shape=hypothesis_numpy.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=5),
)


@settings(max_examples=200, deadline=None)
@given(array=arrays, compress=st.booleans())
def test_write_then_read_gives_the_same_bits(array: np.ndarray, compress: bool) -> None:
    file = io.BytesIO()
    idx.write(file, array, compress=compress)
    again = idx.read(io.BytesIO(file.getvalue()), max_bytes=array.nbytes)
    assert again.shape == array.shape and again.dtype == array.dtype.newbyteorder("=")
    assert again.tobytes() == array.astype(again.dtype).tobytes()  # bytes, so that NaN equals NaN


def read_or_refuse(data: bytes) -> None:
    try:
        array = read_bytes(data, max_bytes=MEGABYTE)
    except IdxFormatError:
        return
    if data[:2] != b"\x1f\x8b":  # what was accepted is exactly what such an array is written as
        file = io.BytesIO()
        idx.write(file, array)
        assert file.getvalue() == data


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=100))
@example(b"\0\0\x08\0x")
def test_read_arbitrary_bytes_only_raises_format_error(data: bytes) -> None:
    read_or_refuse(data)
    read_or_refuse(b"\0\0" + data)
    read_or_refuse(b"\x1f\x8b\x08\0" + data)
    read_or_refuse(gzip.compress(data))


@settings(max_examples=300, deadline=None)
@given(
    code=st.sampled_from(sorted(CODES.values())) | st.integers(0, 255),
    dimensions=st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=70),
    payload=st.binary(max_size=60),
    compress=st.booleans(),
)
def test_read_arbitrary_headers_only_raises_format_error(
    code: int, dimensions: list[int], payload: bytes, compress: bool
) -> None:
    data = header(code, *dimensions) + payload
    read_or_refuse(gzip.compress(data) if compress else data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_read_mutated_file_only_raises_format_error(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from([GOOD, PACKED])))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated)))
        mutated[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read_or_refuse(bytes(mutated))
