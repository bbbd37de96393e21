"""Disks that are full, folders that are none, names that are odd: a clear error, and the old file whole."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastmlp import Checkpoint, CSVLogger, Net, cli, datasets, idx
from fastmlp._atomic_file import append_whole

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (200, 100), dtype=np.uint8)
y = rng.integers(0, 10, 200)
OLD = b"an old file"


def fitted() -> Net:
    net = Net([100, 30, 10], seed=0)
    net.fit(X, y, epochs=2)
    return net


def save_net(path: Path) -> None:
    fitted().save(path)


def save_checkpoint(path: Path) -> None:
    Net([100, 30, 10], seed=0).fit(X, y, epochs=2, callbacks=[Checkpoint(path)])


def save_history(path: Path) -> None:
    fitted().history.save_csv(path)


def log_history(path: Path) -> None:
    Net([100, 30, 10], seed=0).fit(X, y, epochs=2, callbacks=[CSVLogger(path)])


def write_idx(path: Path) -> None:
    idx.write(path, X)


WRITERS = (save_net, save_checkpoint, save_history, log_history, write_idx)
each_writer = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 128 kB, which only root can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only Linux's root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=128k", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@each_writer
def test_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(
    disk: Path, write: Callable[[Path], None]
) -> None:
    path = disk / "file"
    path.write_bytes(OLD)
    fill(disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(path)
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename) == path
    assert path.read_bytes() == OLD
    assert names_in(disk) == {"file", "filler"}


def test_disk_that_becomes_full_in_mid_write_leaves_the_old_file(disk: Path) -> None:
    path = disk / "net.safetensors"
    save_net(path)
    old = path.read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        Net([100, 400, 10], seed=0).save(path)  # 177 kB
    assert path.read_bytes() == old
    assert names_in(disk) == {path.name}
    Net.load(path)


def test_append_to_a_full_disk_leaves_no_part(disk: Path) -> None:
    path = disk / "log.csv"
    path.write_bytes(b"line\n")
    with pytest.raises(OSError, match="No space left on device") as caught:
        append_whole(path, bytes(10**6))
    assert Path(caught.value.filename) == path
    assert path.read_bytes() == b"line\n"


def test_checkpoint_on_a_full_disk_leaves_a_net_that_can_go_on(disk: Path, tmp_path: Path) -> None:
    fill(disk)
    net = Net([100, 30, 10], seed=0)
    with pytest.raises(OSError, match="No space left on device"):
        net.fit(X, y, epochs=3, callbacks=[Checkpoint(disk / "checkpoint")])
    net.fit(X, y, epochs=3, resume=True, callbacks=[Checkpoint(tmp_path / "checkpoint")])
    expected = Net([100, 30, 10], seed=0)
    expected.fit(X, y, epochs=3)
    np.testing.assert_array_equal(net.weights[0], expected.weights[0])


@each_writer
def test_read_only_folder_is_an_error_that_names_the_file(disk: Path, write: Callable[[Path], None]) -> None:
    path = disk / "file"
    path.write_bytes(OLD)
    mount("-o", "remount,ro", disk)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        write(path)
    assert Path(caught.value.filename) == path
    assert path.read_bytes() == OLD


def may_list(folder: Path) -> bool:
    try:
        names_in(folder)
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Be nobody for a while, if root, who may write anywhere."""
    user = os.geteuid()
    if user == 0:
        try:
            os.seteuid(65534)
        except OSError as error:
            pytest.skip(f"there is nobody here: {error}")
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="there are no users here")
@each_writer
def test_folder_without_permission_is_an_error_that_names_the_file(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "file")  # imports what nobody might not be allowed to read
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        path = Path(folder) / "file"
        with not_root():
            if not may_list(path.parent):
                pytest.skip(f"nobody cannot reach {path.parent}")
            with pytest.raises(PermissionError) as caught:
                write(path)
        assert Path(caught.value.filename) == path
        assert names_in(Path(folder)) == set()
        Path(folder).chmod(0o755)


@each_writer
def test_path_that_is_a_folder_is_an_error_that_names_it(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        write(tmp_path)
    assert Path(caught.value.filename) == tmp_path
    assert names_in(tmp_path) == set()


@each_writer
def test_folder_that_is_missing_or_a_file_is_an_error_that_names_the_path(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    (tmp_path / "plain").write_bytes(OLD)
    for path, error in (
        (tmp_path / "no" / "file", FileNotFoundError),
        (tmp_path / "plain" / "file", OSError),
    ):
        with pytest.raises(error) as caught:
            write(path)
        assert Path(caught.value.filename) == path
    assert names_in(tmp_path) == {"plain"}
    assert (tmp_path / "plain").read_bytes() == OLD


@each_writer
def test_symbolic_link_stays_and_its_target_is_replaced(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    target, link, expected = tmp_path / "target", tmp_path / "link", tmp_path / "expected"
    target.write_bytes(OLD)
    link.symlink_to("target")
    write(link)
    assert link.is_symlink()
    write(expected)
    assert target.stat().st_size == pytest.approx(expected.stat().st_size, abs=40)  # seconds are in a history
    assert names_in(tmp_path) == {"target", "link", "expected"}


@each_writer
def test_symbolic_link_to_itself_is_an_error(tmp_path: Path, write: Callable[[Path], None]) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(OSError, match="symbolic link"):
        write(link)
    assert names_in(tmp_path) == {"link"}


@pytest.mark.parametrize(
    "name", ["größe 数字 🙂", "-o", "new\nline", "x" * 255, os.fsdecode(b"not UTF-8: \xff")]
)
@each_writer
def test_odd_name_is_a_name_like_any_other(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert names_in(tmp_path) == {name}


@each_writer
def test_name_too_long_is_an_error_that_names_it(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / ("x" * 256)
    with pytest.raises(OSError, match="name too long") as caught:
        write(path)
    assert Path(caught.value.filename) == path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("write", [save_net, save_history, write_idx], ids=lambda write: write.__name__)
def test_device_that_is_full_is_an_error_that_names_it(write: Callable[[Path], None]) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(Path("/dev/full"))
    assert caught.value.filename in ("/dev/full", Path("/dev/full"))


def save_again_and_again(seed: int, path: Path, barrier: object) -> None:
    net = Net([100, 30, 10], seed=seed)
    barrier.wait()  # type: ignore[attr-defined]
    for _ in range(50):
        net.save(path)


def test_processes_that_save_to_one_name_leave_a_whole_file_at_any_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "net.safetensors"
    Net([100, 30, 10], seed=1).save(path)
    barrier = context.Barrier(3)
    writers = [context.Process(target=save_again_and_again, args=[seed, path, barrier]) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    barrier.wait(60)
    seeds = set()
    while any(writer.is_alive() for writer in writers):
        seeds.add(Net.load(path).seed)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seeds <= {1, 2}
    assert names_in(tmp_path) == {path.name}


def test_save_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    program = (
        "from fastmlp import Net\nnet = Net([100, 300, 10], seed=2)\nprint(flush=True)\n"
        f"while True: net.save({str(path)!r})"
    )
    for delay in np.linspace(0.0, 0.05, 6):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(float(delay))
            process.send_signal(signal.SIGKILL)
        if path.exists():
            assert Net.load(path).seed == 2


# The command line, and the cache of datasets.


def write_dataset(folder: Path) -> None:
    folder.mkdir()
    for prefix, n in (("train", 300), ("t10k", 50)):
        for name, array in (
            ("images-idx3", np.zeros((n, 4, 4), np.uint8) + rng.integers(0, 256, (n, 1, 1), dtype=np.uint8)),
            ("labels-idx1", rng.integers(0, 3, n, dtype=np.uint8)),
        ):
            idx.write(folder / f"{prefix}-{name}-ubyte.gz", array)


def train(data: Path, output: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = ["--epochs", "1", "--layers", "8", "--batch-size", "50", *more]
    unset = {"HOME", "XDG_CACHE_HOME"} - set(environment)
    return subprocess.run(
        [sys.executable, "-m", "fastmlp", "train", "--dataset", str(data), "-o", str(output), *settings],
        env={name: value for name, value in os.environ.items() if name not in unset} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(errors) == 1, done.stderr
    assert words in errors[0]


def test_train_without_home_into_an_odd_name_does(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    done = train(tmp_path / "data", tmp_path / "größe 数字")
    assert done.returncode == 0, done.stderr
    assert cli.MODEL in names_in(tmp_path / "größe 数字")


def test_train_onto_a_full_disk_exits_2_and_leaves_the_earlier_run(disk: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    output = disk / "run"
    output.mkdir()
    save_net(output / cli.MODEL)
    old = (output / cli.MODEL).read_bytes()
    fill(disk)
    done = train(tmp_path / "data", output, "--overwrite")
    assert_one_line(done, f"{output / cli.MODEL}: No space left on device")
    assert (output / cli.MODEL).read_bytes() == old
    assert names_in(output) == {cli.MODEL}


def test_train_onto_a_read_only_disk_exits_2_before_training(disk: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    mount("-o", "remount,ro", disk)
    done = train(tmp_path / "data", disk / "run")
    assert_one_line(done, "Read-only file system")
    assert "epoch" not in done.stdout


def test_train_into_what_is_a_file_exits_2(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    (tmp_path / "run").write_bytes(OLD)
    assert_one_line(train(tmp_path / "data", tmp_path / "run"), "is not a folder")
    assert (tmp_path / "run").read_bytes() == OLD


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_cache_that_cannot_be_written_is_done_without(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    if state == "full":
        fill(disk)
    else:
        mount("-o", "remount,ro", disk)
    before = names_in(disk)
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    for split, n in (("TRAINING", 30), ("VALIDATION", 10), ("TEST", 20)):
        monkeypatch.setattr(datasets, f"_GLYPHS_{split}", n)
    images = datasets.glyphs().test.images
    assert len(images) == 20
    assert "was not kept in the cache" in caplog.text
    leftovers = {entry.name for entry in disk.rglob("*") if entry.is_file()}
    assert leftovers == before
