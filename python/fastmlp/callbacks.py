"""Observers of a training run: a progress display, early stopping, and the base of the user's own."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp.history import History

_SECONDS_BETWEEN_INTERVALS = (
    0.05  # at least; the core's calls end about every 75 ms, but also at an epoch's end
)
_SECONDS_BETWEEN_LINES = 1.0
_SECONDS_BETWEEN_LINES_IN_AN_EPOCH = 10.0


@dataclass(eq=False)
class Fit:
    """What a callback may know of the running fit, and its way to end it.

    Attributes
    ----------
    history : History
        What happened so far.
    n_epochs : int
        Epochs that this fit will begin, the last of them perhaps cut short by ``steps=``.
    n_steps : int
        Steps that this fit will do.
    n_samples : int
        Samples that are trained on in a whole epoch.
    has_validation : bool
        Whether there are samples for validation.
    epoch : int
        The epoch under way, or in `Callback.on_epoch_end` the one that ended, counted from 1.
    n_samples_seen : int
        Samples trained on in this fit, each counted as often as it was used.
    seconds : float
        Time spent on training in this fit, without validation and callbacks.
    loss : float
        Mean loss of the latest steps, those of about 75 ms, in nats; NaN before the first.
    stopped : bool
        Whether a callback asked for the end.
    """

    history: History
    n_epochs: int
    n_steps: int
    n_samples: int
    has_validation: bool
    epoch: int = 0
    n_samples_seen: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    stopped: bool = False

    def __post_init__(self) -> None:
        self._next_interval = 0.0

    @property
    def step(self) -> int:
        """Steps done in this fit."""
        return len(self.history.step_loss)

    def stop(self) -> None:
        """End the fit: an epoch under way is cut short, but gets its validation and its entry in history."""
        self.stopped = True

    def _advance(self, n_samples: int, seconds: float, loss: float) -> bool:
        """Take in what a call of the core did; return whether it is time for `Callback.on_interval`."""
        self.n_samples_seen += n_samples
        self.seconds += seconds
        self.loss = loss
        now = time.monotonic()
        if now < self._next_interval:
            return False
        self._next_interval = now + _SECONDS_BETWEEN_INTERVALS
        return True


class Callback:
    """An observer of a training run; derive from it and override what you need.

    An exception in a method ends the fit and comes out of it; the net then holds the weights after some whole
    step and can be trained on. `net` is the Net that is being trained, which may be used in every method: to
    predict, to save it, to set its weights. What a callback reads from the clock must not change the weights
    if runs are to be repeatable.

    Examples
    --------
    >>> from fastmlp import Callback, Net
    >>> class StopWhenGood(Callback):
    ...     def on_epoch_end(self, net, fit):
    ...         if fit.history.loss[-1] < 0.1:
    ...             fit.stop()
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> history = Net([4, 32, 4], seed=0).fit(X, y, epochs=5000, callbacks=[StopWhenGood()])
    >>> len(history.loss) < 5000
    True
    """

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Do something before the first step, after all arguments have been checked."""

    def on_interval(self, net: Any, fit: Fit) -> None:
        """Do something about every 100 ms, at least a step apart: for showing, saving, stopping."""

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Do something after an epoch and its validation, when history has the epoch's entry."""

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Do something at the end, be it by an error or Ctrl-C; called whenever on_fit_begin was."""


class EarlyStopping(Callback):
    """End training when a number has stopped getting better, and use the weights with which it was best.

    The best weights are put in use whenever the fit ends: after the last epoch, after Ctrl-C, after an error.
    They are kept beside the live ones: the net predicts with the best and saves the best, but a further fit
    goes on from the live ones, as if it had never stopped.

    Parameters
    ----------
    patience : int, default 5
        The fit ends after this many epochs in a row without a new best number; at least 1.
    monitor : {"validation_loss", "validation_accuracy", "loss"}, default "validation_loss"
        The list of `History` to watch. Accuracy counts as better if greater, the losses if smaller.
    min_delta : float, default 0.0
        What is better by no more than this does not count as better; at least 0.

    Attributes
    ----------
    best_epoch : int
        The epoch of the best number in the last fit, counted from 1; 0 if there was none.
    best_value : float
        That number; NaN if there was none.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range. `Net.fit` raises ValueError if a validation number
        is to be watched and there are no validation data, or, with squared_error, no accuracy.

    References
    ----------
    L. Prechelt: Early Stopping - But When?, in Neural Networks: Tricks of the Trade,
    1998; the class UP of criteria, counting from the best epoch.

    Examples
    --------
    >>> from fastmlp import EarlyStopping, Net
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> stopping = EarlyStopping(patience=2)
    >>> history = Net([4, 8, 4], seed=0).fit(X, y, epochs=3, validation_data=(X, y), callbacks=[stopping])
    >>> stopping.best_epoch
    3
    """

    def __init__(
        self, patience: int = 5, *, monitor: str = "validation_loss", min_delta: float = 0.0
    ) -> None:
        self.patience = _validation.whole_number(patience, "patience")
        self.monitor = _validation.one_of(
            monitor, "monitor", ("validation_loss", "validation_accuracy", "loss")
        )
        self.min_delta = _validation.real_number(min_delta, "min_delta")
        if self.min_delta < 0:
            raise ValueError(f"min_delta must be at least 0, not {self.min_delta:g}.")
        self._forget()

    def _forget(self) -> None:
        self.best_epoch = 0
        self.best_value = math.nan
        self._best_step = 0
        self._best: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] | None = None

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Forget what an earlier fit has found."""
        self._forget()
        if not fit.has_validation and self.monitor != "loss":
            raise ValueError(
                f"EarlyStopping watches {self.monitor}, but there are no validation data; pass "
                'validation_data or validation_split to fit, or EarlyStopping(monitor="loss").'
            )
        if self.monitor == "validation_accuracy" and net.loss == "squared_error":
            raise ValueError(
                "EarlyStopping watches validation_accuracy, but with squared_error there is none; use "
                'EarlyStopping(monitor="validation_loss").'
            )

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Keep the weights if they are the best so far; stop if the best are too long ago."""
        value = getattr(fit.history, self.monitor)[-1]
        if self._is_better(value):
            self._best = net._copy_parameters()
            self.best_epoch, self.best_value, self._best_step = fit.epoch, value, fit.step
        elif fit.epoch - self.best_epoch >= self.patience:
            fit.stop()

    def _is_better(self, value: float) -> bool:
        if math.isnan(self.best_value):
            return not math.isnan(value)
        gain = self.best_value - value
        if self.monitor == "validation_accuracy":
            gain = -gain
        return gain > self.min_delta

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Put the best weights in use."""
        if self._best is None:
            return
        if fit.step != self._best_step:
            net._use_beside_live(*self._best)
            fit.history.notes.append(
                f"The weights in use are those of epoch {self.best_epoch}, the best "
                f"({self.monitor} {self.best_value:.4g})."
            )
        self._best = None


class Progress(Callback):
    """Show how far training is: epoch, step, loss, validation accuracy, images per second and time left.

    In a terminal, and in a notebook that has ipywidgets, it is a bar; elsewhere (in a log file, or without
    the tqdm package) plain lines without control characters, at most one a second.

    Parameters
    ----------
    file : text file, optional
        Where to write; by default sys.stderr as it is when the fit begins.

    Examples
    --------
    >>> import io
    >>> from fastmlp import Net, Progress
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> log = io.StringIO()
    >>> history = Net([4, 8, 4], seed=0).fit(X, y, epochs=3, callbacks=[Progress(file=log)])
    >>> log.getvalue().splitlines()[-1][:21]
    'epoch 3/3, step 3/3, '
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._display: _Bar | _Lines | None = None

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Choose between bar and lines."""
        file = sys.stderr if self._file is None else self._file
        bar = _bar_class(file, may_be_notebook=self._file is None)
        self._display = _Lines(file) if bar is None else _Bar(bar, file, fit)

    def on_interval(self, net: Any, fit: Fit) -> None:
        """Show the state."""
        if self._display is not None:
            self._display.show(fit, at_epoch_end=False)

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Show the state, with the new validation accuracy."""
        if self._display is not None:
            self._display.show(fit, at_epoch_end=True)

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Leave the last state standing."""
        if self._display is not None:
            self._display.close(fit)
            self._display = None


class _Lines:
    """Progress as plain lines."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._begin = self._last_time = time.monotonic()
        self._shown_step = 0

    def show(self, fit: Fit, *, at_epoch_end: bool) -> None:
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_LINES if at_epoch_end else _SECONDS_BETWEEN_LINES_IN_AN_EPOCH
        if now - self._last_time >= pause:
            self._write(fit, now)

    def close(self, fit: Fit) -> None:
        if fit.step != self._shown_step:
            self._write(fit, time.monotonic())

    def _write(self, fit: Fit, now: float) -> None:
        self._last_time, self._shown_step = now, fit.step
        left = (fit.n_steps - fit.step) * (now - self._begin) / max(fit.step, 1)
        fields = [
            f"epoch {fit.epoch}/{fit.n_epochs}",
            f"step {fit.step}/{fit.n_steps}",
            f"loss {fit.loss:.4f}",
        ]
        if fit.history.validation_accuracy:
            fields.append(f"validation accuracy {fit.history.validation_accuracy[-1]:.4f}")
        if fit.seconds > 0:
            fields.append(f"{fit.n_samples_seen / fit.seconds:,.0f} images/s")
        if fit.step < fit.n_steps and not fit.stopped:
            fields.append(f"{_duration(left)} left")
        if self._file is not None:  # there is no stderr in a program without a console
            print(", ".join(fields), file=self._file, flush=True)


class _Bar:
    """Progress as a tqdm bar, in a terminal or a notebook."""

    def __init__(self, bar: Any, file: TextIO, fit: Fit) -> None:
        self._bar = bar(
            total=fit.n_steps,
            file=file,
            dynamic_ncols=True,
            bar_format=self._layout(fit),
            mininterval=0.1,
            miniters=1,
        )

    def show(self, fit: Fit, *, at_epoch_end: bool) -> None:
        self._bar.bar_format = self._layout(fit)
        self._bar.update(fit.step - self._bar.n)

    def close(self, fit: Fit) -> None:
        self._bar.bar_format = self._layout(fit)
        self._bar.n = fit.step
        self._bar.refresh()
        self._bar.close()

    def _layout(self, fit: Fit) -> str:
        """All fields around the bar, short enough for 80 columns."""
        numbers = [] if math.isnan(fit.loss) else [f"loss {fit.loss:.4f}"]
        if fit.history.validation_accuracy:
            numbers.append(f"val. {100 * fit.history.validation_accuracy[-1]:.2f} %")
        if fit.seconds > 0:
            numbers.append(f"{_thousands(fit.n_samples_seen / fit.seconds)} images/s")
        place = f"epoch {fit.epoch}/{fit.n_epochs}, step {fit.step}/{fit.n_steps}"
        return f"{place} |{{bar}}| {', '.join([*numbers, '{remaining} left'])}"


def _bar_class(file: TextIO | None, *, may_be_notebook: bool) -> Any:
    """Return the kind of tqdm that suits the file, or None if plain lines do."""
    if file is not None and file.isatty():
        module = "tqdm.std"
    elif may_be_notebook and "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets"):
        module = "tqdm.notebook"
    else:
        return None
    try:
        tqdm = importlib.import_module(module).tqdm
    except ImportError:
        return None
    # tqdm would otherwise start a thread that looks after bars that are updated rarely.
    return type("_Bar", (tqdm,), {"monitor_interval": 0})


def _thousands(number: float) -> str:
    return f"{number:,.0f}" if number < 10_000 else f"{number / 1000:,.0f}k"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
