"""A network that one thread trains while others read it, each of them seeing whole steps only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import starmap
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._samples import CoreSamples
from fastmlp.optimizers import Optimizer

CoreTargets = NDArray[np.int64] | NDArray[np.float32]
Parameters = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]

_T = TypeVar("_T")


class TrainerArguments(TypedDict):
    """Those of `_core.Trainer.run`."""

    X: CoreSamples
    targets: CoreTargets
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    threads: int
    threads_are_required: bool
    sample_weights: NDArray[np.float32] | None
    label_smoothing: float
    augmentation: _core.Augmentation | None
    epoch: int
    ids: NDArray[np.int64] | None
    first_sample: int
    samples_per_epoch: int


class TrainingState(NamedTuple):
    """What training goes on from.

    Attributes
    ----------
    optimizer : Optimizer
        Of the latest training.
    arrays : dict of list of numpy.ndarray
        "parameters", "first_moment" and what else the optimiser has: weights and biases, layer after layer.
        "average" is of the parameters.
    beta_powers : tuple of float
        Adam's beta_1 and beta_2 to the power of the steps done.
    average_power : float
        The decay of the average to the power of its steps.
    """

    optimizer: Optimizer
    arrays: dict[str, list[NDArray[np.float32]]]
    beta_powers: tuple[float, float]
    average_power: float = 1.0

    @property
    def parameters_in_use(self) -> list[NDArray[np.float32]]:
        """Those that the net has unless others were put beside them: the averages, if there are any."""
        return self.arrays.get("average", self.arrays["parameters"])


class SharedNetwork:
    """The core's network and trainer, with turns for those who use them.

    A single call of the core is safe beside any other and sees the weights after some whole step. What takes
    several calls (to copy all layers, to predict from many chunks of samples) needs more: that is here. All
    waiting is done by locks in ``with`` statements, which Ctrl-C cannot leave locked.

    A signal handler, or a ``__del__`` that the garbage collector runs, may use the network in the middle of
    any method: locks are re-entrant, and the order of taking them holds for it, too. What it reads are whole
    steps. What it sets in the middle of `train`, or of reading, counts; in the middle of another change it
    can set nothing.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units of each layer, inputs first.
    activations : sequence of str
        One for each hidden layer.
    mixed_bfloat16 : bool
        Whether products are made of bfloat16 numbers.
    loss : str
        The name of what training makes small.
    batch_norm : sequence of bool
        For each hidden layer, whether it has batch normalisation.
    dropout : sequence of float
        Rates for the input and each hidden layer in training; none at all if empty.
    seed : int
        What dropout is drawn from.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activations: Sequence[str],
        *,
        mixed_bfloat16: bool,
        loss: str,
        batch_norm: Sequence[bool],
        dropout: Sequence[float],
        seed: int,
    ) -> None:
        self.layer_sizes = tuple(layer_sizes)
        self.n_parameters = _validation.n_parameters(layer_sizes, batch_norm)
        self._settings = (self.layer_sizes, tuple(activations), mixed_bfloat16, loss, tuple(batch_norm))
        self._layers = range(len(layer_sizes) - 1)
        self._dropout = (seed, dropout) if any(dropout) else None
        self.network = _new_network(*self._settings)
        self.version = 0  # odd while parameters are changed, and a greater one after that
        self.n_assignments = 0  # goes up when somebody else than training has set the parameters
        self._trainer: _core.Trainer | None = None
        self._optimizer: Optimizer | None = None  # of the latest training
        self._live: _core.TrainerState | None = None  # put aside while other parameters are in use
        self._make_locks()

    def _make_locks(self) -> None:
        self._changing = threading.RLock()  # held by whoever changes the parameters, or copies all of them
        # Held by whoever waits for _changing. A trainer passes through before each of its calls, so that it
        # cannot take the lock again and again while others wait.
        self._door = threading.RLock()
        self._setting = threading.Lock()  # held as well by changes that take several calls of the core
        self._training_thread: int | None = None  # which has _changing, or will, but not _door

    def _queue(self) -> AbstractContextManager[object]:
        """Return what to hold while waiting for _changing: in the middle of `train`, it is ours already."""
        return nullcontext() if self._training_thread == threading.get_ident() else self._door

    def parameters(self) -> Parameters:
        """Copy the weights and biases of all layers, all of them after the same step."""
        with self._queue(), self._changing:
            while True:
                version = self.version
                weights = [self.network.weights(layer) for layer in self._layers]
                biases = [self.network.biases(layer) for layer in self._layers]
                if self.version == version:  # else a signal handler has set them in between
                    return weights, biases

    def assign(self, parameters: Parameters) -> None:
        """Set all weights and biases for good; live ones that were put aside are dropped."""

        def set_live() -> None:
            self._set(parameters)
            self._live = None
            if self._trainer is not None:
                self._trainer.restart_average()

        self._change(set_live)

    def use_beside_live(self, parameters: Parameters) -> None:
        """Set all weights and biases, and put the trainer's state aside for `go_live`."""

        def set_beside_live() -> None:
            if self._live is None and self._trainer is not None:
                self._live = self._trainer.snapshot()
            self._set(parameters)

        self._change(set_beside_live)

    def _set(self, parameters: Parameters) -> None:
        self.network.set_parameters(*parameters)
        self.n_assignments += 1

    def _change(self, change: Callable[[], object]) -> None:
        """Call what takes several steps to change parameters, with nobody else in between.

        Raises
        ------
        RuntimeError
            If this thread is in the middle of another such change, which a signal handler has interrupted.
        """
        with self._queue(), self._changing:
            if self._setting.locked():
                raise RuntimeError(_validation.CHANGE_UNDER_WAY)
            with self._setting:
                self._change_version(change)

    def _change_version(self, change: Callable[[], object]) -> None:
        is_inner = self.version % 2  # called by a signal handler in the middle of `train`
        self.version |= 1
        try:
            change()
        finally:
            self.version = (self.version | 1) + (2 if is_inner else 1)

    def read(self, compute: Callable[[_core.Network], list[_T]]) -> list[_T]:
        """Call `compute` with the network, and once more with a copy if its parameters changed meanwhile.

        So all results are those of one and the same state, and readers neither wait for nor hold up one
        another. A single result, which one call of the core has made, needs no second look.
        """
        version = self.version
        results = compute(self.network)
        if len(results) > 1 and (version % 2 or self.version != version):
            copy = _new_network(*self._settings)
            copy.set_parameters(*self.parameters())
            results = compute(copy)
        return results

    def training_state(self) -> TrainingState | None:
        """Copy what training goes on from; None before the first training."""
        with self._queue(), self._changing:
            if self._setting.locked():
                raise RuntimeError(_validation.CHANGE_UNDER_WAY)
            optimizer = self._optimizer
            if self._trainer is None or optimizer is None:
                return None
            state = self._trainer.snapshot() if self._live is None else self._live
            return TrainingState(optimizer, state.arrays, state.beta_powers, state.average_power)

    def go_on_from(self, state: TrainingState, in_use: Parameters) -> None:
        """Make training go on from a state, beside which the net has the parameters `in_use`.

        Raises
        ------
        ValueError
            If the state is not that of such a network.
        """

        def set_state() -> None:
            trainer = self._ready_trainer()
            state.optimizer._apply_to(trainer)
            live = trainer.state_of(state.arrays, state.beta_powers, state.average_power)
            trainer.restore(live)
            self._optimizer = state.optimizer
            if not same_parameters(in_use, state.parameters_in_use):
                self._live = live
                self._set(in_use)

        self._change(set_state)

    def forget_other_threads(self) -> None:
        """Replace locks, in a child of fork: a thread that holds one is not in the child.

        The core makes fork wait for the end of its calls, so that the child has whole steps.
        """
        self._make_locks()
        self.version += self.version % 2

    # What follows is for the one thread that trains.

    def go_live(self, optimizer: Optimizer) -> None:
        """Make the trainer ready, with the state that was put aside, if any."""

        def set_live() -> None:
            trainer = self._ready_trainer()
            if self._live is not None:  # of the kind of optimiser that was in use last
                trainer.restore(self._live)
                self._live = None
            optimizer._apply_to(trainer)  # without averaging, averages give way to live weights
            self._optimizer = optimizer

        self._change(set_live)

    def train(self, arguments: TrainerArguments, results: list[_core.RunResult]) -> None:
        """Do some steps and append what came of them to `results`.

        Python raises the KeyboardInterrupt of a Ctrl-C that came during the core's call when that call
        returns, before its result could be assigned to a name. To extend a list is one step of the
        interpreter with the call itself, so the result is never lost.
        """
        run = partial(self._ready_trainer().run, **arguments)
        with self._door:
            pass
        self._training_thread = threading.get_ident()
        try:
            with self._changing:
                self._change_version(lambda: results.extend(starmap(run, [()])))
        finally:
            self._training_thread = None

    def snapshot(self) -> _core.TrainerState:
        """Copy everything that training changes."""
        return self._ready_trainer().snapshot()

    def restore(self, state: _core.TrainerState) -> None:
        """Go back to a snapshot."""
        self._change(lambda: self._ready_trainer().restore(state))

    def _ready_trainer(self) -> _core.Trainer:
        if self._trainer is None:
            self._trainer = _core.Trainer(self.network)
            if self._dropout is not None:
                self._trainer.set_dropout(*self._dropout)
        return self._trainer


def same_parameters(parameters: Parameters, arrays: list[NDArray[np.float32]]) -> bool:
    """Whether weights and biases are those of `arrays`, where they stand layer after layer, bit for bit."""
    weights, biases = parameters
    mine, others = [*weights, *biases], [*arrays[::2], *arrays[1::2]]
    pairs = zip(mine, others, strict=True)
    return all(np.array_equal(one.view(np.uint32), other.view(np.uint32)) for one, other in pairs)


def _new_network(
    sizes: Sequence[int],
    activations: Sequence[str],
    mixed_bfloat16: bool,
    loss: str,
    batch_norm: Sequence[bool],
) -> _core.Network:
    try:
        return _core.Network(
            sizes, activations, mixed_bfloat16=mixed_bfloat16, loss=loss, batch_norm=batch_norm
        )
    except MemoryError:
        raise MemoryError(_validation.too_large(sizes, batch_norm)) from None
