"""A fit that has begun: what must be known, besides weights, moments and history, to finish it later."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation, optimizers
from fastmlp._random import PURPOSE_SHUFFLE
from fastmlp._safetensors import code_of
from fastmlp._schedule import CONSTANT, Schedule, Span, checked_schedule
from fastmlp.augment import Augmentation, Elastic
from fastmlp.history import History
from fastmlp.optimizers import Adam, Optimizer

MAX_EPOCHS: Final = 2**31
"""Of a net's life: the number of a shuffle has 32 bits."""

_DEFAULT_EPOCHS: Final = 10
_ADAM: Final = Adam()


@dataclass(frozen=True)
class Settings:
    """What decides the result of a fit, besides the net and the data; the defaults are those of `Net.fit`.

    Raises
    ------
    TypeError, ValueError
        If a setting is of a wrong type or out of range.
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 128
    optimizer: Optimizer = _ADAM
    schedule: Schedule = CONSTANT
    validation_split: float = 0.0
    shuffle: bool = True
    label_smoothing: float = 0.0
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        epochs, steps = _validation.epochs_or_steps(self.epochs, self.steps)
        object.__setattr__(self, "epochs", epochs)
        object.__setattr__(self, "steps", steps)
        _validation.set_checked(self, "batch_size", _validation.whole_number)
        _validation.instance(self.optimizer, Optimizer, "optimizer", "Adam(learning_rate=0.001)")
        checked_schedule(self.schedule)
        _validation.set_checked(self, "validation_split", _validation.fraction)
        _validation.set_checked(self, "shuffle", _validation.boolean)
        _validation.set_checked(self, "label_smoothing", _validation.fraction)
        if self.augment is not None:
            _validation.instance(self.augment, Augmentation, "augment", "Augmentation(shift=2)")

    @property
    def needs_every_epoch(self) -> bool:
        """Whether the core must be called anew for each epoch."""
        return self.augment is not None or self.schedule.needs_history

    def check_same(self, given: Settings) -> None:
        """Raise ValueError if a setting is given, that is, no default, and another one than here."""
        for setting in dataclasses.fields(self):
            value, mine = getattr(given, setting.name), getattr(self, setting.name)
            if value not in (setting.default, mine):
                raise ValueError(
                    f"The fit to resume has {setting.name}={mine}, not {value}; leave {setting.name} out, "
                    "since a resumed fit has the settings that it began with."
                )


class Record(NamedTuple):
    """What a callback needs to go on.

    Attributes
    ----------
    kind : str
        The name of its class.
    n_epochs_told : int
        Of how many epochs' ends it has been told.
    state : dict
        What `Callback.state` returned.
    """

    kind: str
    n_epochs_told: int
    state: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Steps:
    """Some consecutive steps: the samples of their batches, batch after batch, and their learning rates.

    net_epoch is the number of the first one's epoch in the net's life, from 0, and first_sample the place of
    its first sample there; later samples may be of later epochs. Random numbers depend on both.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    net_epoch: int
    first_sample: int = 0

    def __len__(self) -> int:
        return len(self.learning_rates)

    @property
    def batch_size(self) -> int:
        """Samples of the largest batch."""
        return int(np.diff(self.offsets).max())

    def part(self, first: int, last: int) -> Steps:
        """Return those of these steps from number first, counted from 0, to last - 1."""
        if first == 0 and last >= len(self):
            return self
        offsets = self.offsets[first : last + 1]
        order = self.order[offsets[0] : offsets[-1]]
        first_sample = self.first_sample + int(offsets[0])
        return Steps(
            order, offsets - offsets[0], self.learning_rates[first:last], self.net_epoch, first_sample
        )


@dataclass(eq=False)
class Run:
    """A fit that has begun. Its history tells how many epochs and steps it has done.

    Attributes
    ----------
    settings : Settings
    n_samples : int
        Samples trained on in each epoch.
    has_validation : bool
        Whether there are samples for validation.
    has_weights : bool
        Whether samples or classes have weights.
    first_epoch : int
        Epochs that the net had begun before this fit.
    history : History
    epoch_seconds : float
        Time spent on training in the epoch under way.
    stopped : bool
        Whether a callback asked for the end.
    records : list of Record
        Of the callbacks, as of the latest checkpoint or the end.
    checksums : tuple of int or None, optional
        Of the samples for training and for validation; files of earlier versions have none.
    """

    settings: Settings
    n_samples: int
    has_validation: bool
    has_weights: bool
    first_epoch: int
    history: History = field(default_factory=History)
    epoch_seconds: float = 0.0
    stopped: bool = False
    records: list[Record] = field(default_factory=list)
    checksums: tuple[int | None, int | None] = (None, None)

    @cached_property
    def batch_size(self) -> int:
        """Samples of a batch, but for the last one of an epoch."""
        return min(self.settings.batch_size, self.n_samples)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches that the samples make."""
        return -(-self.n_samples // self.batch_size)

    @cached_property
    def n_steps(self) -> int:
        """Steps of the whole fit."""
        if self.settings.steps is not None:
            return self.settings.steps
        return (self.settings.epochs or _DEFAULT_EPOCHS) * self.steps_per_epoch

    @cached_property
    def n_epochs(self) -> int:
        """Epochs of the whole fit; the last one may have fewer steps."""
        return -(-self.n_steps // self.steps_per_epoch)

    @property
    def n_open_steps(self) -> int:
        """Steps done since the latest epoch that has an entry in the history."""
        n_steps_before = self.history.n_epochs * self.steps_per_epoch  # fewer, if the last was cut short
        return max(0, self.history._n_losses - n_steps_before)

    @property
    def n_open_samples(self) -> int:
        """Samples trained on in these steps."""
        n_epochs, n_steps = divmod(self.n_open_steps, self.steps_per_epoch)
        return n_epochs * self.n_samples + n_steps * self.batch_size

    def steps_ahead(self, seed: int, n_epochs: int, threads: int = 1) -> Steps:
        """Return all steps of the next epochs that have no entry in the history yet: so many, or all."""
        first = self.history.n_epochs
        n_epochs = min(n_epochs, self.n_epochs - first)
        order = self._order(seed, self.first_epoch + first, n_epochs, threads)
        starts = np.arange(0, self.n_samples, self.batch_size)
        epochs = self.n_samples * np.arange(n_epochs)[:, np.newaxis]
        offsets = np.append((epochs + starts).ravel(), len(order))
        offsets = offsets[: self.n_steps - first * self.steps_per_epoch + 1]
        span = Span(self.n_steps, self.steps_per_epoch, self.history)
        factors = self.settings.schedule.factors(
            first * self.steps_per_epoch + np.arange(len(offsets) - 1), span
        )
        name = f"{type(self.settings.schedule).__name__}.factors"
        factors = _validation.factors(factors, len(offsets) - 1, name)
        rates = self.settings.optimizer.learning_rate * factors
        return Steps(order[: offsets[-1]], offsets, rates, self.first_epoch + first)

    def _order(self, seed: int, net_epoch: int, n_epochs: int, threads: int) -> NDArray[np.int64]:
        if self.settings.shuffle:
            return _core.philox_permutation(
                seed, PURPOSE_SHUFFLE, net_epoch, self.n_samples, n_epochs, threads
            )
        return np.tile(np.arange(self.n_samples), n_epochs)

    def check_epochs(self) -> None:
        """Raise ValueError if the net would have had more epochs than `MAX_EPOCHS` at the end."""
        if self.first_epoch + self.n_epochs > MAX_EPOCHS:
            raise ValueError(_validation.too_many_epochs(self.first_epoch, self.n_epochs, MAX_EPOCHS))

    def check_data(
        self,
        n_samples: int,
        has_validation: bool,
        has_weights: bool,
        checksums: tuple[int | None, int | None],
    ) -> None:
        """Raise ValueError if it cannot be these data that the fit began with."""
        if n_samples != self.n_samples:
            raise ValueError(
                f"The fit to resume trains on {self.n_samples:,} samples, not {n_samples:,}; pass the X and "
                "y that it began with."
            )
        if has_validation != self.has_validation:
            raise ValueError(
                "The fit to resume has validation data; pass the same again."
                if self.has_validation
                else "The fit to resume has no validation data; leave them out."
            )
        if has_weights != self.has_weights:
            raise ValueError(
                "The fit to resume has weights of samples or classes; pass the same again."
                if self.has_weights
                else "The fit to resume has no weights of samples or classes; leave them out."
            )
        names = "X, y or weights of samples or classes", "validation data"
        for name, known, given in zip(names, self.checksums, checksums, strict=True):
            if known is not None and given != known:
                raise ValueError(f"The fit to resume began with other {name}; pass the same again.")


# As JSON and arrays.


@cache
def _kinds() -> dict[str, type]:
    """Return the classes that settings may be of, by name."""
    from fastmlp import schedules

    kinds: tuple[type, ...] = (Settings, Augmentation, Elastic, *optimizers.KINDS, *schedules.KINDS)
    return {kind.__name__: kind for kind in kinds}


def encoded_settings(settings: object) -> object:
    """Return settings as JSON can hold them: a dataclass becomes an object with the name of its kind.

    Raises
    ------
    TypeError
        If there is something among them, such as a user's own schedule, that could not be decoded again.
    """
    if settings is None or isinstance(settings, bool | int | float | str | tuple):
        return settings
    kind = type(settings)
    if _kinds().get(kind.__name__) is not kind:
        raise TypeError(_validation.not_storable(kind))
    values = {name: encoded_settings(value) for name, value in vars(settings).items()}
    return {"kind": kind.__name__, **values}


def decoded_settings(stored: object) -> Any:
    """Return what `encoded_settings` encoded; TypeError or ValueError if it is no such thing."""
    if isinstance(stored, list):
        return tuple(stored)
    if not isinstance(stored, dict):
        return stored
    values = {name: decoded_settings(value) for name, value in stored.items()}
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in _kinds():
        raise ValueError(f"{_validation.shortened(repr(kind))} is no kind of settings.")
    return _kinds()[kind](**values)


def encoded_run(run: Run) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a run without its history as JSON can hold it, and the arrays of its callbacks by name."""
    arrays: dict[str, NDArray[Any]] = {}
    records = []
    for index, record in enumerate(run.records):
        state, arrays_of_it = _encoded_state(record)
        arrays |= {f"{index}.{key}": array for key, array in arrays_of_it.items()}
        records.append({"kind": record.kind, "n_epochs_told": record.n_epochs_told, "state": state})
    stored = {
        "settings": encoded_settings(run.settings),
        "n_samples": run.n_samples,
        "has_validation": run.has_validation,
        "has_weights": run.has_weights,
        "first_epoch": run.first_epoch,
        "epoch_seconds": run.epoch_seconds,
        "stopped": run.stopped,
        "callbacks": records,
        "checksums": list(run.checksums),
    }
    return stored, arrays


def _encoded_state(record: Record) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what JSON can hold of a callback's state, with NumPy's scalars as Python's, and its arrays."""
    import json

    plain: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in _validation.callback_state(record.state, record.kind).items():
        try:
            if isinstance(value, np.ndarray):
                code_of(value.dtype)
                arrays[key] = value
            else:
                plain[key] = json.loads(json.dumps(value, default=np.generic.item))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise TypeError(_validation.state_not_storable(record.kind, key, value)) from error
    return plain, arrays


def decoded_run(stored: object, arrays: dict[str, NDArray[Any]], history: History) -> Run:
    """Return what `encoded_run` encoded; TypeError or ValueError if it is no such thing."""
    if not isinstance(stored, dict):
        raise ValueError("its run is not a JSON object.")
    records = stored.get("callbacks")
    if not isinstance(records, list):
        raise ValueError("its run has no list of callbacks.")
    states: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for name, array in arrays.items():
        index, _, key = name.partition(".")
        if not index.isascii() or not index.isdecimal() or int(index) >= len(records):
            raise ValueError(f"tensor {_validation.shortened(repr(name))} belongs to no callback.")
        states[int(index)][key] = array
    settings = decoded_settings(stored.get("settings"))
    run = Run(
        _validation.instance(settings, Settings, "settings", "Settings()"),
        _validation.whole_number(stored.get("n_samples"), "n_samples"),
        _validation.boolean(stored.get("has_validation"), "has_validation"),
        _validation.boolean(stored.get("has_weights"), "has_weights"),
        _validation.whole_number(stored.get("first_epoch"), "first_epoch", 0, MAX_EPOCHS),
        history,
        _validation.not_negative(stored.get("epoch_seconds"), "epoch_seconds"),
        _validation.boolean(stored.get("stopped"), "stopped"),
        [_decoded_record(record, states.get(index, {})) for index, record in enumerate(records)],
        _decoded_checksums(stored.get("checksums", [None, None])),
    )
    if not _can_be_of(run, history):
        raise ValueError("its history is not that of its run.")
    return run


def _decoded_checksums(stored: object) -> tuple[int | None, int | None]:
    if not isinstance(stored, list) or len(stored) != 2:
        raise ValueError("its run has no two checksums.")
    training, validation = (
        None if checksum is None else _validation.whole_number(checksum, "checksums", 0, 2**32 - 1)
        for checksum in stored
    )
    return training, validation


def _can_be_of(run: Run, history: History) -> bool:
    """Whether a run can have done the epochs and steps of a history."""
    first_steps = range(0, run.n_steps, run.steps_per_epoch)[: history.n_epochs]
    whole = [min(run.steps_per_epoch, run.n_steps - first) for first in first_steps]
    n_open_steps = len(history.step_loss) - sum(history.n_steps)
    if history.n_steps == whole:
        return 0 <= n_open_steps <= run.n_steps - sum(whole)
    # A callback may have cut the last epoch short, and been kept from hearing of its end.
    *others, last = history.n_steps
    is_cut_short = run.stopped and others == whole[:-1] and 0 < last < whole[-1]
    return is_cut_short and n_open_steps == 0


def _decoded_record(stored: object, arrays: dict[str, NDArray[Any]]) -> Record:
    match stored:
        case {"kind": str(kind), "n_epochs_told": n_epochs_told, "state": dict(state)}:
            n_told = _validation.whole_number(n_epochs_told, "n_epochs_told", 0)
            return Record(kind, n_told, state | arrays)
    raise ValueError("a callback is not described by kind, n_epochs_told and state.")
