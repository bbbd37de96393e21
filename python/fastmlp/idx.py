"""IDX, the file format of MNIST: a magic number, the dimensions, then the elements, all of it big-endian.

A file is two zero bytes, one byte for the type of the elements, one for the number of dimensions, the
dimensions as unsigned 32-bit integers, and the elements in C order. Such files are often compressed with
gzip; whether a file is, its first bytes tell, not its name.

What is read is taken for hostile: `read` says what that means.

References
----------
Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits; it describes the format.
P. Deutsch: GZIP file format specification version 4.3, RFC 1952, 1996.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import stat
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _validation
from fastmlp._atomic_file import atomic_writer
from fastmlp.errors import IdxFormatError

DEFAULT_MAX_BYTES = 2**30
"""What `read` takes at most unless told otherwise: 1 GiB, 1.3 million images of 28 x 28 bytes."""

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_TYPE_CODES = {dtype.newbyteorder("="): code for code, dtype in _DTYPES.items()}
_TYPE_NAMES = "uint8, int8, int16, int32, float32 and float64"

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib: expect a gzip header and check its CRC and length at the end
_COMPRESSED_CHUNK = 2**14  # small: at each member's end the rest is copied, and members may be tiny and many
_PAYLOAD_CHUNK = 2**20
_ELEMENTS_PER_WRITE = 2**16


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


def read(file: str | os.PathLike[str] | _Readable, *, max_bytes: int = DEFAULT_MAX_BYTES) -> NDArray[Any]:
    r"""Read an array from an IDX file, plain or compressed with gzip.

    The file is not trusted. Whatever its header claims, memory follows the bytes that are really there and
    is at most twice their number (and a megabyte or two). Reading stops at the first byte too many, so that
    a small file which unpacks to something huge costs little.

    Parameters
    ----------
    file : str, os.PathLike or binary file object
        A path, or an object whose ``read(n)`` returns bytes; it need not be seekable. It is read from where
        it stands to its end, and left open.
    max_bytes : int, default 2**30
        The most bytes that the array may take, at least 0.

    Returns
    -------
    numpy.ndarray
        A new, writable, C-contiguous array in the machine's byte order: uint8, int8, int16, int32, float32
        or float64. A file of no dimensions holds one element and gives an array of shape (); a dimension may
        be 0.

    Raises
    ------
    fastmlp.errors.IdxFormatError
        If the file is not exactly one IDX array: it is empty, its magic number, element type or dimensions
        are not those of an IDX file, it is shorter or longer than its dimensions say, the array exceeds
        `max_bytes` or what NumPy can hold, the gzip data are damaged or cut short, or anything but another
        gzip member follows them. (Several members in a row are one file, as RFC 1952 has it; padding after
        the last one is not accepted.) The message names the file.
    OSError
        If the file cannot be opened or read, or is a folder.
    TypeError
        If `file` is neither a path nor a file opened in binary mode, or `max_bytes` is not an integer.
    ValueError
        If `max_bytes` is negative.

    Examples
    --------
    >>> import io
    >>> read(io.BytesIO(b"\0\0\x0b\x01" + b"\0\0\0\x02" + b"\0\x07\xff\xff"))
    array([ 7, -1], dtype=int16)
    """
    max_bytes = _validation.whole_number(max_bytes, "max_bytes", minimum=0)
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened:
            return _read(opened, os.fspath(file), _size_of_regular_file(opened), max_bytes)
    if not callable(getattr(file, "read", None)):
        raise TypeError(f"file must be a path or a file opened in binary mode, not {type(file).__name__}.")
    return _read(file, _name_of(file), None, max_bytes)


def write(file: str | os.PathLike[str] | BinaryIO, array: ArrayLike, *, compress: bool | None = None) -> None:
    r"""Write an array to an IDX file.

    A path is written atomically: to a temporary name in the same folder, flushed to disk and renamed, so
    that the file is never half there. The same array gives the same bytes, compressed or not: the gzip
    header holds neither name nor time. (Another version of zlib may compress differently.)

    Parameters
    ----------
    file : str, os.PathLike or binary file object
        A path, or an object with ``write(bytes)``, which is left open.
    array : array_like
        uint8, int8, int16, int32, float32 or float64, in any byte order and memory layout, of any shape with
        dimensions below 2**32. Other types are not converted: choose one that holds your values.
    compress : bool, optional
        Whether to compress with gzip; by default, whether `file` is a path that ends in ".gz".

    Raises
    ------
    TypeError
        If the elements of `array` are of another type, or `file` is neither a path nor a file object.
    ValueError
        If a dimension is 2**32 or more.
    OSError
        If the file cannot be written; the file that was there before is then unharmed.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, np.array([7, -1], dtype=np.int16))
    >>> file.getvalue()
    b'\x00\x00\x0b\x01\x00\x00\x00\x02\x00\x07\xff\xff'
    """
    array = np.asarray(array)
    header = encode_header(array)
    if isinstance(file, str | os.PathLike):
        if compress is None:
            compress = os.fspath(file).endswith(".gz")
        with atomic_writer(file) as opened:
            _write(opened, header, array, compress)
        return
    if not callable(getattr(file, "write", None)):
        raise TypeError(f"file must be a path or a file opened in binary mode, not {type(file).__name__}.")
    if isinstance(file, io.RawIOBase):  # opened with buffering=0: a write may take only a part
        buffered = io.BufferedWriter(file)
        _write(buffered, header, array, bool(compress))
        buffered.detach()
        return
    _write(file, header, array, bool(compress))


def encode_header(array: NDArray[Any]) -> bytes:
    """Return the bytes that precede an array's elements in an IDX file.

    Parameters
    ----------
    array : numpy.ndarray
        The array; only its type and shape are used.

    Returns
    -------
    bytes
        4 + 4 * ndim bytes.

    Raises
    ------
    TypeError
        If the format has no such element type.
    ValueError
        If a dimension is 2**32 or more.

    Examples
    --------
    >>> encode_header(np.zeros((3, 28), np.uint8)).hex()
    '00000802000000030000001c'
    """
    code = _TYPE_CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(
            f"IDX files hold {_TYPE_NAMES}, not {array.dtype}; convert the array to one of these that holds "
            f"its values{_example(array.dtype)}."
        )
    if any(dimension >= 2**32 for dimension in array.shape):
        raise ValueError(f"IDX files store dimensions in 32 bits; {array.shape} has a larger one.")
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)


def _read(file: _Readable, name: str, file_size: int | None, max_bytes: int) -> NDArray[Any]:
    source = _Source(file, name)
    dtype, shape, header_size = _read_header(source)
    n_bytes = _checked_n_bytes(dtype, shape, max_bytes, name)
    if file_size is not None and not source.compressed:  # known at once, without reading what is there
        _check_length(file_size - header_size, n_bytes, dtype, shape, name)
    payload = _read_payload(source, n_bytes, dtype, shape)
    elements = payload.view(dtype)
    if not dtype.isnative:
        elements = elements.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return elements.reshape(shape)


def _read_header(source: _Source) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = source.read(4)
    if not magic:
        what = "unpacks to nothing" if source.compressed else "is empty"
        raise IdxFormatError(f"{source.name} {what}; an IDX file has at least 4 bytes.")
    if len(magic) < 4:
        raise IdxFormatError(f"{source.name} ends after {len(magic)} bytes; an IDX file has at least 4.")
    zeros, code, n_dimensions = struct.unpack(">HBB", magic)
    if zeros != 0:
        raise IdxFormatError(
            f"{source.name} is not an IDX file: it begins with 0x{magic.hex()}, not with two zero bytes."
        )
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02X}" for known in _DTYPES)
        raise IdxFormatError(
            f"{source.name} has the element type 0x{code:02X}, which IDX does not know (only {known})."
        )
    dimensions = source.read(4 * n_dimensions)
    if len(dimensions) < 4 * n_dimensions:
        raise IdxFormatError(f"{source.name} ends within its header, which has {n_dimensions} dimensions.")
    return _DTYPES[code], struct.unpack(f">{n_dimensions}I", dimensions), 4 + len(dimensions)


def _checked_n_bytes(dtype: np.dtype[Any], shape: tuple[int, ...], max_bytes: int, name: str) -> int:
    """Count the array's bytes, exactly, and refuse what NumPy cannot hold or the caller does not want."""
    try:
        np.empty((0,) * len(shape), dtype)
    except ValueError as error:
        raise IdxFormatError(f"{name} has {len(shape)} dimensions, more than NumPy can hold.") from error
    # A dimension of 0 makes the array empty, yet NumPy wants the others' product to fit all the same.
    if math.prod(dimension for dimension in shape if dimension) * dtype.itemsize > sys.maxsize:
        raise IdxFormatError(f"{name} claims the shape {_shown(shape)}, which no machine can hold.")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > max_bytes:
        raise IdxFormatError(
            f"{name} claims {n_bytes:,} bytes for {_described(dtype, shape)}, more than the limit of "
            f"{max_bytes:,}; if the file is to be trusted, pass max_bytes={n_bytes}."
        )
    return n_bytes


def _read_payload(
    source: _Source, n_bytes: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Read all elements' bytes; the array is allocated when that many bytes have been seen, not before."""
    chunks: list[bytes] = []
    n_read = 0
    while n_read < n_bytes:
        chunk = source.read(min(_PAYLOAD_CHUNK, n_bytes - n_read))
        if not chunk:
            _check_length(n_read, n_bytes, dtype, shape, source.name)
        chunks.append(chunk)
        n_read += len(chunk)
    if source.read(1):
        _check_length(n_bytes + 1, n_bytes, dtype, shape, source.name)

    payload = np.empty(n_bytes, np.uint8)
    chunks.reverse()
    start = 0
    while chunks:  # each is freed as soon as it is copied
        chunk = chunks.pop()
        payload[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
        start += len(chunk)
    return payload


def _check_length(
    n_there: int, n_bytes: int, dtype: np.dtype[Any], shape: tuple[int, ...], name: str
) -> None:
    need = f"{_described(dtype, shape)} takes {n_bytes:,} bytes after the header"
    if n_there < n_bytes:
        raise IdxFormatError(f"{name} is cut short: {need}, but only {max(n_there, 0):,} are there.")
    if n_there > n_bytes:
        raise IdxFormatError(f"{name} is too long: {need}, and more follow.")


def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"the {dtype.newbyteorder('=')} array of shape {_shown(shape)}"


def _shown(shape: tuple[int, ...]) -> str:
    """Show the shape in few words: a hostile header can hold 255 dimensions."""
    if len(shape) <= 8:
        return str(shape)
    return f"({', '.join(map(str, shape[:8]))}, ... {len(shape)} dimensions)"


class _Source:
    """A file's bytes in order, unpacked if need be; a read gives what was asked for unless the file ends."""

    def __init__(self, file: _Readable, name: str) -> None:
        self.name = name
        self._file = file
        self._pushed_back = b""
        start = self._read_plain(len(_GZIP_MAGIC))
        self._pushed_back = start + self._pushed_back
        self.compressed = start == _GZIP_MAGIC
        self._unpacker = zlib.decompressobj(_GZIP_WINDOW)

    def read(self, n: int) -> bytes:
        return self._read_compressed(n) if self.compressed else self._read_plain(n)

    def _read_plain(self, n: int) -> bytes:
        data = bytearray()  # not a list of parts: a file may hand out single bytes
        while len(data) < n:
            part = self._read_some(n - len(data))
            if not part:
                break
            data += part
        return bytes(data)

    def _read_compressed(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            part = self._unpack_some(n - len(data))
            if part is None:
                break
            data += part
        return bytes(data)

    def _unpack_some(self, limit: int) -> bytes | None:
        """Unpack at most `limit` bytes, perhaps none; None at the file's end."""
        if self._unpacker.eof:  # of one member; another may follow
            self._pushed_back = self._unpacker.unused_data + self._pushed_back
            start = self._read_plain(len(_GZIP_MAGIC))
            if not start:
                return None
            if start != _GZIP_MAGIC:
                raise IdxFormatError(f"{self.name} goes on after the end of its gzip data.")
            self._pushed_back = start + self._pushed_back
            self._unpacker = zlib.decompressobj(_GZIP_WINDOW)
        packed = self._unpacker.unconsumed_tail or self._read_some(_COMPRESSED_CHUNK)
        try:
            part = self._unpacker.decompress(packed, limit)
        except zlib.error as error:
            raise IdxFormatError(f"{self.name} has damaged gzip data ({error}).") from error
        if not packed and not part and not self._unpacker.eof:
            raise IdxFormatError(f"{self.name} is cut short: its gzip data have no end.")
        return part

    def _read_some(self, n: int) -> bytes:
        """Read at least one byte and at most `n`; none at the file's end."""
        if self._pushed_back:
            part, self._pushed_back = self._pushed_back[:n], self._pushed_back[n:]
            return part
        try:
            part = self._file.read(n)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # from a gzip.GzipFile of the caller's
            raise IdxFormatError(f"{self.name} has damaged gzip data ({error}).") from error
        if part is None:
            raise BlockingIOError(f"{self.name} has no data yet; open it in blocking mode.")
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"{self.name} gave {type(part).__name__}, not bytes; open it in binary mode.")
        part = bytes(part)
        part, self._pushed_back = part[:n], part[n:]
        return part


def _write(file: BinaryIO | io.BufferedIOBase, header: bytes, array: NDArray[Any], compress: bool) -> None:
    if compress:
        # No file name and no time in the header: the same array gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            _write(packed, header, array, compress=False)
        return
    file.write(header)
    for piece in _big_endian_pieces(array):
        file.write(piece)


def _big_endian_pieces(array: NDArray[Any]) -> Iterator[bytes]:
    """Give the elements in C order, some at a time: no copy of the whole array, whatever its layout."""
    pieces = np.nditer(
        [array],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"]],
        op_dtypes=[array.dtype.newbyteorder(">")],
        order="C",
        casting="equiv",
        buffersize=_ELEMENTS_PER_WRITE,
    )
    for piece in pieces:
        yield np.asarray(piece).tobytes()


def _size_of_regular_file(file: io.BufferedReader) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _name_of(file: object) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else f"<{type(file).__name__}>"


def _example(dtype: np.dtype[Any]) -> str:
    target = {"b": "uint8", "u": "uint8", "i": "int32", "f": "float32"}.get(dtype.kind)
    return f", for example array.astype(np.{target})" if target else ""
