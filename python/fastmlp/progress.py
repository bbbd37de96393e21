"""The progress display: a bar in a terminal or notebook, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from typing import Any, Final, TextIO

from fastmlp.callbacks import Callback, Fit

_SECONDS_BETWEEN_LINES: Final = 1.0
_SECONDS_BETWEEN_LINES_IN_AN_EPOCH: Final = 10.0
_BAR_AND_TIME_LEFT: Final = 22  # columns


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
    >>> import numpy as np
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
        self._display = _Lines(file, fit) if bar is None else _Bar(bar, file, fit)

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

    def __init__(self, file: TextIO | None, fit: Fit) -> None:
        self._file = file
        self._begin = self._last_time = time.monotonic()
        self._first_step = self._shown_step = fit.step

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
        left = (fit.n_steps - fit.step) * (now - self._begin) / max(fit.step - self._first_step, 1)
        fields = [
            f"epoch {fit.epoch}/{fit.n_epochs}",
            f"step {fit.step}/{fit.n_steps}",
            f"loss {fit.loss:.4f}",
        ]
        if fit.history.validation_accuracy:
            fields.append(f"validation accuracy {fit.history.validation_accuracy[-1]:.4f}")
        elif fit.history.train_accuracy:
            fields.append(f"train accuracy {fit.history.train_accuracy[-1]:.4f}")
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
            initial=fit.step,
            file=file,
            dynamic_ncols=True,
            bar_format=self._layout(fit, None),
            mininterval=0.1,
            miniters=1,
        )

    def show(self, fit: Fit, *, at_epoch_end: bool) -> None:
        self._bar.bar_format = self._layout(fit, self._bar.ncols)
        self._bar.update(fit.step - self._bar.n)

    def close(self, fit: Fit) -> None:
        self._bar.bar_format = self._layout(fit, self._bar.ncols)
        self._bar.n = fit.step
        self._bar.refresh()
        self._bar.close()

    def _layout(self, fit: Fit, columns: int | None) -> str:
        """All fields around the bar, but the speed only if so many columns, None in a notebook, suffice."""
        numbers = [] if math.isnan(fit.loss) else [f"loss {fit.loss:.4f}"]
        if fit.history.validation_accuracy:
            numbers.append(f"val. {100 * fit.history.validation_accuracy[-1]:.2f} %")
        elif fit.history.train_accuracy:
            numbers.append(f"train {100 * fit.history.train_accuracy[-1]:.2f} %")
        place = f"epoch {fit.epoch}/{fit.n_epochs}, step {fit.step}/{fit.n_steps}"
        if fit.seconds > 0:
            speed = f"{_thousands(fit.n_samples_seen / fit.seconds)} images/s"
            if len(", ".join([place, *numbers, speed])) + _BAR_AND_TIME_LEFT <= (columns or math.inf):
                numbers.append(speed)
        if not fit.stopped:
            numbers.append("{remaining} left")
        return f"{place} |{{bar}}| {', '.join(numbers)}"


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
