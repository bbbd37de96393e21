"""Files that appear whole or not at all: a temporary name in the same folder, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing such that it changes only if the block ends without an exception.

    A reader, or a second writer in another process, sees the old file or a new one, each of them whole. A
    symbolic link stays and the file it leads to is replaced, with the permissions it had. What is not a
    regular file (a named pipe, /dev/stdout) cannot be replaced and is written to directly.

    Parameters
    ----------
    path : str or os.PathLike
        The file's name; its folder must exist.

    Yields
    ------
    typing.BinaryIO
        A file opened for writing; it need not be seekable.

    Raises
    ------
    OSError
        If the file cannot be written (no such folder, no permission, disk full, `path` is a folder). The
        error names `path`, the old file is whole and nothing is left behind.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> name = pathlib.Path(tempfile.mkdtemp()) / "greeting"
    >>> with atomic_writer(name) as file:
    ...     _ = file.write(b"hello")
    >>> name.read_bytes()
    b'hello'
    """
    target = os.path.realpath(os.fspath(path))  # a link's target is replaced, not the link
    mode = _mode_of(target)
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if mode is not None and not stat.S_ISREG(mode):
        try:
            with open(target, "wb") as special_file:
                yield special_file
        except OSError as error:
            raise _naming(path, error) from error
        return

    # Not named after the target, whose name may already be as long as the file system allows. A file without
    # a name, of which a killed process leaves nothing behind, could not replace another one (linkat).
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".fastmlp-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        # A full disk names no file and a failed rename names the temporary one; the user knows `path`.
        if error.filename in (None, temporary):
            raise _naming(path, error) from error
        raise
    except BaseException:
        _remove(temporary)
        raise
    _flush_folder(folder)


def append_whole(path: str | os.PathLike[str], contents: bytes) -> None:
    """Append to a file, which is made if there is none, all of `contents` or nothing.

    Raises
    ------
    OSError
        If that cannot be done; the error names `path`, and the file is as it was.
    """
    with open(path, "ab", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        rest = memoryview(contents)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), length)
            raise _naming(path, error) from error


def _naming(path: str | os.PathLike[str], error: OSError) -> OSError:
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror, os.fspath(path))


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _flush_folder(folder: str) -> None:
    """Make the rename survive a power cut; not every file system can, and the file is whole in any case."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
