"""Finding, checking, downloading and keeping data sets; the mirrors here are a web server on this machine."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets, glyphs, idx
from fastmlp.errors import DownloadError, IdxFormatError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = datasets.FILES
REAL = os.environ.get("FASTMLP_DATA")
needs_real_mnist = pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist").is_dir(),
    reason="FASTMLP_DATA does not name a folder with the real MNIST in mnist/",
)


def small_arrays(side: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: random.integers(0, 256, (12, side, side + 1), dtype=np.uint8),
        TRAIN_LABELS: np.arange(12, dtype=np.uint8) % 10,
        TEST_IMAGES: random.integers(0, 256, (5, side, side + 1), dtype=np.uint8),
        TEST_LABELS: np.arange(5, dtype=np.uint8),
    }


def write_files(folder: Path, arrays: dict[str, np.ndarray], ending: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in arrays.items():
        idx.write(folder / f"{file}{ending}", array)
    return folder


class Mirrors:
    """Web servers that misbehave: `behaviour` maps the first part of an address to what is wrong there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour: dict[str, str] = {}
        self.requests: list[str] = []
        mirrors = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirrors.requests.append(self.path)
                mirror, file = self.path.strip("/").split("/")
                mirrors.answer(self, mirrors.behaviour.get(mirror, "works"), mirrors.folder / file)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.closing = threading.Event()
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, mirror: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{mirror}/"

    def answer(self, handler: BaseHTTPRequestHandler, behaviour: str, path: Path) -> None:
        data = path.read_bytes()
        length = len(data)
        if behaviour == "missing":
            handler.send_error(404)
            return
        if behaviour == "redirects":
            handler.send_response(302)
            handler.send_header("Location", f"/other/{path.name}")
            handler.end_headers()
            return
        if behaviour == "hangs":
            self.closing.wait(30)
            return
        if behaviour == "page":
            data = b"<!DOCTYPE html><title>Please log in</title>"
            length = len(data)
        if behaviour == "damages":
            data = data[:-10] + bytes(10)
        if behaviour == "other data":
            data = gzip.compress(gzip.decompress(data)[:-1] + b"\1")
            length = len(data)
        if behaviour == "cuts":
            data = data[:-10]
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if behaviour == "stalls":
            handler.wfile.write(data[:5])
            handler.wfile.flush()
            self.closing.wait(30)
            return
        handler.wfile.write(data)

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache folder; FASTMLP_DATA is not set, and there are no mirrors but by `mirrors`."""
    import pooch

    folder = tmp_path / "cache"
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: folder / name)
    monkeypatch.setattr(datasets, "_MNIST", dataclasses.replace(datasets._MNIST, mirrors=()))
    monkeypatch.setattr(datasets, "_FASHION_MNIST", dataclasses.replace(datasets._FASHION_MNIST, mirrors=()))
    return folder / "fastmlp"


@pytest.fixture
def mirrors(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    """Put a small data set in the place of MNIST, on two mirrors, "first" and "second"."""
    arrays = small_arrays()
    served = Mirrors(write_files(tmp_path / "served", arrays))
    digests = {
        file: hashlib.sha256(gzip.decompress((tmp_path / "served" / f"{file}.gz").read_bytes())).hexdigest()
        for file in datasets.FILES
    }
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(
        datasets,
        "_MNIST",
        dataclasses.replace(
            datasets._MNIST,
            sha256=digests,
            mirrors=(served.url("first"), served.url("second")),
            n_validation=2,
        ),
    )
    yield served
    served.close()


@pytest.fixture
def few_glyphs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets, "_GLYPHS_TRAINING", 30)
    monkeypatch.setattr(datasets, "_GLYPHS_VALIDATION", 10)
    monkeypatch.setattr(datasets, "_GLYPHS_TEST", 20)
    monkeypatch.setattr(datasets, "TRAINING_FACES", glyphs.TRAINING_FACES[:1])
    monkeypatch.setattr(datasets, "TEST_FACES", glyphs.TEST_FACES[:1])
    return cache


def check_small(dataset: datasets.Dataset) -> None:
    arrays = small_arrays()
    np.testing.assert_array_equal(dataset.validation.images, arrays[TRAIN_IMAGES][:2])
    np.testing.assert_array_equal(dataset.train.images, arrays[TRAIN_IMAGES][2:])
    np.testing.assert_array_equal(dataset.train.labels, arrays[TRAIN_LABELS][2:])
    np.testing.assert_array_equal(dataset.test.images, arrays[TEST_IMAGES])
    np.testing.assert_array_equal(dataset.test.labels, arrays[TEST_LABELS])


# What is published


def test_mirrors_are_two_or_more_and_https() -> None:
    for published in (datasets._MNIST, datasets._FASHION_MNIST):
        assert len(set(published.mirrors)) >= 2
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in published.mirrors)
        assert set(published.sha256) == set(datasets.FILES)
        assert len(published.class_names) == 10


@needs_real_mnist
def test_mnist_real_is_split_as_in_the_lesson() -> None:
    dataset = datasets.mnist()

    assert dataset.name == "MNIST" and dataset.class_names == tuple("0123456789")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.images.shape[1:] == (28, 28)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert part.images.flags.c_contiguous and not part.images.flags.writeable
        assert not part.labels.flags.writeable
    assert dataset.validation.labels[:5].tolist() == [5, 0, 4, 1, 9]  # as the training file begins
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert repr(dataset.train) == "<55,000 images of 28 x 28>"


@needs_real_mnist
def test_mnist_real_takes_no_network_and_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REAL is not None
    monkeypatch.setenv("FASTMLP_DATA", REAL)
    assert datasets.auto()[1] is None
    assert not cache.exists()


@needs_real_mnist
def test_load_real_mnist_equals_mnist() -> None:
    assert REAL is not None
    one, other = datasets.mnist(), datasets.load(Path(REAL) / "mnist")
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, part).images, getattr(other, part).images)


# FASTMLP_DATA


@pytest.mark.parametrize("ending", [".gz", ""])
def test_mnist_in_users_folder_is_used(
    mirrors: Mirrors, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    write_files(tmp_path / "data" / "mnist", small_arrays(), ending)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    check_small(datasets.mnist())
    assert mirrors.requests == [] and not cache.exists()


@pytest.mark.parametrize(
    ("damage", "error_and_message"),
    [
        (lambda data: data[:-20], (IdxFormatError, "cut short")),
        (lambda data: gzip.compress(gzip.decompress(data)[:-1] + b"\1"), (ValueError, "SHA-256")),
        (lambda _: b"", (IdxFormatError, "is empty")),
    ],
)
def test_mnist_damaged_in_users_folder_raises_and_is_left(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage, error_and_message
) -> None:
    error, message = error_and_message
    folder = write_files(tmp_path / "data" / "mnist", small_arrays())
    damaged = folder / f"{TEST_IMAGES}.gz"
    damaged.write_bytes(damage(damaged.read_bytes()))
    contents = damaged.read_bytes()
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    for function in (datasets.mnist, datasets.auto):
        with pytest.raises(error, match=message) as caught:
            function()
        assert str(damaged) in str(caught.value)
    assert damaged.read_bytes() == contents and mirrors.requests == []


def test_mnist_lacking_in_users_folder_goes_on_to_cache(
    mirrors: Mirrors,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_files(cache / "mnist", small_arrays())
    for setting in ["", str(tmp_path), str(tmp_path / "nowhere"), "~", "\n"]:
        monkeypatch.setenv("FASTMLP_DATA", setting)
        check_small(datasets.mnist())
    assert mirrors.requests == [] and caplog.records == []

    arrays = small_arrays()
    del arrays[TEST_LABELS]
    write_files(tmp_path / "partly" / "mnist", arrays)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "partly"))
    check_small(datasets.mnist())
    assert f"lacks {TEST_LABELS}; looking for MNIST elsewhere" in caplog.text


# The cache and the mirrors


def test_mnist_is_downloaded_once(mirrors: Mirrors, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_small(datasets.mnist())
    assert mirrors.requests == [f"/first/{file}.gz" for file in datasets.FILES]
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(
        f"{f}.gz" for f in datasets.FILES
    )
    check_small(datasets.mnist())
    assert len(mirrors.requests) == 4
    assert capfd.readouterr() == ("", "")  # no terminal, no progress


def test_mnist_plain_files_in_cache_are_used(mirrors: Mirrors, cache: Path) -> None:
    write_files(cache / "mnist", small_arrays(), "")
    check_small(datasets.mnist())
    assert mirrors.requests == []


@pytest.mark.parametrize("behaviour", ["missing", "redirects", "page", "damages", "other data", "cuts"])
def test_mnist_first_mirror_failing_takes_second_for_all(
    mirrors: Mirrors, cache: Path, behaviour: str
) -> None:
    mirrors.behaviour["first"] = behaviour
    check_small(datasets.mnist())
    assert [path.split("/")[1] for path in mirrors.requests] == ["first"] + ["second"] * 4


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("missing", "404 Client Error"),
        ("redirects", "is empty"),
        ("page", "not an IDX file: it begins with 0x3c21444f"),
        ("damages", "incorrect data check"),
        ("other data", "the SHA-256 of its uncompressed bytes is"),
        ("cuts", ""),
    ],
)
def test_mnist_no_mirror_working_raises_and_says_what_was_tried(
    mirrors: Mirrors, cache: Path, behaviour: str, reason: str
) -> None:
    mirrors.behaviour = {"first": behaviour, "second": behaviour}
    with pytest.raises(DownloadError) as caught:
        datasets.mnist()
    message = str(caught.value)
    assert message.startswith("MNIST is not on this machine and could not be downloaded (")
    assert mirrors.url("first") in message and mirrors.url("second") in message and reason in message
    assert str(cache / "mnist") in message and "FASTMLP_DATA" in message and "datasets.glyphs()" in message
    assert "\n" not in message
    assert len(mirrors.requests) == 2
    assert not cache.exists() or list((cache / "mnist").iterdir()) == []


@pytest.mark.parametrize("behaviour", ["hangs", "stalls"])
def test_mnist_silent_mirror_is_given_up(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setattr(datasets, "_FIRST_BYTE_SECONDS", 0.3)
    monkeypatch.setattr(datasets, "_STALL_SECONDS", 0.3)
    mirrors.behaviour["first"] = behaviour
    check_small(datasets.mnist())


def test_mnist_without_network_raises_within_seconds(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_host(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    monkeypatch.setattr(
        datasets,
        "_MNIST",
        dataclasses.replace(datasets._MNIST, mirrors=("https://a.invalid/", "https://b.invalid/")),
    )
    started = time.monotonic()
    with pytest.raises(
        DownloadError,
        match=r"https://a\.invalid/: Temporary failure in name resolution; https://b\.invalid/: Temp",
    ):
        datasets.mnist()
    assert time.monotonic() - started < 5


def test_mnist_lookup_that_hangs_is_given_up(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(datasets, "_FIRST_BYTE_SECONDS", 0.2)
    with pytest.raises(DownloadError, match=r"nothing came for 0\.2 s"):
        datasets.mnist()
    release.set()


def test_mnist_endless_answer_is_cut_off(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_MAX_DOWNLOAD", 100)
    with pytest.raises(DownloadError, match="it sends more than 100 bytes"):
        datasets.mnist()


def test_mnist_interrupted_download_leaves_nothing(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets._Received, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.mnist()
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "folder", "text"])
def test_mnist_damaged_cache_file_is_named_and_replaced(
    mirrors: Mirrors, cache: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    write_files(cache / "mnist", small_arrays())
    path = cache / "mnist" / f"{TRAIN_IMAGES}.gz"
    good = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "cut": good[:-9],
                "other": gzip.compress(gzip.decompress(good)[:-1] + b"\1"),
                "empty": b"",
                "text": b"hello",
            }[damage]
        )
    check_small(datasets.mnist())
    assert mirrors.requests == [f"/first/{TRAIN_IMAGES}.gz"]
    assert str(path) in caplog.text and caplog.records[0].levelno == logging.WARNING
    if damage != "folder":
        check_small(datasets.mnist())
        assert len(mirrors.requests) == 1


def test_mnist_damaged_cache_file_is_replaced_from_plain_one(
    mirrors: Mirrors, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_files(cache / "mnist", small_arrays(), "")
    path = cache / "mnist" / f"{TRAIN_LABELS}.gz"
    path.write_bytes(b"damaged")
    check_small(datasets.mnist())
    assert str(path) in caplog.text
    caplog.clear()
    check_small(datasets.mnist())
    assert caplog.records == [] and mirrors.requests == []


def test_mnist_damaged_cache_and_no_mirror_raises(mirrors: Mirrors, cache: Path) -> None:
    write_files(cache / "mnist", small_arrays())
    (cache / "mnist" / f"{TEST_LABELS}.gz").write_bytes(b"damaged")
    mirrors.behaviour = {"first": "missing", "second": "missing"}
    with pytest.raises(DownloadError):
        datasets.mnist()


def test_mnist_without_cache_folder_is_downloaded_each_time(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import pooch

    # What there is for a user without a home: "~" cannot be expanded.
    monkeypatch.setattr(pooch, "os_cache", lambda name: Path("~/.cache") / name)
    check_small(datasets.mnist())
    check_small(datasets.mnist())
    assert len(mirrors.requests) == 8 and not Path("~").exists()

    # A folder cannot be made in a file.
    cache.parent.mkdir()
    cache.write_bytes(b"")
    monkeypatch.setattr(pooch, "os_cache", lambda _: cache)
    check_small(datasets.mnist())
    assert "not kept in the cache" in caplog.text


def test_cache_folder_of_user_without_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd")

    def no_such_user(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    assert datasets._cache_folder() is None
    monkeypatch.setenv("HOME", "/somewhere")
    cache = datasets._cache_folder()
    assert cache is not None and cache.is_relative_to("/somewhere")


def _download_in_process(published: datasets._Published, cache: Path, barrier, results) -> None:
    import pooch

    pooch.os_cache = lambda name: cache.parent / name
    datasets._MNIST = published
    os.environ.pop("FASTMLP_DATA", None)
    barrier.wait()
    try:
        check_small(datasets.mnist())
        results.put("")
    except BaseException as error:
        results.put(repr(error))


def test_mnist_processes_at_once_agree(mirrors: Mirrors, cache: Path) -> None:
    # One file is damaged from the start, so that replacing races with reading too.
    write_files(cache / "mnist", {TRAIN_IMAGES: small_arrays()[TRAIN_IMAGES][:5]})
    context = multiprocessing.get_context("spawn")
    n = 3
    barrier, results = context.Barrier(n), context.Queue()
    processes = [
        context.Process(target=_download_in_process, args=(datasets._MNIST, cache, barrier, results))
        for _ in range(n)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in range(n)] == [""] * n
    for process in processes:
        process.join(60)
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(
        f"{f}.gz" for f in datasets.FILES
    )
    check_small(datasets.mnist())


def test_mnist_on_terminal_shows_progress(
    mirrors: Mirrors, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    check_small(datasets.mnist())
    assert f"MNIST: {TRAIN_IMAGES}.gz" in terminal.text
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    check_small(datasets.mnist())


# auto


def test_auto_without_mnist_gives_glyphs_and_reason(mirrors: Mirrors, few_glyphs: Path) -> None:
    mirrors.behaviour = {"first": "missing", "second": "page"}
    dataset, reason = datasets.auto()
    assert dataset.name == "glyphs"
    assert reason is not None and "\n" not in reason
    assert reason.startswith(
        "MNIST is not on this machine and could not be downloaded ("
    ) and reason.endswith(")")


def test_auto_with_mnist_gives_no_reason(mirrors: Mirrors, cache: Path) -> None:
    dataset, reason = datasets.auto()
    check_small(dataset)
    assert reason is None


# load


@pytest.mark.parametrize("ending", [".gz", ""])
def test_load_any_shape(tmp_path: Path, ending: str) -> None:
    arrays = small_arrays(side=7)
    dataset = datasets.load(str(write_files(tmp_path / "my digits", arrays, ending)))
    assert dataset.name == "my digits" and dataset.class_names == tuple("0123456789")
    assert dataset.train.images.shape == (11, 7, 8) and dataset.validation.images.shape == (1, 7, 8)
    np.testing.assert_array_equal(dataset.test.images, arrays[TEST_IMAGES])
    assert not dataset.test.images.flags.writeable and dataset.train.images.flags.c_contiguous


def test_load_n_validation_and_class_names(tmp_path: Path) -> None:
    folder = write_files(tmp_path, small_arrays())
    for n in (0, 5, 11, np.int64(3)):
        dataset = datasets.load(folder, n_validation=n)
        assert len(dataset.validation) == n and len(dataset.train) == 12 - n
    for n in (12, 13, -1):
        with pytest.raises(ValueError, match="n_validation"):
            datasets.load(folder, n_validation=n)
    with pytest.raises(TypeError, match="n_validation"):
        datasets.load(folder, n_validation=0.5)
    names = [*"abcdefghijk"]
    assert datasets.load(folder, class_names=names).class_names == tuple(names)
    with pytest.raises(ValueError, match=r"class_names has 9 names, but .* has labels up to 9"):
        datasets.load(folder, class_names=names[:9])
    for wrong in ("abcdefghijk", list(range(10))):
        with pytest.raises(TypeError, match="class_names"):
            datasets.load(folder, class_names=wrong)
    with pytest.raises(IdxFormatError, match="limit of 100"):
        datasets.load(folder, max_bytes=100)


def test_load_one_training_image(tmp_path: Path) -> None:
    arrays = {file: array[:1] for file, array in small_arrays().items()}
    dataset = datasets.load(write_files(tmp_path, arrays))
    assert len(dataset.train) == 1 and len(dataset.validation) == 0
    assert dataset.class_names == ("0",)


def test_load_labels_of_other_integer_types(tmp_path: Path) -> None:
    arrays = small_arrays()
    arrays[TRAIN_LABELS] = arrays[TRAIN_LABELS].astype(np.int32)
    arrays[TEST_LABELS] = np.array([0, 255, 1, 2, 3], np.int16)
    dataset = datasets.load(write_files(tmp_path, arrays))
    assert dataset.train.labels.dtype == np.uint8 and dataset.test.labels[1] == 255
    assert len(dataset.class_names) == 256


def test_load_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        datasets.load(tmp_path / "nowhere")
    arrays = small_arrays()
    del arrays[TRAIN_LABELS], arrays[TEST_IMAGES]
    with pytest.raises(FileNotFoundError, match=rf"lacks {TRAIN_LABELS} and {TEST_IMAGES} "):
        datasets.load(write_files(tmp_path, arrays))
    with pytest.raises(TypeError):
        datasets.load(3)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (TRAIN_IMAGES, np.zeros((12, 4, 5), np.float32), "holds float32"),
        (TRAIN_IMAGES, np.zeros(12, np.uint8), r"the shape \(12,\)"),
        (TRAIN_IMAGES, np.zeros((0, 4, 5), np.uint8), r"the shape \(0, 4, 5\)"),
        (TRAIN_IMAGES, np.zeros((12, 0, 5), np.uint8), r"the shape \(12, 0, 5\)"),
        (TRAIN_IMAGES, np.zeros((11, 4, 5), np.uint8), "11 images, but .* 12 labels"),
        (TEST_IMAGES, np.zeros((5, 5, 4), np.uint8), r"\(4, 5\), but .* of \(5, 4\)"),
        (TEST_IMAGES, np.zeros((5, 20), np.uint8), r"\(4, 5\), but .* of \(20,\)"),
        (TEST_LABELS, np.zeros(4, np.uint8), "5 images, but .* 4 labels"),
        (TEST_LABELS, np.zeros((5, 1), np.uint8), r"shape \(5, 1\), not integer labels"),
        (TEST_LABELS, np.zeros(5, np.float64), "float64 .* not integer labels"),
        (TEST_LABELS, np.array([0, 1, -1, 2, 3], np.int8), "labels from -1 to 3"),
        (TRAIN_LABELS, np.full(12, 256, np.int16), "labels from 256 to 256"),
    ],
)
def test_load_wrong_arrays_raise_and_name_file(
    tmp_path: Path, file: str, array: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(write_files(tmp_path, {**small_arrays(), file: array}))
    assert str(tmp_path / file) in str(caught.value)


def test_load_malformed_file_raises_format_error(tmp_path: Path) -> None:
    folder = write_files(tmp_path, small_arrays(), "")
    (folder / TEST_IMAGES).write_bytes(b"\0\0\x08\3")
    with pytest.raises(IdxFormatError, match=TEST_IMAGES):
        datasets.load(folder)


def test_split_of_unequal_lengths_raises() -> None:
    with pytest.raises(ValueError, match="3 images, but 2 labels"):
        datasets.Split(np.zeros((3, 2, 2), np.uint8), np.zeros(2, np.uint8))


# glyphs


def test_glyphs_are_made_once_and_kept(few_glyphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    made = datasets.glyphs()
    assert made.name == "glyphs" and made.class_names == tuple("0123456789")
    assert [len(part) for part in (made.train, made.validation, made.test)] == [30, 10, 20]
    assert made.train.images.shape == (30, 28, 28) and not made.train.images.flags.writeable
    (folder,) = few_glyphs.iterdir()
    assert folder.name == f"glyphs-{glyphs.GENERATOR_VERSION}-matplotlib-{matplotlib.__version__}"

    monkeypatch.setattr(datasets, "draw", lambda *_, **__: pytest.fail("drawn again"))
    kept = datasets.glyphs()
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(made, part).images, getattr(kept, part).images)
        np.testing.assert_array_equal(getattr(made, part).labels, getattr(kept, part).labels)


@pytest.mark.parametrize("damage", ["cut", "missing", "too few"])
def test_glyphs_damaged_in_cache_are_made_again(
    few_glyphs: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = datasets.glyphs()
    (folder,) = few_glyphs.iterdir()
    path = folder / f"{TEST_IMAGES}.gz"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        idx.write(path, made.test.images[:10])
        idx.write(folder / f"{TEST_LABELS}.gz", made.test.labels[:10])
    np.testing.assert_array_equal(datasets.glyphs().test.images, made.test.images)
    assert len(idx.read(path)) == 20
    assert (str(path) in caplog.text) == (damage == "cut")


def test_glyphs_without_cache_are_made(
    few_glyphs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    few_glyphs.parent.mkdir()
    few_glyphs.write_bytes(b"in the way")
    assert len(datasets.glyphs().train) == 30
    assert "not kept in the cache" in caplog.text
    monkeypatch.setattr(datasets, "_cache_folder", lambda: None)
    assert len(datasets.glyphs().train) == 30


def test_importing_datasets_loads_nothing_heavy() -> None:
    code = (
        "import sys; import fastmlp.datasets, fastmlp.glyphs, fastmlp.idx;"
        "heavy = {'matplotlib', 'PIL', 'pooch', 'tqdm', 'requests', 'click'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
