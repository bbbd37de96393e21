"""A fit's steps, done in calls of the core: short enough for Ctrl-C, long enough to cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._prediction import non_finite_input
from fastmlp._run import Steps
from fastmlp._samples import CoreSamples, Samples
from fastmlp._shared_network import CoreTargets, SharedNetwork, TrainerArguments
from fastmlp._threads import ThreadCount, n_usable_processors
from fastmlp.errors import NonFiniteLossError
from fastmlp.history import History

_SECONDS_PER_CALL: Final = 0.075  # and twice as many without callbacks and validation
_MOST_GROWTH: Final = 8  # of the steps from one call to the next: a first, cold measurement may mislead
_MOST_AT_FIRST: Final = 64  # steps, however little work: samples may have yet to come from a disk
_CAUTIOUS_RATE: Final = 4e9  # multiply-adds a second, which nearly all steps reach
_LAYER_WORK: Final = 2**15  # what each layer takes besides in a step, and each weight, in multiply-adds
_UPDATE_WORK: Final = 20
_PANEL: Final = 16  # the core fills up each layer's inputs and outputs to a multiple of it
_SNAPSHOT_PAUSE: Final = 100  # times what the last one cost: 1 % of a long fit, and so long a way to go again
# And not before so many seconds, or calls, or samples, whose order is kept until then: 4 MB.
_SECONDS_PER_SNAPSHOT: Final = 1.0
_CALLS_PER_SNAPSHOT: Final = 8
_SAMPLES_PER_SNAPSHOT: Final = 2**19


class CallDone(NamedTuple):
    """What one call did: samples trained on, seconds, and the mean of its steps' losses in nats."""

    n_samples: int
    seconds: float
    loss: float


class _Mark(NamedTuple):
    """A state that training can go back to: when it was, how many steps before it, and the calls since."""

    state: _core.TrainerState
    time: float
    step: int
    calls: list[Steps]

    def is_far_back(self, now: float) -> bool:
        """Whether the way from here is long enough for a new mark."""
        return (
            now >= self.time + _SECONDS_PER_SNAPSHOT
            or len(self.calls) >= _CALLS_PER_SNAPSHOT
            or sum(len(call.order) for call in self.calls) >= _SAMPLES_PER_SNAPSHOT
        )


class Training:
    """Trains a network on samples, call by call, and can go back by one step when a loss is not finite.

    The clock decides where a call ends and the next begins; no bit of the result depends on that.

    Parameters
    ----------
    network : SharedNetwork
        What to train.
    samples : Samples
        What to train on.
    targets : numpy.ndarray
        int64 labels (n_samples,) or float32 class probabilities (n_samples, n_classes).
    threads : ThreadCount
        How many threads to use.
    history : History
        Gets the loss of every step.
    steps_per_epoch : int
        For messages.
    weights : numpy.ndarray, optional
        float32 (n_samples,): how much each sample counts; by default all count alike.
    label_smoothing : float, default 0.0
        See `Net.fit`.
    augmentation : _core.Augmentation, optional
        How to distort the samples, which must be pixels.
    """

    def __init__(
        self,
        network: SharedNetwork,
        samples: Samples,
        targets: CoreTargets,
        threads: ThreadCount,
        history: History,
        steps_per_epoch: int,
        *,
        weights: NDArray[np.float32] | None = None,
        label_smoothing: float = 0.0,
        augmentation: _core.Augmentation | None = None,
    ) -> None:
        self.last_run: _core.RunResult | None = None
        self._network = network
        self._samples = samples
        self._targets = targets
        self._weights = weights
        self._label_smoothing = label_smoothing
        self._threads = threads
        self._history = history
        self._steps_per_epoch = steps_per_epoch
        self._augmentation = augmentation
        self.steps_per_call = 1
        self._seconds_per_call = _SECONDS_PER_CALL
        self.interrupted_seconds = 0.0  # that a call took which an exception ended
        self._results: list[_core.RunResult] = []  # of the latest call: none or one
        self._first_step = 0  # of that call
        # The latest one last; the one before it stays until a step from it has succeeded.
        self._marks: list[_Mark] = []
        self._n_assignments = network.n_assignments  # up to which the marks are of use
        self._next_mark = 0.0

    @property
    def team_size(self) -> int:
        """Threads of the latest call, or 1."""
        return 1 if self.last_run is None else self.last_run.team_size

    def expect_no_looks(self, batch_size: int) -> None:
        """Let calls be longer, and the first one do as many steps as a cautious estimate allows, not one.

        For fits without callbacks and validation. Ctrl-C, a fork, and other threads that look at the weights
        wait for the end of a call.
        """
        self._seconds_per_call = 2 * _SECONDS_PER_CALL
        if self._threads.n_threads > n_usable_processors():  # they would wait for one another
            return
        sizes = [-(-size // _PANEL) * _PANEL for size in self._network.layer_sizes]
        # Forward, and backward twice as much.
        work = sum(a * b * (3 * batch_size + _UPDATE_WORK) + _LAYER_WORK for a, b in pairwise(sizes))
        n_steps = min(_MOST_AT_FIRST, int(_SECONDS_PER_CALL * _CAUTIOUS_RATE / work))
        self.steps_per_call = max(1, n_steps)

    def do(self, steps: Steps, steps_to_pause: Callable[[], int]) -> Iterator[CallDone]:
        """Do steps.

        Control comes back about every 75 ms, or 150 if no looks are expected, and at the latest after as many
        steps as `steps_to_pause` says.

        Raises
        ------
        NonFiniteLossError
            Before the update of the step; the network holds the latest weights that are known to give a
            finite loss.
        NonFiniteInputError
            Before the update of the step whose batch holds such a value.
        """
        first = 0
        while first < len(steps):
            n_steps = min(self.steps_per_call, steps_to_pause())
            if self._samples.in_place is None:
                n_steps = max(1, min(n_steps, self._samples.n_rows_at_a_time // steps.batch_size))
            call = steps.part(first, first + n_steps)
            yield self._do(call)
            first += len(call)

    def check_weights(self, learning_rate: float) -> None:
        """Go one step back and raise NonFiniteLossError if the last update made weights not finite."""
        if not self._network.network.is_finite:
            self._fail(len(self._history.step_loss), learning_rate, "A weight or a moment after")

    def collect(self) -> None:
        """Record what the steps of the latest call came to.

        May be repeated, and must be at the end of a fit: Ctrl-C can interrupt the first time.
        """
        for result in self._results:
            right = result.right if len(result.right) else None
            self._history._set_steps(self._first_step, result.losses, right)

    def _do(self, steps: Steps) -> CallDone:
        mark = self._mark()
        begin = time.perf_counter()
        try:
            result = self._call(steps)
        finally:
            self.interrupted_seconds = time.perf_counter() - begin
        n_done = len(result.losses)
        if n_done:
            mark.calls.append(steps.part(0, n_done))
            del self._marks[:-1]
        if result.stopped == "input":
            in_place = self._samples.in_place is not None
            row = result.bad_sample if in_place else int(steps.order[result.bad_sample])
            raise non_finite_input(self._samples, row)
        if result.stopped:
            step = len(self._history.step_loss) + 1
            self._fail(step, float(steps.learning_rates[n_done]), "The loss, a weight or a moment at")
        seconds, self.interrupted_seconds = self.interrupted_seconds, 0.0
        self._adapt(len(steps), seconds)
        return CallDone(len(steps.order), seconds, float(result.losses.mean(dtype=np.float64)))

    def _call(self, steps: Steps) -> _core.RunResult:
        X, targets, weights, order = self._arguments(steps.order)
        self._results.clear()
        self._first_step = len(self._history.step_loss)
        try:
            arguments: TrainerArguments = {
                "X": X,
                "targets": targets,
                "order": order,
                "offsets": steps.offsets,
                "learning_rates": steps.learning_rates,
                "threads": self._threads.n_threads,
                "threads_are_required": self._threads.required,
                "sample_weights": weights,
                "label_smoothing": self._label_smoothing,
                "augmentation": self._augmentation,
                "epoch": steps.net_epoch,
                "ids": None if order is steps.order else steps.order,
                "first_sample": steps.first_sample,
                "samples_per_epoch": len(self._samples),
            }
            self._network.train(arguments, self._results)
        finally:
            self.collect()
        self.last_run = self._results[0]
        return self.last_run

    def _arguments(
        self, order: NDArray[np.int64]
    ) -> tuple[CoreSamples, CoreTargets, NDArray[np.float32] | None, NDArray[np.int64]]:
        """Return samples, targets, weights and order for the core.

        All are used in place, or else those of this call are converted.
        """
        if self._samples.in_place is not None:
            return self._samples.in_place, self._targets, self._weights, order
        weights = None if self._weights is None else self._weights[order]
        return self._samples.gather(order), self._targets[order], weights, np.arange(len(order))

    def _adapt(self, n_steps: int, seconds: float) -> None:
        wanted = int(n_steps * self._seconds_per_call / max(seconds, 1e-9))
        self.steps_per_call = max(1, min(wanted, _MOST_GROWTH * n_steps))

    def _mark(self) -> _Mark:
        """Return the latest state to go back to, which is a new one from time to time."""
        self._forget_useless_marks()
        begin = time.perf_counter()
        if not self._marks or (begin >= self._next_mark and self._marks[-1].is_far_back(begin)):
            self._marks.append(_Mark(self._network.snapshot(), begin, len(self._history.step_loss), []))
            end = time.perf_counter()
            self._next_mark = end + _SNAPSHOT_PAUSE * (end - begin)
        return self._marks[-1]

    def _forget_useless_marks(self) -> None:
        if self._network.n_assignments != self._n_assignments:  # there is no way back past that
            self._n_assignments = self._network.n_assignments
            self._marks.clear()

    def _fail(self, step: int, learning_rate: float, happened: str) -> NoReturn:
        self._undo_last_update()
        epoch = 1 + (step - 1) // self._steps_per_epoch
        message = _validation.not_finite(happened, step, epoch, learning_rate)
        raise NonFiniteLossError(message, step=step, epoch=epoch, learning_rate=learning_rate)

    def _undo_last_update(self) -> None:
        """Restore the weights before the last update, which are known to give a finite loss: that step's.

        Only earlier states are kept, so the steps from one of them are done again. Before the first step, and
        right after somebody has set the weights, there is no update to undo.
        """
        self._forget_useless_marks()
        wanted = len(self._history.step_loss) - 1
        marks = [mark for mark in self._marks if mark.step <= wanted]
        if not marks:
            return
        self._results.clear()
        self._network.restore(marks[-1].state)
        try:
            self._history._set_steps(marks[-1].step, np.empty(0, np.float32))
            calls = [call for mark in self._marks[len(marks) - 1 :] for call in mark.calls]
            for call in calls:
                n_steps = min(len(call), wanted - len(self._history.step_loss))
                if n_steps:
                    self._call(call.part(0, n_steps))
        finally:
            self._history._drop_undone_epochs()
