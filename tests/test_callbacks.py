"""Callbacks: when they are called, early stopping, and the progress display."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import math
import os
import pty
import re
import struct
import sys
import termios
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    Callback,
    CSVLogger,
    EarlyStopping,
    Net,
    Progress,
    TensorBoard,
    _training,
    callbacks,
    progress,
)

RNG = np.random.default_rng(0)
X = RNG.random((40, 6), dtype=np.float32)
Y = np.arange(40) % 3
HELD_OUT = RNG.random((30, 6), dtype=np.float32), np.arange(30) % 3


def new_net() -> Net:
    return Net([6, 5, 3], seed=1)


def fitted(**settings: Any) -> Net:
    net = new_net()
    net.fit(X, Y, batch_size=10, **settings)
    return net


def assert_same_weights(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)


# The hooks.


class Diary(Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_fit_begin(self, net: Net, fit: Any) -> None:
        self.lines.append(f"begin {fit.n_epochs} {fit.n_steps} {fit.n_samples} {fit.has_validation}")

    def on_interval(self, net: Net, fit: Any) -> None:
        self.lines.append(f"interval {fit.epoch} {fit.step} {fit.n_samples_seen}")
        assert math.isfinite(fit.loss)
        assert fit.seconds > 0

    def on_epoch_end(self, net: Net, fit: Any) -> None:
        self.lines.append(f"epoch {fit.epoch} {len(fit.history.loss)}")

    def on_fit_end(self, net: Net, fit: Any) -> None:
        self.lines.append("end")


def test_hooks_are_called_in_order_with_what_they_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_SECONDS_BETWEEN_INTERVALS", 0.0)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)
    diary = Diary()
    new_net().fit(X, Y, steps=5, batch_size=12, callbacks=[diary])
    assert diary.lines == [
        "begin 2 5 40 False",
        "interval 1 1 12",
        "interval 1 2 24",
        "interval 1 3 36",
        "interval 1 4 40",
        "epoch 1 1",
        "interval 2 5 52",
        "epoch 2 2",
        "end",
    ]


class Steps(Callback):
    """Note the steps that it is told of."""

    def __init__(self, every: Any) -> None:
        self.every = every
        self.steps: list[int] = []

    def on_step(self, net: Net, fit: Any) -> None:
        assert len(fit.history.step_loss) == fit.step == len(net.history.step_loss)
        self.steps.append(fit.step)


@pytest.mark.parametrize("seconds_per_call", [0.0, 1e6])
def test_on_step_is_called_after_every_so_many_steps_over_all_epochs(
    seconds_per_call: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", seconds_per_call)
    observers = [Steps(3), Steps(5), Steps(100), Steps(None)]
    net = new_net()
    net.fit(X, Y, epochs=4, batch_size=10, callbacks=observers)
    assert [observer.steps for observer in observers] == [[3, 6, 9, 12, 15], [5, 10, 15], [], []]
    assert_same_weights(net, fitted(epochs=4))


@pytest.mark.parametrize(
    ("every", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_every_that_is_no_number_of_steps_is_an_error(every: Any, error: type[Exception]) -> None:
    net = new_net()
    with pytest.raises(error, match="every must be a whole number of at least 1"):
        net.fit(X, Y, callbacks=[Steps(every)])
    assert net.n_epochs == 0


def test_on_step_without_every_is_an_error_unless_it_says_so() -> None:
    class Forgotten(Callback):
        def on_step(self, net: Net, fit: Any) -> None:
            raise AssertionError

    class Inherited(Forgotten):
        pass

    class Never(Forgotten):
        every = None

    net = new_net()
    for kind in (Forgotten, Inherited):
        with pytest.raises(ValueError, match=f"{kind.__name__} has on_step but no every"):
            net.fit(X, Y, callbacks=[kind()])
    assert net.n_epochs == 0
    set_later = Forgotten()
    set_later.every = 10**6
    net.fit(X, Y, epochs=1, callbacks=[Never(), set_later])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_train_begin", "on_fit_begin"),
        ("on_train_end", "on_fit_end"),
        ("on_epoch", "on_epoch_end"),
        ("on_epoch_begin", "on_epoch_end"),
        ("on_batch_end", "on_epoch_end"),
        ("on_steps", "on_step"),
    ],
)
def test_method_that_is_never_called_is_refused(name: str, meant: str) -> None:
    of_class = type("Keras", (Callback,), {name: lambda self, *_: None})()
    of_instance = Callback()
    setattr(of_instance, name, print)
    for callback in (of_class, of_instance):
        with pytest.raises(ValueError, match=f"has {name}, which fit does not call; did you mean {meant}"):
            fitted(callbacks=[callback])


def test_attributes_and_methods_of_ones_own_may_begin_with_on() -> None:
    own = {"on_gpu": False, "on_epoch": 3, "on_improvement": lambda self: None, "on_hook": lambda self: None}
    fitted(callbacks=[type("Own", (Callback,), own)()])


def test_on_step_can_stop_the_fit_at_that_very_step() -> None:
    class StopAt7(Steps):
        def on_step(self, net: Net, fit: Any) -> None:
            fit.stop()

    net = new_net()
    history = net.fit(X, Y, epochs=4, batch_size=10, callbacks=[StopAt7(7)])
    assert history.n_steps == [4, 3]
    assert_same_weights(net, fitted(steps=7))


def test_on_interval_keeps_its_distance_however_short_an_epoch_is() -> None:
    diary = Diary()
    seconds = callbacks._SECONDS_BETWEEN_INTERVALS
    begin = time.monotonic()
    new_net().fit(X, Y, epochs=500, callbacks=[diary])
    elapsed = time.monotonic() - begin
    assert 1 <= sum(line.startswith("interval") for line in diary.lines) <= 1 + elapsed / seconds


def test_single_callback_needs_no_list() -> None:
    diary = Diary()
    new_net().fit(X, Y, epochs=1, callbacks=diary)
    assert diary.lines[-1] == "end"


@pytest.mark.parametrize(("hook", "n_steps"), [("on_fit_begin", 0), ("on_interval", 1), ("on_epoch_end", 4)])
def test_stop_ends_the_fit_and_completes_the_epoch_under_way(
    hook: str, n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "_SECONDS_BETWEEN_INTERVALS", 0.0)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)
    stop = Callback()
    setattr(stop, hook, lambda net, fit: fit.stop())
    net = new_net()
    history = net.fit(X, Y, epochs=5, batch_size=10, callbacks=[stop], validation_data=HELD_OUT)
    assert len(history.step_loss) == n_steps
    assert len(history.loss) == len(history.validation_loss) == (1 if n_steps else 0)
    if n_steps:
        assert_same_weights(net, fitted(steps=n_steps))


# Early stopping.


class Script(Callback):
    """Replace what an epoch's validation found by what the test wants it to have found."""

    def __init__(self, *values: float, monitor: str = "validation_loss") -> None:
        self.values, self.monitor = values, monitor

    def on_epoch_end(self, net: Net, fit: Any) -> None:
        getattr(fit.history, self.monitor)[-1] = self.values[fit.epoch - 1]


def stop_early(*values: float, net: Net | None = None, **settings: Any) -> tuple[Net, EarlyStopping]:
    stopping = EarlyStopping(**({"patience": 2} | settings))
    net = new_net() if net is None else net
    script = Script(*values, monitor=stopping.monitor)
    net.fit(X, Y, epochs=len(values), batch_size=10, validation_data=HELD_OUT, callbacks=[script, stopping])
    return net, stopping


def test_early_stopping_ends_when_patience_is_over_and_uses_the_best_weights() -> None:
    net, stopping = stop_early(3, 2, 4, 2, 1, 0)
    assert len(net.history.loss) == 4  # epochs 3 and 4 were no better than epoch 2
    assert (stopping.best_epoch, stopping.best_value) == (2, 2)
    assert_same_weights(net, fitted(epochs=2))
    assert net.history.notes[0].startswith("The weights in use are those of epoch 2, the best")


def test_early_stopping_uses_the_best_weights_after_the_last_epoch_too() -> None:
    net, stopping = stop_early(3, 1, 2)
    assert stopping.best_epoch == 2
    assert_same_weights(net, fitted(epochs=2))


def test_early_stopping_leaves_the_last_weights_alone_if_they_are_the_best() -> None:
    net, stopping = stop_early(3, 2, 1)
    assert stopping.best_epoch == 3
    assert_same_weights(net, fitted(epochs=3))
    assert net.history.notes == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_early_stopping_uses_the_best_weights_after_an_interruption(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "_SECONDS_BETWEEN_INTERVALS", 0.0)

    class Fail(Callback):
        def on_interval(self, net: Net, fit: Any) -> None:
            if fit.epoch == 4:
                raise error

    net, stopping = new_net(), EarlyStopping(patience=9)
    observers = [Script(3, 1, 2, 2), stopping, Fail()]
    with pytest.raises(error):
        net.fit(X, Y, epochs=9, batch_size=10, validation_data=HELD_OUT, callbacks=observers)
    assert_same_weights(net, fitted(epochs=2))


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.1, momentum=0.9)])
def test_further_fit_goes_on_from_the_live_weights_and_moments(optimizer: Adam | SGD, tmp_path: Path) -> None:
    net = new_net()
    observers = [Script(1, 2, 3), EarlyStopping(patience=9)]
    settings: dict[str, Any] = {"batch_size": 10, "optimizer": optimizer}
    net.fit(X, Y, epochs=3, validation_data=HELD_OUT, callbacks=observers, **settings)
    best = new_net()
    best.fit(X, Y, epochs=1, **settings)
    assert_same_weights(net, best)
    np.testing.assert_array_equal(net.predict_proba(X), best.predict_proba(X))
    net.save(tmp_path / "best.safetensors")
    assert_same_weights(Net.load(tmp_path / "best.safetensors"), best)

    with pytest.raises(ValueError, match="epochs"):  # what is refused leaves the best in use
        net.fit(X, Y, epochs=-1)
    assert_same_weights(net, best)

    net.fit(X, Y, epochs=2, **settings)
    straight = new_net()
    straight.fit(X, Y, epochs=5, **settings)
    assert_same_weights(net, straight)


def test_weights_set_by_the_user_replace_best_and_live_ones() -> None:
    momentum = {"optimizer": SGD(0.1), "batch_size": 10}
    net = new_net()
    observers = [Script(1, 2, 3), EarlyStopping(patience=9)]
    net.fit(X, Y, epochs=3, validation_data=HELD_OUT, callbacks=observers, **momentum)
    start = new_net()
    net.set_weights(start.weights, start.biases)
    net.fit(X, Y, epochs=1, shuffle=False, **momentum)
    start.fit(X, Y, epochs=1, shuffle=False, **momentum)
    assert_same_weights(net, start)


def test_early_stopping_watches_accuracy_upwards() -> None:
    net, stopping = stop_early(0.5, 0.7, 0.7, 0.6, 0.9, monitor="validation_accuracy")
    assert len(net.history.loss) == 4
    assert (stopping.best_epoch, stopping.best_value) == (2, 0.7)


def test_early_stopping_wants_a_gain_of_more_than_min_delta() -> None:
    net, stopping = stop_early(1.0, 0.95, 0.92, 0.5, min_delta=0.1)
    assert len(net.history.loss) == 3
    assert stopping.best_epoch == 1
    # Small gains add up: what counts is the distance to the best, not to the epoch before.
    assert stop_early(1.0, 0.95, 0.875, 0.85, min_delta=0.1)[1].best_epoch == 3


@pytest.mark.parametrize("nan", [math.nan, math.inf, -math.inf])
def test_early_stopping_takes_what_is_not_finite_for_worse_than_any_number(nan: float) -> None:
    assert stop_early(nan, 2, nan, 1)[1].best_epoch == 4
    net, stopping = stop_early(nan, nan, nan)
    assert len(net.history.loss) == 2
    assert stopping.best_epoch == 0
    assert math.isnan(stopping.best_value)
    assert_same_weights(net, fitted(epochs=2))


def test_early_stopping_forgets_what_an_earlier_fit_found() -> None:
    net, stopping = new_net(), EarlyStopping(patience=1)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 10, "validation_data": HELD_OUT}
    net.fit(X, Y, callbacks=[Script(1, 2), stopping], **settings)
    assert stopping.best_epoch == 1
    net.fit(X, Y, callbacks=[Script(9, 8), stopping], **settings)
    assert (stopping.best_epoch, stopping.best_value) == (2, 8)


def test_early_stopping_can_watch_the_training_loss_without_validation() -> None:
    stopping = EarlyStopping(monitor="loss")
    new_net().fit(X, Y, epochs=3, callbacks=[stopping])
    assert stopping.best_epoch == 3


def test_early_stopping_without_validation_is_refused_and_changes_nothing() -> None:
    net = fitted(epochs=1)
    history = net.history
    with pytest.raises(
        ValueError, match="EarlyStopping watches validation_loss, but there are no validation"
    ):
        net.fit(X, Y, callbacks=[EarlyStopping()])
    assert_same_weights(net, fitted(epochs=1))
    assert net.n_epochs == 1
    assert net.history is history


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience must be a whole number of at least 1, not 0"),
        ({"patience": 1.5}, TypeError, "patience"),
        ({"monitor": "accuracy"}, ValueError, "monitor must be one of validation_loss, .*, not accuracy"),
        ({"min_delta": -1}, ValueError, "min_delta must be at least 0, not -1"),
        ({"min_delta": math.nan}, ValueError, "min_delta must be finite"),
    ],
)
def test_early_stopping_bad_setting_is_an_error(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**settings)


# Logs.


def read_log(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_logger_writes_what_the_history_has_line_by_line(tmp_path: Path) -> None:
    class Look(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            assert len(read_log(path)) == fit.epoch

    path = tmp_path / "log.csv"
    net = new_net()
    net.fit(X, Y, epochs=3, batch_size=10, callbacks=[CSVLogger(path), Look()], validation_data=HELD_OUT)
    net.history.save_csv(tmp_path / "history.csv")
    assert path.read_text() == (tmp_path / "history.csv").read_text()
    net.fit(X, Y, epochs=2, callbacks=[CSVLogger(path)])
    assert [row["epoch"] for row in read_log(path)] == ["1", "2"]


@pytest.mark.parametrize("step", [6, 8])
def test_csv_logger_appends_after_a_resume_and_drops_what_came_after_the_checkpoint(
    step: int, tmp_path: Path
) -> None:
    class Interrupt(Steps):
        def on_step(self, net: Net, fit: Any) -> None:
            net.save(tmp_path / "checkpoint", training_state=True)
            raise KeyboardInterrupt

    path = tmp_path / "log.csv"
    with pytest.raises(KeyboardInterrupt):
        new_net().fit(X, Y, epochs=3, batch_size=10, callbacks=[CSVLogger(path), Interrupt(step)])
    assert len(read_log(path)) == 1
    with path.open("a") as file:  # as a run would that was killed an epoch after its last checkpoint
        file.write("2,9.9,,,0.001,1.0,4,40.0\n")
    net = Net.load(tmp_path / "checkpoint")
    net.fit(X, Y, callbacks=[CSVLogger(path)], resume=True)
    assert [row["epoch"] for row in read_log(path)] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in read_log(path)] == net.history.loss


def test_csv_logger_into_a_missing_folder_is_an_error_before_any_step(tmp_path: Path) -> None:
    net = new_net()
    with pytest.raises(FileNotFoundError, match=r"missing.log\.csv"):
        net.fit(X, Y, callbacks=[CSVLogger(tmp_path / "missing" / "log.csv")])
    assert net.n_epochs == 0


class Writer:
    """Stand in for tensorboardX.SummaryWriter, and remember what is written."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: list[tuple[str, float, int]] = []
        self.closed = False
        written.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


written: list[Writer] = []


def test_tensor_board_writes_each_number_of_an_epoch_at_its_last_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written.clear()
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    net = new_net()
    history = net.fit(X, Y, epochs=2, batch_size=10, callbacks=[TensorBoard("runs/one")])
    (writer,) = written
    assert (writer.folder, writer.purge_step, writer.closed) == (str(Path("runs/one")), None, True)
    assert ("loss", history.loss[0], 4) in writer.scalars
    assert ("samples_per_second", history.samples_per_second[1], 8) in writer.scalars
    assert not any(name.startswith("validation") for name, _, _ in writer.scalars)

    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, epochs=2, batch_size=10, callbacks=[TensorBoard("runs/two"), Fail(6)])
    net.fit(X, Y, callbacks=[TensorBoard("runs/two")], resume=True)
    assert [writer.purge_step for writer in written] == [None, None, 7]
    assert all(writer.closed for writer in written)


class Fail(Steps):
    def on_step(self, net: Net, fit: Any) -> None:
        raise ZeroDivisionError


def test_tensor_board_files_are_written_by_tensorboard_x(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    new_net().fit(X, Y, epochs=2, callbacks=[TensorBoard(tmp_path / "run")])
    (file,) = (tmp_path / "run").iterdir()
    assert b"validation" not in file.read_bytes()
    assert file.read_bytes().count(b"learning_rate") == 2


def test_tensor_board_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[tensorboard\]"'):
        TensorBoard("runs")


# Progress.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_in(file: io.StringIO, **settings: Any) -> str:
    new_net().fit(X, Y, batch_size=10, callbacks=[Progress(file=file)], **settings)
    return file.getvalue()


LAST_LINE = r"epoch 3/3, step 12/12, loss \d\.\d{4}, validation accuracy [01]\.\d{4}, [\d,]+ images/s"


def test_progress_in_a_file_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    text = shown_in(io.StringIO(), epochs=3, validation_data=HELD_OUT)
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert re.fullmatch(r"epoch 1/3, step 4/12, loss .*, [\d,]+ images/s, 00:00 left", lines[0])
    assert re.fullmatch(LAST_LINE, lines[2])


def test_progress_in_a_file_does_not_flood_it() -> None:
    text = shown_in(io.StringIO(), epochs=50)
    # A line a second; the last one in any case.
    assert text.count("\n") < 20
    assert text.splitlines()[-1].startswith("epoch 50/50, step 200/200, loss")


def test_progress_in_a_terminal_is_a_bar_with_all_fields() -> None:
    tqdm = pytest.importorskip("tqdm")
    text = shown_in(Terminal(), epochs=3, validation_data=HELD_OUT)
    last = [part for part in re.split(r"[\r\n]", text) if part.strip()][-1]
    assert re.search(
        r"epoch 3/3, step 12/12 \|[█#]+\| loss \d\.\d{4}, val. \d+\.\d\d %, .* images/s, 00:00 left", last
    )
    assert text.endswith("\n")
    assert tqdm.tqdm.monitor is None  # no thread of tqdm's is left behind


@pytest.mark.parametrize(("columns", "speed"), [(80, False), (120, True)])
def test_progress_in_a_narrow_terminal_has_a_bar_rather_than_the_speed(columns: int, speed: bool) -> None:
    pytest.importorskip("tqdm")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        settings = {"steps": 1000, "validation_data": HELD_OUT}
        new_net().fit(X, Y, batch_size=10, callbacks=[Progress(file=terminal)], **settings)
    shown = b""
    with os.fdopen(master, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while piece := screen.read(2**12):  # Linux ends it with an error
            shown += piece
    last = [part for part in re.split(r"[\r\n]", shown.decode()) if part.strip()][-1]
    assert re.search(r"epoch 250/250, step 1000/1000 \|[█#]{8,}\| loss .*, 00:00 left", last)
    assert len(last) < columns
    assert ("images/s" in last) == speed


def test_progress_without_tqdm_is_plain_lines_even_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    monkeypatch.setitem(__import__("sys").modules, "tqdm.std", None)
    assert "\r" not in shown_in(Terminal(), epochs=1)


def test_progress_goes_to_stderr_if_asked_for_and_nowhere_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fitted(epochs=1)
    fitted(epochs=1, progress=False)
    assert capfd.readouterr() == ("", "")
    fitted(epochs=1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("epoch 1/1, step 4/4, loss")


def test_progress_survives_that_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    fitted(epochs=1, progress=True)


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_progress_after_an_interruption_leaves_a_finished_line(file: io.StringIO) -> None:
    interrupt = Callback()

    def on_epoch_end(net: Net, fit: Any) -> None:
        raise KeyboardInterrupt

    interrupt.on_epoch_end = on_epoch_end
    with pytest.raises(KeyboardInterrupt):
        new_net().fit(X, Y, epochs=9, batch_size=10, callbacks=[Progress(file=file), interrupt])
    assert file.getvalue().endswith("\n")
    assert "epoch 1/9, step 4/36" in file.getvalue()


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_progress_of_a_resumed_fit_counts_the_steps_before(file: io.StringIO) -> None:
    net = new_net()
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, epochs=3, batch_size=10, callbacks=[Fail(6)])
    net.fit(X, Y, callbacks=[Progress(file=file)], resume=True)
    assert "epoch 3/3, step 12/12" in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "00:00"), (59.6, "01:00"), (3599, "59:59"), (3600, "1:00:00"), (1e6, "277:46:40")],
)
def test_duration_is_written_in_hours_minutes_and_seconds(seconds: float, words: str) -> None:
    assert progress._duration(seconds) == words


def test_public_names_of_callbacks_are_exported() -> None:
    assert {fastmlp.Callback, fastmlp.EarlyStopping, fastmlp.Progress} == {Callback, EarlyStopping, Progress}
