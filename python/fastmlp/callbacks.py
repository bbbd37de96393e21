"""Observers of a training run: early stopping, checkpoints, logs, and the base of the user's own."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp._atomic_file import append_whole
from fastmlp.history import COLUMNS, MONITORS, History, is_better

Parameters = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]

# At least; the core's calls end about every 75 ms, but also at an epoch's end.
_SECONDS_BETWEEN_INTERVALS: Final = 0.05


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
        Steps that this fit will do; those before an interruption count, if it was resumed.
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
        Mean loss of the latest steps, those of about 75 ms; NaN before the first.
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
        """Steps done in this fit; not 0 in `Callback.on_fit_begin` if an interrupted fit is resumed."""
        return len(self.history.step_loss)

    def stop(self) -> None:
        """End the fit: an epoch under way is cut short, but gets its validation and its entry in history."""
        self.stopped = True

    def _advance(self, n_samples: int, seconds: float, loss: float) -> None:
        """Take in what a call of the core did."""
        self.n_samples_seen += n_samples
        self.seconds += seconds
        self.loss = loss

    def _is_time(self) -> bool:
        """Return whether it is time for `Callback.on_interval`, which is assumed to follow."""
        now = time.monotonic()
        if now < self._next_interval:
            return False
        self._next_interval = now + _SECONDS_BETWEEN_INTERVALS
        return True


def _refuse_if_similar(name: str, known: list[str], kind: str) -> None:
    """Refuse a method that is called in other libraries, or misspelt: names of one's own differ more."""
    from difflib import get_close_matches

    similar = get_close_matches(name, known, n=1, cutoff=0.72)
    if similar:
        raise ValueError(f"{kind} has {name}, which fit does not call; did you mean {similar[0]}?")


class Callback:
    """An observer of a training run; derive from it and override what you need.

    `fit` raises ValueError for a method that it would not call but whose name is close to one below, such as
    ``on_batch_end``.

    An exception in a method ends the fit and comes out of it; the net then holds the weights after some whole
    step and can be trained on. `net` is the Net that is being trained, which may be used in every method: to
    predict, to save it, to set its weights. What a callback reads from the clock must not change the weights
    if runs are to be repeatable.

    Attributes
    ----------
    every : int or None
        After how many steps `on_step` is called, and again after as many; None for never. The default is
        None, but where there is an `on_step`, `fit` raises ValueError if none is given.

    Examples
    --------
    >>> from fastmlp import Callback, Net
    >>> class StopWhenGood(Callback):
    ...     every = 10
    ...     def on_step(self, net, fit):
    ...         if fit.history.step_loss[-1] < 0.1:
    ...             fit.stop()
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> history = Net([4, 32, 4], seed=0).fit(X, y, epochs=5000, callbacks=[StopWhenGood()])
    >>> len(history.loss) < 5000, len(history.loss) % 10
    (True, 0)
    """

    every: int | None = None

    def _check_methods(self) -> None:
        """Raise ValueError if a method would not be called: for its name, or as on_step without `every`."""
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name in dir(self):
            if name.startswith("on_") and name not in known and callable(getattr(self, name)):
                _refuse_if_similar(name, known, type(self).__name__)
        kinds = takewhile(lambda kind: kind is not Callback, type(self).__mro__)
        if type(self).on_step is Callback.on_step or any("every" in vars(owner) for owner in (self, *kinds)):
            return
        raise ValueError(
            f"{type(self).__name__} has on_step but no every, so it would never be called: set every to the "
            "number of steps between two calls, or to None."
        )

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Do something before the first step, after all arguments have been checked."""

    def on_step(self, net: Any, fit: Fit) -> None:
        """Do something after every so many steps, as the attribute `every` says."""

    def on_interval(self, net: Any, fit: Fit) -> None:
        """Do something about every 75 ms, at least a step apart: for showing, saving, stopping."""

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Do something after an epoch and its validation, when history has the epoch's entry."""

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Do something at the end, be it by an error or Ctrl-C; called whenever on_fit_begin was."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for this callback to go on: arrays and what JSON can hold.

        NumPy's scalars come back as Python's. What no file can hold is a TypeError when one is written.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that `state` returned; called after on_fit_begin if a fit is resumed.

        It may come from a file, and a file is not to be trusted.
        """


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
        is to be watched and there are no validation data.

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
        self.monitor = _validation.one_of(monitor, "monitor", MONITORS)
        self.min_delta = _validation.not_negative(min_delta, "min_delta")
        self._forget()

    def _forget(self) -> None:
        self.best_epoch = 0
        self.best_value = math.nan
        self._best_step = 0
        self._best: Parameters | None = None

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Forget what an earlier fit has found."""
        self._forget()
        self._shape = net.layer_sizes, net.batch_norm, net.precision
        _validation.monitored(self, self.monitor, fit.has_validation, has_accuracy=net._loss.has_accuracy)

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Keep the weights if they are the best so far; stop if the best are too long ago."""
        value = getattr(fit.history, self.monitor)[-1]
        if is_better(value, self.best_value, self.monitor, self.min_delta):
            self._best = net._copy_parameters()
            self.best_epoch, self.best_value, self._best_step = fit.epoch, value, fit.step
        elif fit.epoch - self.best_epoch >= self.patience:
            fit.stop()

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

    def state(self) -> dict[str, Any]:
        """Return settings, the best number and the best weights."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _SETTINGS_OF_EARLY_STOPPING}
        if self._best is None:
            return state
        for layer, (weights, biases) in enumerate(zip(*self._best, strict=True)):
            state |= {f"layers.{layer}.weight": weights, f"layers.{layer}.bias": biases}
        return state | {
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_step": self._best_step,
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> EarlyStopping:
        """Return one with the settings that are in a state; ValueError if they are wrong."""
        patience, monitor, min_delta = (state.get(name) for name in _SETTINGS_OF_EARLY_STOPPING)
        with _state_not_trusted():
            return cls(patience, monitor=monitor, min_delta=min_delta)  # type: ignore[arg-type]

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; ValueError if it is no such thing."""
        with _state_not_trusted():
            self._take_up(state)

    def _take_up(self, state: dict[str, Any]) -> None:
        for name in _SETTINGS_OF_EARLY_STOPPING:
            if getattr(self, name) != state.get(name):
                raise ValueError(
                    f"The fit to resume has EarlyStopping with {name}={state.get(name)}, not "
                    f"{getattr(self, name)}; give it the same settings, or leave it out."
                )
        if "best_epoch" not in state:
            return
        layers = range(len(self._shape[0]) - 1)
        weights = [state.get(f"layers.{layer}.weight") for layer in layers]
        biases = [state.get(f"layers.{layer}.bias") for layer in layers]
        self._best = _validation.parameters(weights, biases, *self._shape)
        self.best_epoch = _validation.whole_number(state["best_epoch"], "best_epoch")
        self.best_value = _validation.real_number(state.get("best_value"), "best_value")
        self._best_step = _validation.whole_number(state.get("best_step"), "best_step")


_SETTINGS_OF_EARLY_STOPPING: Final = ("patience", "monitor", "min_delta")


@contextlib.contextmanager
def _state_not_trusted() -> Iterator[None]:
    """Make a wrong type a wrong value: it comes from a file, and nobody has passed it as an argument."""
    try:
        yield
    except TypeError as error:
        raise ValueError(f"The state of EarlyStopping to go on from is wrong: {error}") from error


class Checkpoint(Callback):
    """Save the net with all that is needed to go on, so that a fit can be resumed after Ctrl-C or a crash.

    The file is saved at the end of each epoch if neither `steps` nor `seconds` is given, and whenever the fit
    ends, except before its first step or with a loss that is not finite. It is the same file each time; it is
    replaced whole, so that at any moment there is a good one. A Checkpoint is told after all other callbacks,
    whatever its place among them.

    Parameters
    ----------
    path : str or os.PathLike
        The file's name, commonly ending in ".safetensors".
    steps : int, optional
        Save after every so many steps, at least 1.
    seconds : float, optional
        Save when so many seconds have gone by, at the end of a call of the core (about every 75 ms);
        greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range. `Net.fit` raises TypeError if its optimizer,
        schedule or augmentation is of a class that is not fastmlp's: no file could hold that.
    OSError
        Before the fit, if there is no such folder. During the fit, if the file cannot be written; the
        one that was there before is then unharmed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastmlp import Checkpoint, Net
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> history = Net([4, 8, 4], seed=0).fit(X, y, epochs=3, callbacks=[Checkpoint(path)])
    >>> Net.load(path).can_resume  # the fit came to its end
    False
    """

    def __init__(
        self, path: str | os.PathLike[str], *, steps: int | None = None, seconds: float | None = None
    ) -> None:
        from pathlib import Path

        self.path = Path(path)
        self.every = None if steps is None else _validation.whole_number(steps, "steps")
        self.seconds = None if seconds is None else _validation.positive(seconds, "seconds")
        self._last_time = 0.0

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Begin to count the seconds."""
        self._last_time = time.monotonic()

    def on_step(self, net: Any, fit: Fit) -> None:
        """Save."""
        self._save(net)

    def on_interval(self, net: Any, fit: Fit) -> None:
        """Save if it is time."""
        if self.seconds is not None and time.monotonic() - self._last_time >= self.seconds:
            self._save(net)

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Save, unless steps or seconds say when."""
        if self.every is None and self.seconds is None:
            self._save(net)

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Save what is worth it."""
        came_to_its_end = fit.stopped or fit.step == fit.n_steps
        if fit.step > 0 and (came_to_its_end or net.can_resume):
            self._save(net)

    def _require_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def _save(self, net: Any) -> None:
        net.save(self.path, training_state=True)
        self._last_time = time.monotonic()


class CSVLogger(Callback):
    """Write a line to a file at the end of each epoch.

    The columns are those of `History.save_csv`. A new fit begins a new file; a resumed one keeps the lines of
    the epochs that it knows, and appends.

    Parameters
    ----------
    path : str or os.PathLike
        The file's name.

    Raises
    ------
    OSError
        During the fit, if the file cannot be written; it has then no part of a line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastmlp import CSVLogger, Net
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.csv"
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> history = Net([4, 8, 4], seed=0).fit(X, y, epochs=3, callbacks=[CSVLogger(path)])
    >>> len(path.read_text().splitlines())
    4
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from pathlib import Path

        self.path = Path(path)
        self._n_lines = 0

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Begin the file."""
        fit.history.save_csv(self.path)
        self._n_lines = fit.history.n_epochs

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Append the epoch's line, unless the file has it since it was begun."""
        lines = fit.history._csv_lines(self._n_lines)
        append_whole(self.path, "".join(f"{line}\n" for line in lines).encode())
        self._n_lines += len(lines)


class TensorBoard(Callback):
    """Write the numbers of each epoch for TensorBoard to show.

    It needs the package tensorboardX: ``pip install "fastmlp[tensorboard]"``.

    Parameters
    ----------
    folder : str or os.PathLike
        Where to write the event file; one folder for each run, for ``tensorboard --logdir`` of their parent.

    Raises
    ------
    ImportError
        When it is made, if tensorboardX is missing.

    Examples
    --------
    >>> from fastmlp import Net, TensorBoard  # doctest: +SKIP
    >>> net.fit(X, y, callbacks=[TensorBoard("runs/first")])  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from pathlib import Path

        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                'TensorBoard needs the package tensorboardX; pip install "fastmlp[tensorboard]".'
            ) from error
        self.folder = Path(folder)
        self._new_writer = SummaryWriter
        self._writer: Any = None

    def on_fit_begin(self, net: Any, fit: Fit) -> None:
        """Open an event file; of a run that is resumed, what was written of later steps is not shown."""
        self._writer = self._new_writer(str(self.folder), purge_step=fit.step + 1 if fit.step else None)

    def on_epoch_end(self, net: Any, fit: Fit) -> None:
        """Write the epoch's numbers, at the number of its last step."""
        for name in COLUMNS:
            column = getattr(fit.history, name)
            if column:
                self._writer.add_scalar(name, column[-1], fit.step)

    def on_fit_end(self, net: Any, fit: Fit) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
