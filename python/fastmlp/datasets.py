"""Data sets: MNIST, Fashion-MNIST, digits drawn from fonts, and any four files named like MNIST's.

MNIST and Fashion-MNIST are looked for in the folder that the environment variable ``FASTMLP_DATA`` names,
then in the platform's cache folder, and are else downloaded into it. Whatever their source, they are used
only if the SHA-256 of each uncompressed file is the published file's. `glyphs` needs neither files nor a
network.

What was tested: downloading, its failures and its interruption, against a web server on the same machine. The
mirrors themselves were not reached when this was written; that they hold these files is common knowledge,
and what they send is checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation, idx
from fastmlp._atomic_file import atomic_writer
from fastmlp.errors import DownloadError
from fastmlp.glyphs import GENERATOR_VERSION, TEST_FACES, TRAINING_FACES, draw

__all__ = ["Dataset", "Split", "auto", "fashion_mnist", "glyphs", "load", "mnist"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The names of MNIST's files; each may end in ".gz". Where both are there, the compressed one is read."""

_log = logging.getLogger("fastmlp")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and what they show.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, height, width)
        Pixels, 0 ... 255, C-contiguous. Those of the data sets here are read-only.
    labels : numpy.ndarray of uint8, shape (n,)
        Each image's class.

    Raises
    ------
    ValueError
        If there are not as many labels as images.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"There are {len(self.images):,} images, but {len(self.labels):,} labels.")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<{len(self):,} images of {' x '.join(map(str, self.images.shape[1:]))}>"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in three parts: to train on, to choose settings by, and to judge the result by.

    Parameters
    ----------
    name : str
        What it is called.
    train, validation, test : Split
        The parts.
    class_names : tuple of str
        What each label stands for.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Published:
    """A data set that others publish."""

    name: str
    folder: str  # in FASTMLP_DATA and in the cache folder
    sha256: Mapping[str, str]  # of the uncompressed files
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    n_validation: int = 5000


_MNIST = _Published(
    name="MNIST",
    folder="mnist",
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    class_names=tuple("0123456789"),
)

_FASHION_MNIST = _Published(
    name="Fashion-MNIST",
    folder="fashion-mnist",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

# Half of MNIST's numbers: made in seconds, and more images would show no more designs.
_GLYPHS_TRAINING, _GLYPHS_VALIDATION, _GLYPHS_TEST = 30_000, 3_000, 6_000
_GLYPHS_TRAINING_SEED, _GLYPHS_TEST_SEED = 1, 2

_CONNECT_SECONDS = 5.0
_FIRST_BYTE_SECONDS = 8.0  # the whole of looking up the host, connecting and asking, whatever hangs
_STALL_SECONDS = 15.0
_DOWNLOAD_CHUNK = 2**14
_MAX_DOWNLOAD = 2**26  # more than twice the largest file: a mirror cannot fill the memory


def mnist() -> Dataset:
    """Return MNIST: 55,000 handwritten digits to train on, 5,000 for validation, 10,000 to test.

    The first 5,000 images of the training file are the validation images. The files are looked for in
    ``$FASTMLP_DATA/mnist``, then in ``mnist`` in the cache folder, and else downloaded into that (11 MB),
    with progress on standard error if that is a terminal.

    Returns
    -------
    Dataset
        Images (n, 28, 28), white on black; labels 0 ... 9.

    Raises
    ------
    fastmlp.errors.DownloadError
        If the files are not here and can be had from none of the mirrors; it says what was tried.
    ValueError
        If a file in ``FASTMLP_DATA`` is damaged or not MNIST's; it is named. (A damaged file in the cache
        folder is named in a warning to the logger "fastmlp", and replaced.)

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86, 1998. The data are under CC BY-SA 3.0.

    Examples
    --------
    >>> mnist().train  # doctest: +SKIP
    <55,000 images of 28 x 28>
    """
    return _published(_MNIST)


def fashion_mnist() -> Dataset:
    """Return Fashion-MNIST: 55,000 pictures of clothes to train on, 5,000 for validation, 10,000 to test.

    It has MNIST's form, and is found or downloaded (31 MB) in the same way, in the folder ``fashion-mnist``.

    Returns
    -------
    Dataset
        Images (n, 28, 28), bright on black; labels 0 ... 9, named in `class_names`.

    Raises
    ------
    fastmlp.errors.DownloadError
        If the files are not here and can be had from none of the mirrors; it says what was tried.
    ValueError
        If a file in ``FASTMLP_DATA`` is damaged or not Fashion-MNIST's; it is named.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms, arXiv:1708.07747, 2017. The data are under the MIT licence.

    Examples
    --------
    >>> fashion_mnist().class_names[8]  # doctest: +SKIP
    'Bag'
    """
    return _published(_FASHION_MNIST)


def glyphs() -> Dataset:
    """Return digits drawn from fonts: 30,000 to train on, 3,000 for validation, 6,000 to test.

    They need no network. They look like MNIST's but are not handwriting: see `fastmlp.glyphs`. Training and
    validation images come from the same fonts, test images from fonts of another family, so test accuracy
    is lower than validation accuracy and says more. They are the same on every machine; making them takes
    seconds, after which they are kept in the cache folder, if there is one that can be written to.

    Returns
    -------
    Dataset
        Images (n, 28, 28), white on black; labels 0 ... 9.

    Raises
    ------
    FileNotFoundError
        If the fonts that matplotlib ships are not where it keeps them.

    Examples
    --------
    >>> glyphs().test  # doctest: +SKIP
    <6,000 images of 28 x 28>
    """
    import matplotlib

    cache = _cache_folder()
    folder = cache and cache / f"glyphs-{GENERATOR_VERSION}-matplotlib-{matplotlib.__version__}"
    arrays = _cached_glyphs(folder)
    if arrays is None:
        n_training = _GLYPHS_VALIDATION + _GLYPHS_TRAINING
        arrays = [
            *draw(TRAINING_FACES, n_training, seed=_GLYPHS_TRAINING_SEED),
            *draw(TEST_FACES, _GLYPHS_TEST, seed=_GLYPHS_TEST_SEED),
        ]
        for file, array in zip(FILES, arrays, strict=True):
            _keep(folder, file, array)
    return _dataset("glyphs", arrays, _GLYPHS_VALIDATION, tuple("0123456789"))


def load(
    folder: str | os.PathLike[str],
    *,
    n_validation: int | None = None,
    class_names: Sequence[str] | None = None,
    max_bytes: int = idx.DEFAULT_MAX_BYTES,
) -> Dataset:
    """Return the data set in a folder with four IDX files named like MNIST's.

    They are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, each with or without ".gz".

    Parameters
    ----------
    folder : str or os.PathLike
        The folder; its name becomes the data set's.
    n_validation : int, optional
        How many images at the beginning of the training file are for validation; at least one must remain
        to train on. By default a twelfth of them, as MNIST's 5,000 of 60,000, but at least one if there are
        two.
    class_names : sequence of str, optional
        What the labels stand for, in order; by default "0", "1", ... up to the highest label in the files.
    max_bytes : int, default 2**30
        The most bytes that one file's array may take.

    Returns
    -------
    Dataset
        Images of the files' shape.

    Raises
    ------
    FileNotFoundError
        If the folder lacks one of the files.
    fastmlp.errors.IdxFormatError
        If a file is not a valid IDX file.
    ValueError
        If a file holds the wrong kind of array (images: uint8, of at least 2 dimensions, at least one
        image; labels: integers, of 1 dimension), there are not as many labels as images, test images have
        another shape than training images, a label is negative, over 255 or has no name, or `n_validation`
        is not in its range.
    TypeError
        If an argument has the wrong type.

    Examples
    --------
    >>> load("data/kuzushiji", n_validation=10_000)  # doctest: +SKIP
    """
    folder = Path(folder)
    paths = _paths_in(folder)
    missing = [file for file in FILES if file not in paths]
    if missing:
        lacks = (
            f"lacks {' and '.join(missing)} (with or without .gz)" if _is_there(folder) else "is not there"
        )
        raise FileNotFoundError(f"The folder {folder} {lacks}.")
    arrays = [idx.read(path, max_bytes=max_bytes) for path in paths.values()]
    _check_arrays(arrays, list(paths.values()))

    n = len(arrays[0])
    if n_validation is None:
        n_validation = max(n // 12, min(n - 1, 1))
    n_validation = _validation.whole_number(n_validation, "n_validation", minimum=0)
    if n_validation >= n:
        raise ValueError(
            f"n_validation is {n_validation:,}, but {paths[FILES[0]]} has {n:,} images, and at least one "
            "must remain to train on."
        )
    highest = max(int(arrays[1].max()), int(arrays[3].max()))
    names = _class_names(class_names, highest, folder)
    return _dataset(folder.resolve().name, arrays, n_validation, names)


def auto() -> tuple[Dataset, str | None]:
    """Return MNIST if it is here or can be downloaded, else `glyphs`.

    Returns
    -------
    dataset : Dataset
        One of the two.
    reason : str or None
        Why it is not MNIST, in one line; None if it is.

    Raises
    ------
    ValueError
        If a file in ``FASTMLP_DATA`` is damaged or not MNIST's: what was asked for by name is not passed
        over.

    Examples
    --------
    >>> dataset, reason = auto()  # doctest: +SKIP
    """
    try:
        return mnist(), None
    except _NotDownloadedError as error:
        return glyphs(), error.reason


# From arrays to a Dataset


def _dataset(
    name: str, arrays: Sequence[NDArray[Any]], n_validation: int, class_names: tuple[str, ...]
) -> Dataset:
    images, labels, test_images, test_labels = (array.astype(np.uint8, copy=False) for array in arrays)
    for array in (images, labels, test_images, test_labels):
        array.flags.writeable = False
    return Dataset(
        name=name,
        train=Split(images[n_validation:], labels[n_validation:]),
        validation=Split(images[:n_validation], labels[:n_validation]),
        test=Split(test_images, test_labels),
        class_names=class_names,
    )


def _check_arrays(arrays: Sequence[NDArray[Any]], paths: Sequence[Path]) -> None:
    """Refuse what is not a data set; the arrays are those of FILES, in that order."""
    _check_split(arrays[0], arrays[1], paths[0], paths[1])
    _check_split(arrays[2], arrays[3], paths[2], paths[3])
    shape, test_shape = arrays[0].shape[1:], arrays[2].shape[1:]
    if shape != test_shape:
        raise ValueError(f"{paths[0]} has images of shape {shape}, but {paths[2]} of {test_shape}.")


def _check_split(images: NDArray[Any], labels: NDArray[Any], images_path: Path, labels_path: Path) -> None:
    if images.dtype != np.uint8:
        raise ValueError(
            f"{images_path} holds {images.dtype}, but images are uint8 pixels; read another array with "
            "idx.read and give it to Net.fit as it is."
        )
    if images.ndim < 2 or images.size == 0:
        raise ValueError(
            f"{images_path} has the shape {images.shape}, not that of images, (n, height, width)."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{labels_path} holds {labels.dtype} of shape {labels.shape}, not integer labels of shape (n,)."
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} has {len(images):,} images, but {labels_path} {len(labels):,} labels."
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high > 255:
        raise ValueError(f"{labels_path} has labels from {low} to {high}; they must be from 0 to 255.")


def _class_names(names: Sequence[str] | None, highest: int, folder: Path) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(highest + 1)))
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("class_names must be a sequence of strings.")
    if len(names) <= highest:
        raise ValueError(f"class_names has {len(names)} names, but {folder} has labels up to {highest}.")
    return tuple(names)


# Published data sets: the user's folder, the cache, the mirrors


class _NotDownloadedError(DownloadError):
    """A DownloadError with the reason in one line, without the advice."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}. {advice}")
        self.reason = reason


class _WrongContentsError(ValueError):
    """A valid IDX file, but not the published one."""


def _published(dataset: _Published) -> Dataset:
    arrays = _from_users_folder(dataset)
    if arrays is None:
        mirrors = list(dataset.mirrors)
        arrays = [_from_cache_or_mirror(dataset, file, mirrors) for file in FILES]
    return _dataset(dataset.name, arrays, dataset.n_validation, dataset.class_names)


def _from_users_folder(dataset: _Published) -> list[NDArray[Any]] | None:
    """Read the files in FASTMLP_DATA; None if that is not set or has not all of them."""
    setting = os.environ.get("FASTMLP_DATA")
    if not setting:
        return None
    folder = Path(os.path.expanduser(setting)) / dataset.folder  # noqa: PTH111  (no home is no error here)
    paths = _paths_in(folder)
    if len(paths) < len(FILES):
        level = logging.WARNING if paths else logging.INFO
        missing = ", ".join(file for file in FILES if file not in paths)
        _log.log(level, "%s lacks %s; looking for %s elsewhere.", folder, missing, dataset.name)
        return None
    try:
        return [_read_published(path, dataset, file) for file, path in paths.items()]
    except _WrongContentsError as error:
        raise ValueError(f"{error} Replace it, or load other files with datasets.load.") from None


def _from_cache_or_mirror(dataset: _Published, file: str, mirrors: list[str]) -> NDArray[Any]:
    cache = _cache_folder()
    folder = cache and cache / dataset.folder
    damaged = False
    for path in filter(_is_there, _candidates(folder, file)):
        try:
            array = _read_published(path, dataset, file)
        except (OSError, ValueError) as error:
            _log.warning("A damaged file in the cache is not used but replaced: %s", error)
            damaged = True
            continue
        if damaged:
            _keep(folder, file, array)
        return array
    array, data = _from_mirror(dataset, file, mirrors)
    _keep(folder, file, data)
    return array


def _from_mirror(dataset: _Published, file: str, mirrors: list[str]) -> tuple[NDArray[Any], bytes]:
    """Download a file; a mirror that fails moves to the end of `mirrors`, for the next file."""
    failures = []
    for mirror in tuple(mirrors):
        url = f"{mirror}{file}.gz"
        try:
            data = _fetch(url, f"{dataset.name}: {file}.gz")
            return _read_published(_Download(data, url), dataset, file), data
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}: {_in_few_words(error)}")
            mirrors.append(mirrors.pop(0))
    cache = _cache_folder()
    own = f"into {cache / dataset.folder}, or " if cache else ""
    setting = os.environ.get("FASTMLP_DATA")
    place = f"in {Path(setting) / dataset.folder} (FASTMLP_DATA)" if setting else "on this machine"
    raise _NotDownloadedError(
        f"{dataset.name} is not {place} and could not be downloaded ({'; '.join(failures)})",
        f"Put its four files {own}into {dataset.folder}/ in a folder that the environment variable "
        "FASTMLP_DATA names; or take glyphs, which need none (datasets.glyphs(), --dataset glyphs).",
    )


def _read_published(source: Path | _Download, dataset: _Published, file: str) -> NDArray[Any]:
    """Read a file and check that, uncompressed, it is the published one to the last byte."""
    array = idx.read(source)
    digest = hashlib.sha256(idx.encode_header(array))  # with the elements: what the file is when uncompressed
    digest.update(array.astype(array.dtype.newbyteorder(">"), copy=False).data)
    if digest.hexdigest() != dataset.sha256[file]:
        raise _WrongContentsError(
            f"{source} is not {dataset.name}'s {file}: the SHA-256 of its uncompressed bytes is "
            f"{digest.hexdigest()}, not {dataset.sha256[file]}."
        )
    return array


class _Download(io.BytesIO):
    """What a mirror sent, with its address for messages."""

    def __init__(self, data: bytes, url: str) -> None:
        super().__init__(data)
        self.name = url

    def __str__(self) -> str:
        return str(self.name)


def _fetch(url: str, description: str) -> bytes:
    """Download a file, giving up soon if nothing comes.

    The timeouts of sockets do not bound how long it takes to look up a host, to try each of its addresses
    or to receive a byte now and then. Therefore the download runs in a thread of its own, which is left to
    itself if it stalls.
    """
    import pooch

    with _progress(description) as progress:
        received = _Received(progress)
        downloader = pooch.HTTPDownloader(
            chunk_size=_DOWNLOAD_CHUNK,
            timeout=(_CONNECT_SECONDS, _STALL_SECONDS),
            allow_redirects=False,  # HTTPS stays HTTPS
            headers={"Accept-Encoding": "identity"},
            hooks={"response": received.begin},
        )

        def work() -> None:
            try:
                downloader(url, received, None)
            except Exception as error:
                received.error = error
            received.end()

        threading.Thread(target=work, name="fastmlp-download", daemon=True).start()
        try:
            received.wait()
        finally:
            received.is_wanted = False
    if received.error is not None:
        raise received.error
    return received.data.getvalue()


class _Received:
    """The file-like object that a download is written to, and what the waiting thread knows of it."""

    def __init__(self, progress: Any) -> None:
        self.data = io.BytesIO()
        self.error: Exception | None = None
        self.is_wanted = True
        self._progress = progress
        self._response: Any = None
        self._has_ended = threading.Event()

    def begin(self, response: Any, **_: object) -> None:
        self._response = response
        length = response.headers.get("Content-Length", "")
        if self.is_wanted and self._progress is not None and length.isdecimal():
            self._progress.reset(total=int(length))

    def write(self, data: bytes) -> int:
        if not self.is_wanted:
            raise TimeoutError("the download was given up")
        if self.data.tell() + len(data) > _MAX_DOWNLOAD:
            raise ValueError(f"it sends more than {_MAX_DOWNLOAD:,} bytes")
        if self._progress is not None:
            self._progress.update(len(data))
        return self.data.write(data)

    def flush(self) -> None:
        """Do nothing; the downloader calls it."""

    def end(self) -> None:
        if self._response is not None:
            self._response.close()  # the downloader leaves it open
        self._has_ended.set()

    def wait(self) -> None:
        """Wait until the download is complete or has failed; TimeoutError if nothing comes for too long."""
        n_before, since = 0, time.monotonic()
        while not self._has_ended.wait(0.05):
            n_now = self.data.tell()
            patience = _STALL_SECONDS if n_now else _FIRST_BYTE_SECONDS
            if n_now != n_before:
                n_before, since = n_now, time.monotonic()
            elif time.monotonic() - since > patience:
                raise TimeoutError(f"nothing came for {patience:g} s")


@contextlib.contextmanager
def _progress(description: str) -> Iterator[Any]:
    """Give a progress bar on standard error, or None if that is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=description, unit="B", unit_scale=True, leave=False, file=sys.stderr) as bar:
        yield bar


def _in_few_words(error: Exception) -> str:
    """Say why a download failed: what requests raises wraps the cause several times over."""
    cause: BaseException = error
    if isinstance(error, OSError):
        while inner := cause.__cause__ or cause.__context__:
            cause = inner
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(str(text).split()).rstrip(".")


# Folders


def _cache_folder() -> Path | None:
    """Return the platform's folder for caches; None where it has none, as for a user without a home."""
    import pooch

    with contextlib.suppress(RuntimeError):
        folder = Path(pooch.os_cache("fastmlp"))
        if folder.is_absolute():
            return folder
    return None


def _cached_glyphs(folder: Path | None) -> list[NDArray[Any]] | None:
    if folder is None:
        return None
    paths = [folder / f"{file}.gz" for file in FILES]
    if not all(map(_is_there, paths)):
        return None
    try:
        arrays = [idx.read(path) for path in paths]
        _check_arrays(arrays, paths)
    except (OSError, ValueError) as error:
        _log.warning("A damaged file in the cache is not used but replaced: %s", error)
        return None
    sizes_are_right = (len(arrays[0]), len(arrays[2])) == (
        _GLYPHS_VALIDATION + _GLYPHS_TRAINING,
        _GLYPHS_TEST,
    )
    return arrays if sizes_are_right else None


def _keep(folder: Path | None, file: str, contents: bytes | NDArray[Any]) -> None:
    """Write a file into the cache; that it cannot be written, or that there is no cache, is no error."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{file}.gz"
        if not isinstance(contents, bytes):
            idx.write(path, contents)
            return
        with atomic_writer(path) as opened:
            opened.write(contents)
    except OSError as error:
        _log.warning("%s was not kept in the cache: %s", file, error)


def _paths_in(folder: Path) -> dict[str, Path]:
    """Find those of FILES that are in a folder."""
    found = {file: next(filter(_is_there, _candidates(folder, file)), None) for file in FILES}
    return {file: path for file, path in found.items() if path is not None}


def _candidates(folder: Path | None, file: str) -> tuple[Path, ...]:
    return (folder / f"{file}.gz", folder / file) if folder else ()


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):  # not there, out of reach, or no possible name
        return False
    return True
