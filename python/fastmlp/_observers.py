"""The callbacks of one fit: told what happens, in order, and of each epoch's end exactly once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastmlp import _validation
from fastmlp._run import Record, Run
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping, Fit


@dataclass(eq=False)
class _Observer:
    callback: Callback
    every: int  # steps between two calls of on_step
    n_epochs_told: int
    record: Record | None  # what to go on from


class Observers:
    """Tells the callbacks of a fit.

    Parameters
    ----------
    net : Net
        For the callbacks.
    fit : Fit
        For the callbacks.
    callbacks : iterable of Callback
        In the order in which to tell them; a Checkpoint comes last all the same, so that it saves what all
        others have made of the moment.
    records : sequence of Record
        What callbacks of a fit to resume need to go on.

    Raises
    ------
    ValueError
        If a record with a state belongs to none of the callbacks.
    """

    def __init__(self, net: Any, fit: Fit, callbacks: Iterable[Callback], records: Sequence[Record]) -> None:
        self._net = net
        self._fit = fit
        rest = list(records)
        self._observers: list[_Observer] = []
        for callback in callbacks:
            record = next((record for record in rest if record.kind == type(callback).__name__), None)
            if record is not None:
                rest.remove(record)
            self._add(callback, record)
        for record in rest:
            self._add_without_callback(record)
        self._observers.sort(key=lambda observer: isinstance(observer.callback, Checkpoint))
        self._begun: list[Callback] = []

    def _add(self, callback: Callback, record: Record | None) -> None:
        every = sys.maxsize if callback.every is None else _validation.whole_number(callback.every, "every")
        n_epochs_told = self._fit.history.n_epochs if record is None else record.n_epochs_told
        self._observers.append(_Observer(callback, every, n_epochs_told, record))

    def _add_without_callback(self, record: Record) -> None:
        """Make the callback of a record; only what early stopping is needs no more than its state."""
        if record.kind == EarlyStopping.__name__:
            self._add(EarlyStopping._from_state(record.state), record)
        elif record.state:
            raise ValueError(
                f"The fit to resume has a callback {_validation.shortened(record.kind)}; pass it again."
            )

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._observers)

    def begin(self) -> None:
        """Tell all of the fit's beginning, and give those that go on their states."""
        for observer in self._observers:
            self._begun.append(observer.callback)
            self._tell(observer.callback.on_fit_begin)
            if observer.record is not None and observer.record.state:
                observer.callback.restore(observer.record.state)

    def steps_to_next(self) -> int:
        """Return how many steps there are, at least 1, until somebody must be told of one."""
        return min(
            (observer.every - self._fit.step % observer.every for observer in self._observers),
            default=sys.maxsize,
        )

    def on_call(self) -> None:
        """Tell those who want to know of this step, and all of them when some time has gone by."""
        for observer in self._observers:
            if self._fit.step % observer.every == 0:
                self._tell(observer.callback.on_step)
        if self._fit._is_time():
            for observer in self._observers:
                self._tell(observer.callback.on_interval)

    def on_epoch_end(self) -> None:
        """Tell of the last finished epoch those who have not been told."""
        n_epochs = self._fit.history.n_epochs
        for observer in self._observers:
            if observer.n_epochs_told < n_epochs:
                self._tell(observer.callback.on_epoch_end)
                observer.n_epochs_told = n_epochs

    def keep_in(self, run: Run) -> None:
        """Keep in the run what all need to go on."""
        run.stopped = self._fit.stopped
        run.records = [
            Record(type(observer.callback).__name__, observer.n_epochs_told, observer.callback.state())
            for observer in self._observers
        ]

    def end(self, *, checkpoints: bool) -> None:
        """Tell those who have been told of the beginning of the end, whatever the others do.

        checkpoints: whether to tell all of these, or all others.
        """
        with ExitStack() as in_order:  # which calls the last first
            for callback in reversed(self._begun):
                if isinstance(callback, Checkpoint) == checkpoints:
                    in_order.callback(self._tell, callback.on_fit_end)

    def _tell(self, hook: Callable[[Any, Fit], None]) -> None:
        self._net._is_telling = True
        try:
            hook(self._net, self._fit)
        finally:
            self._net._is_telling = False
