"""What every fit needs of schedules. `fastmlp.schedules`, which has all of them, takes time to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp.history import History

Factors = NDArray[np.float64]
StepNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """The fit that a schedule is for.

    Attributes
    ----------
    n_steps : int
        Steps of the whole fit.
    steps_per_epoch : int
        Steps of a whole epoch.
    history : History
        With an entry for each epoch that is finished.
    """

    n_steps: int
    steps_per_epoch: int
    history: History = field(default_factory=History)


class Schedule:
    """What all schedules have: a factor of the learning rate for each step.

    Derive from it for one of your own. A file holds no classes, so a fit with it can be resumed in the same
    process only, and `Checkpoint` refuses it.

    Attributes
    ----------
    needs_history : bool
        Whether factors depend on the entries of earlier epochs in the history: yes, unless a class says no.
    """

    needs_history: ClassVar[bool] = True

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return what the learning rate is multiplied by.

        Parameters
        ----------
        steps : numpy.ndarray
            int64 (n,), numbers of steps counted from 0, all of the same epoch; or of several, for a schedule
            whose `needs_history` is False.
        span : Span
            The fit that they belong to.

        Returns
        -------
        numpy.ndarray
            float64 (n,), at least 0.
        """
        raise NotImplementedError

    def _check_validation(self, has_validation: bool, has_accuracy: bool) -> None:
        """Raise ValueError if the schedule watches a number of validation that there is not."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimiser's learning rate throughout.

    Examples
    --------
    >>> Constant().factors(np.arange(3), Span(n_steps=3, steps_per_epoch=3))
    array([1., 1., 1.])
    """

    needs_history: ClassVar[bool] = False

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return 1 for each step."""
        return np.ones(len(steps))


CONSTANT: Final = Constant()

for _kind in (Constant, Schedule, Span):  # a name that pickles can keep
    _kind.__module__ = "fastmlp.schedules"


def checked_schedule(value: object, name: str = "schedule") -> Schedule:
    """Return `value` if it is a schedule."""
    return _validation.instance(value, Schedule, name, "schedules.Cosine()")
