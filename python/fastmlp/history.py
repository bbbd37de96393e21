"""What happened in a training run: numbers for each epoch, the loss of each step, and what was noticed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp._atomic_file import atomic_writer

COLUMNS: Final = {
    "loss": np.dtype(np.float64),
    "train_accuracy": np.dtype(np.float64),
    "validation_loss": np.dtype(np.float64),
    "validation_accuracy": np.dtype(np.float64),
    "learning_rate": np.dtype(np.float64),
    "seconds": np.dtype(np.float64),
    "n_steps": np.dtype(np.int64),
    "samples_per_second": np.dtype(np.float64),
}
"""The lists of numbers, one for each epoch, and the type that holds them in a file."""

OPTIONAL_COLUMNS: Final = ("train_accuracy", "validation_loss", "validation_accuracy")
"""Those that are empty if nothing is right or wrong, or there was nothing to validate with."""

STEP_COLUMNS: Final = ("step_loss", "step_right")
"""The names of what files have of each step, as float32."""

MONITORS: Final = ("validation_loss", "validation_accuracy", "loss")
"""Those that tell how good an epoch was."""


def is_better(value: float, best: float, monitor: str, min_delta: float) -> bool:
    """Whether an epoch's number is better by more than `min_delta` than the best so far, NaN for none.

    What is not finite is never the best.
    """
    if not math.isfinite(value):
        return False
    if math.isnan(best):
        return True
    gain = value - best if monitor == "validation_accuracy" else best - value
    return gain > min_delta


@dataclass(eq=False)
class History:
    """The record of one call of `Net.fit`.

    The lists have one entry for each epoch that came to its end, the shorter last one of ``fit(steps=...)``
    included. An epoch that an error or Ctrl-C cut off has none, but its steps are in `step_loss`.

    Attributes
    ----------
    loss : list of float
        Mean loss of the epoch's samples, each measured just before the update that it took part in: what was
        trained on, weights of samples and label smoothing included. In nats, but for squared_error.
    train_accuracy : list of float
        Fraction of the same samples predicted rightly, in [0, 1], like the loss measured while training went
        on: just before the update, distorted and with dropout, if they were, and weighted. Empty unless the
        net's loss is softmax_cross_entropy; NaN for epochs that a release without it began.
    validation_loss : list of float
        Mean loss of the validation samples at the end of the epoch, without weights and label smoothing;
        empty without validation.
    validation_accuracy : list of float
        Fraction of them predicted rightly, in [0, 1]; empty without validation, and with squared_error.
    learning_rate : list of float
        The learning rate of the epoch's last step.
    seconds : list of float
        Time spent on training, without validation and callbacks.
    n_steps : list of int
        Steps, that is, updates of the weights.
    samples_per_second : list of float
        Samples trained on, divided by `seconds`.
    notes : list of str
        What was noticed: a quarter or more of a layer's units dead, features that are constant but not zero,
        which weights are in use.

    Examples
    --------
    >>> from fastmlp import Net
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> history = Net([4, 8, 4], seed=0).fit(X, y, epochs=3, batch_size=2)
    >>> len(history.loss), history.n_steps, history.step_loss.shape
    (3, [2, 2, 2], (6,))
    """

    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    n_steps: list[int] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._losses = np.empty(0, np.float32)  # longer than what is known, so that it grows rarely
        self._right = np.empty(0, np.float32)  # as long; the weight of the samples predicted rightly, or NaN
        self._n_losses = 0

    @property
    def step_loss(self) -> NDArray[np.float32]:
        """Loss of every step, the (weighted) mean over its batch; float32 (n_steps,), read-only.

        Its length is the number of updates that the weights have had in this fit, interrupted or not.
        """
        losses = self._losses[: self._n_losses]
        losses.flags.writeable = False
        return losses

    @property
    def n_epochs(self) -> int:
        """Number of epochs that have an entry."""
        return len(self.samples_per_second)  # the list that an epoch is added to last

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line for each epoch, with a header; the file is never half-written.

        Parameters
        ----------
        path : str or os.PathLike
            The file's name. Its columns are epoch (from 1) and the lists of this class but for the notes;
            those of lists without entries are empty.

        Raises
        ------
        OSError
            If the file cannot be written; the one that was there before is then unharmed.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "history.csv"
        >>> numbers = {"loss": [0.5], "learning_rate": [0.1], "seconds": [2.0], "n_steps": [10]}
        >>> History(**numbers, samples_per_second=[50.0]).save_csv(path)
        >>> path.read_text().splitlines()[1]
        '1,0.5,,,,0.1,2.0,10,50.0'
        """
        lines = [",".join(["epoch", *COLUMNS]), *self._csv_lines(0), ""]
        with atomic_writer(path) as file:
            file.write("\n".join(lines).encode())

    def _csv_lines(self, first: int) -> list[str]:
        """Return the lines of the epochs from number `first`, counted from 0, on."""
        columns = [getattr(self, name) for name in COLUMNS]
        return [
            ",".join([str(epoch + 1), *(str(column[epoch]) if column else "" for column in columns)])
            for epoch in range(first, self.n_epochs)
        ]

    def to_pandas(self) -> Any:
        """Return the numbers of each epoch as a pandas.DataFrame.

        Returns
        -------
        pandas.DataFrame
            A row for each epoch, whose index "epoch" counts from 1; a column for each list that is not empty.

        Raises
        ------
        ImportError
            If the package pandas is missing.

        Examples
        --------
        >>> history = History(loss=[0.5, 0.25])  # doctest: +SKIP
        >>> history.to_pandas().loss.min()  # doctest: +SKIP
        0.25
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("History.to_pandas needs the package pandas; pip install pandas.") from error
        columns = {name: column for name in COLUMNS if (column := getattr(self, name))}
        return pd.DataFrame(columns, index=pd.RangeIndex(1, self.n_epochs + 1, name="epoch"))

    def __repr__(self) -> str:
        parts = [f"{self.n_epochs} epochs, {self._n_losses} steps"]
        if self.loss:
            parts.append(f"loss {self.loss[-1]:.4g}")
        if self.validation_accuracy:
            parts.append(f"validation accuracy {self.validation_accuracy[-1]:.4f}")
        return f"<History: {', '.join(parts)}>"

    def _without_first(self, n_epochs: int) -> History:
        """Return the history of a fit that began after so many of these epochs."""
        rest = History(**{name: getattr(self, name)[n_epochs:] for name in COLUMNS})
        known = slice(sum(self.n_steps[:n_epochs]), self._n_losses)
        rest._set_steps(0, self._losses[known], self._right[known])
        return rest

    def _set_steps(
        self, first: int, losses: NDArray[np.float32], right: NDArray[np.float32] | None = None
    ) -> None:
        """Record the steps from number `first` (from 0) on, and forget all later ones.

        right: the weight of the samples of each that were predicted rightly, if that is known.
        May be repeated: an interrupt between its lines does no harm if it is called again.
        """
        end = first + len(losses)
        if end > len(self._losses):
            size = max(end, 2 * len(self._losses), 64)
            self._right = _longer(self._right, first, size)
            self._losses = _longer(self._losses, first, size)
        self._losses[first:end] = losses
        self._right[first:end] = np.nan if right is None else right
        self._n_losses = end

    def _drop_undone_epochs(self) -> None:
        """Leave out the entries of epochs that have lost some of their steps."""
        while sum(self.n_steps[: self.n_epochs]) > self._n_losses:
            last = self.n_epochs - 1
            for name in reversed(COLUMNS):  # so that an interrupt leaves what is like a half-made entry
                del getattr(self, name)[last:]

    def _add_epochs(
        self,
        *,
        first_step: int,
        steps_per_epoch: int,
        offsets: NDArray[np.int64],
        seconds_per_step: float,
        learning_rates: NDArray[np.float64],
        validation_loss: float | None,
        validation_accuracy: float | None,
        sample_weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Make the entries of epochs whose steps have been recorded: several only if none is validated.

        first_step: the number of their first step, from 0.
        steps_per_epoch: of each, but for the last one, which may have fewer.
        offsets: where each batch begins among the epochs' samples, and how many these are.
        learning_rates: of each step.
        sample_weights: those of the epochs' samples in the order in which they were trained on.
        """
        n_epochs = self.n_epochs
        for name in COLUMNS:  # an interrupt may have come when the entries were half made
            del getattr(self, name)[n_epochs:]
        of_steps = slice(first_step, first_step + len(learning_rates))
        begins = np.arange(0, len(learning_rates), steps_per_epoch)
        ends = np.append(begins[1:], len(learning_rates))
        n_steps = ends - begins

        def of_epochs(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.add.reduceat(numbers, begins)

        if sample_weights is None:
            batch_weights = np.diff(offsets).astype(np.float64)
        else:
            batch_weights = np.add.reduceat(sample_weights.astype(np.float64), offsets[:-1])
        totals = of_epochs(batch_weights)
        self.loss += _divided(of_epochs(self._losses[of_steps] * batch_weights), totals).tolist()
        right = of_epochs(self._right[of_steps].astype(np.float64))
        if self.train_accuracy or not np.isnan(right).all():
            unknown = n_epochs - len(self.train_accuracy)
            # Each step's weight is a float32, and their sum may round to more than all.
            accuracies = np.minimum(_divided(right, totals), 1.0).tolist()
            self.train_accuracy += [*[math.nan] * unknown, *accuracies]
        if validation_loss is not None:
            self.validation_loss.append(validation_loss)
        if validation_accuracy is not None:
            self.validation_accuracy.append(validation_accuracy)
        self.learning_rate += learning_rates[ends - 1].tolist()
        seconds = seconds_per_step * n_steps
        self.seconds += seconds.tolist()
        self.n_steps += n_steps.tolist()
        self.samples_per_second += _divided(offsets[ends] - offsets[begins], seconds).tolist()

    def _to_arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers, for a file; of whole epochs, also while a fit in another thread adds one."""
        n_epochs = self.n_epochs
        arrays = {name: np.array(getattr(self, name)[:n_epochs], dtype) for name, dtype in COLUMNS.items()}
        n_steps = self._n_losses  # read once: the other thread may record steps at any moment
        losses, right = self._losses[:n_steps].copy(), self._right[:n_steps].copy()
        if np.isnan(right).all():
            right = right[:0]
        return arrays | {"step_loss": losses, "step_right": right}

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[Any]], notes: list[str]) -> History:
        history = cls(**{name: arrays[name].tolist() for name in COLUMNS}, notes=notes)
        right = arrays["step_right"]
        history._set_steps(0, arrays["step_loss"], right if len(right) else None)
        return history


def _longer(array: NDArray[np.float32], n_kept: int, size: int) -> NDArray[np.float32]:
    longer = np.empty(size, np.float32)
    longer[:n_kept] = array[:n_kept]
    return longer


def _divided(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return a / b, and 0 where b is 0."""
    quotient = np.zeros(len(b))
    np.divide(a, b, out=quotient, where=b != 0)
    return quotient
