"""Schedules: how the learning rate changes from step to step. Plain settings, given to `Net.fit`.

A schedule is a factor for each step; the optimiser's ``learning_rate`` times it is the rate. It depends on
the number of the step within the fit and, for `ReduceOnPlateau`, on what the finished epochs have found:
never on the clock, so that the same seed gives the same bits. For that reason, too, powers and cosines are
computed here: those of C libraries and of NumPy differ in their last bits from machine to machine.

`plots.schedule` draws one before training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp._schedule import CONSTANT, Constant, Factors, Schedule, Span, StepNumbers, checked_schedule
from fastmlp.history import MONITORS, is_better

__all__ = [
    "KINDS",
    "Constant",
    "Cosine",
    "Exponential",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Span",
    "Step",
    "Warmup",
]

# Decimal arithmetic is the same everywhere, if nothing of its context is the caller's.
_DECIMAL: Final = Context(
    prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, capitals=1, clamp=0, flags=[], traps=[]
)


@dataclass(frozen=True)
class Step(Schedule):
    """Multiply the rate by `factor` after some epochs.

    Parameters
    ----------
    epochs : int or tuple of int
        A number means after every so many epochs; several numbers mean after each of these epochs, counted
        from 1 and rising: ``Step(epochs=(30, 60, 80))`` changes the rate three times.
    factor : float, default 0.1
        Greater than 0 and less than 1.

    Raises
    ------
    TypeError, ValueError
        If a setting is of a wrong type or out of range.

    References
    ----------
    A. Krizhevsky, I. Sutskever, G. E. Hinton: ImageNet Classification with Deep Convolutional Neural
    Networks, NIPS 2012, section 5; there by hand, when the validation error stopped improving.

    Examples
    --------
    >>> Step(epochs=2, factor=0.5).factors(np.arange(6), Span(n_steps=6, steps_per_epoch=1))
    array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
    >>> Step(epochs=(1, 2)).factors(np.arange(3), Span(n_steps=3, steps_per_epoch=1))
    array([1.  , 0.1 , 0.01])
    """

    needs_history: ClassVar[bool] = False
    epochs: int | tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _validation.set_checked(self, "epochs", _epochs)
        _validation.set_checked(self, "factor", _validation.proper_fraction)

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return `factor` to the power of how often the rate has changed."""
        epochs_done = steps // span.steps_per_epoch
        if isinstance(self.epochs, int):
            return _powers(self.factor, epochs_done // self.epochs)
        return _powers(self.factor, np.searchsorted(self.epochs, epochs_done, side="right"))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Let the rate decay by the same small factor in each step.

    Parameters
    ----------
    factor : float, default 0.9
        What a whole epoch multiplies the rate by; greater than 0 and less than 1.

    Raises
    ------
    TypeError, ValueError
        If `factor` is of a wrong type or out of range.

    References
    ----------
    A. Senior, G. Heigold, M. Ranzato, K. Yang: An empirical study of learning rates in deep neural networks
    for speech recognition, ICASSP 2013: "exponential scheduling".

    Examples
    --------
    >>> Exponential(factor=0.25).factors(np.arange(5), Span(n_steps=5, steps_per_epoch=2))
    array([1.    , 0.5   , 0.25  , 0.125 , 0.0625])
    """

    needs_history: ClassVar[bool] = False
    factor: float = 0.9

    def __post_init__(self) -> None:
        _validation.set_checked(self, "factor", _validation.proper_fraction)

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return `factor` to the power of the epochs gone by, which need not be whole."""
        epochs, rest = np.divmod(steps, span.steps_per_epoch)
        with localcontext(_DECIMAL):
            one_step = float(Decimal(self.factor) ** (Decimal(1) / span.steps_per_epoch))
        return _powers(self.factor, epochs) * _powers(one_step, rest)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Let the rate fall along half a wave of the cosine, from the first step of the fit to its end.

    With step t = 0, 1, ... of T, the factor is ``final + (1 - final) * (1 + cos(pi * t / T)) / 2``.

    Parameters
    ----------
    final : float, default 0.0
        What it falls to, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        If `final` is of a wrong type or out of range.

    References
    ----------
    I. Loshchilov, F. Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, equation 5,
    without restarts.

    Examples
    --------
    >>> Cosine().factors(np.arange(4), Span(n_steps=4, steps_per_epoch=4)).round(4)
    array([1.    , 0.8536, 0.5   , 0.1464])
    """

    needs_history: ClassVar[bool] = False
    final: float = 0.0

    def __post_init__(self) -> None:
        _validation.set_checked(self, "final", _validation.fraction)

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return the wave."""
        return self.final + (1 - self.final) * _half_wave(steps / span.n_steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Let the rate rise in a line to the optimiser's, and fall along half a wave of the cosine to almost 0.

    The optimiser's learning rate is the peak, which can be several times as high as a constant rate.

    Parameters
    ----------
    rise : float, default 0.3
        Which part of the fit's steps the rise takes; greater than 0 and less than 1.
    start : float, default 0.04
        Where it starts, as a factor of the peak, in [0, 1).
    final : float, default 4e-6
        Where it ends, as a factor of the peak, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        If a setting is of a wrong type or out of range.

    References
    ----------
    L. N. Smith, N. Topin: Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates, 2018, https://arxiv.org/abs/1708.07120, with two deviations: the fall is one half wave
    instead of a line and a steeper end, and momentum stays as it is.

    Examples
    --------
    >>> OneCycle(rise=0.5, start=0).factors(np.arange(8), Span(n_steps=8, steps_per_epoch=8)).round(4)
    array([0.    , 0.25  , 0.5   , 0.75  , 1.    , 0.8536, 0.5   , 0.1465])
    """

    needs_history: ClassVar[bool] = False
    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        _validation.set_checked(self, "rise", _validation.proper_fraction)
        _validation.set_checked(self, "start", _validation.fraction)
        _validation.set_checked(self, "final", _validation.fraction)

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return the rise up to the peak and the fall behind it."""
        peak = self.rise * span.n_steps
        rising = self.start + (1 - self.start) * (steps / peak)
        fallen = np.clip((steps - peak) / (span.n_steps - peak), 0, 1)
        falling = self.final + (1 - self.final) * _half_wave(fallen)
        return np.where(steps < peak, rising, falling)


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiply the rate by `factor` whenever a number has stopped getting better for some epochs.

    Parameters
    ----------
    patience : int, default 5
        After this many epochs in a row without a new best number the rate is changed, and the count begins
        anew; at least 1.
    factor : float, default 0.1
        Greater than 0 and less than 1.
    monitor : {"validation_loss", "validation_accuracy", "loss"}, default "validation_loss"
        The list of `History` to watch. Accuracy counts as better if greater, the losses if smaller.
    min_delta : float, default 0.0
        What is better by no more than this does not count as better; at least 0.

    Raises
    ------
    TypeError, ValueError
        If a setting is of a wrong type or out of range. `Net.fit` raises ValueError if a validation number is
        to be watched and there are no validation data.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 3.4,
    where the rate "is divided by 10 when the error plateaus".

    Examples
    --------
    >>> from fastmlp import History
    >>> history = History(validation_loss=[3.0, 2.0, 2.5, 2.1])
    >>> ReduceOnPlateau(patience=2).factors(np.arange(4, 5), Span(5, 1, history))
    array([0.1])
    """

    patience: int = 5
    factor: float = 0.1
    monitor: str = "validation_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        _validation.set_checked(self, "patience", _count)
        _validation.set_checked(self, "factor", _validation.proper_fraction)
        object.__setattr__(self, "monitor", _validation.one_of(self.monitor, "monitor", MONITORS))
        _validation.set_checked(self, "min_delta", _validation.not_negative)

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return one and the same factor for all steps, which the finished epochs decide."""
        best, n_waited, n_changes = math.nan, 0, 0
        for value in getattr(span.history, self.monitor):
            if is_better(value, best, self.monitor, self.min_delta):
                best, n_waited = value, 0
            else:
                n_waited += 1
            if n_waited == self.patience:
                n_waited, n_changes = 0, n_changes + 1
        return _powers(self.factor, np.full(len(steps), n_changes))

    def _check_validation(self, has_validation: bool, has_accuracy: bool) -> None:
        _validation.monitored(self, self.monitor, has_validation, has_accuracy=has_accuracy)


@dataclass(frozen=True)
class Warmup(Schedule):
    """Let the rate rise in a line for some steps, and then follow another schedule.

    Step t = 0, 1, ... of the first n has the factor ``(t + 1) / n``. For what comes then, the fit begins with
    step n: its steps and epochs are counted from there, and its history has the epochs that began since.

    Parameters
    ----------
    steps : int
        How many steps the rise takes, at least 1.
    then : Schedule, default Constant()
        What to follow.

    Raises
    ------
    TypeError, ValueError
        If a setting is of a wrong type or out of range.

    References
    ----------
    P. Goyal et al.: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017,
    https://arxiv.org/abs/1706.02677, section 2.2, "gradual warmup".

    Examples
    --------
    >>> Warmup(4, then=Step(epochs=1)).factors(np.arange(8), Span(n_steps=8, steps_per_epoch=2))
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  , 0.1 , 0.1 ])
    """

    steps: int
    then: Schedule = CONSTANT

    def __post_init__(self) -> None:
        _validation.set_checked(self, "steps", _count)
        if isinstance(checked_schedule(self.then, "then"), Warmup):
            raise ValueError("then must not be a Warmup again; add up the steps of both.")

    def factors(self, steps: StepNumbers, span: Span) -> Factors:
        """Return the line, and the factors of `then` behind it."""
        rising = (steps + 1) / self.steps
        later = np.maximum(steps - self.steps, 0)
        n_epochs = -(-self.steps // span.steps_per_epoch)  # that begin before the end of the rise
        rest = Span(
            max(span.n_steps - self.steps, 1), span.steps_per_epoch, span.history._without_first(n_epochs)
        )
        return np.where(steps < self.steps, rising, self.then.factors(later, rest))

    @property
    def needs_history(self) -> bool:  # type: ignore[override]
        """Whether `then` does."""
        return self.then.needs_history

    def _check_validation(self, has_validation: bool, has_accuracy: bool) -> None:
        self.then._check_validation(has_validation, has_accuracy)


KINDS: Final = (Constant, Step, Exponential, Cosine, OneCycle, ReduceOnPlateau, Warmup)
"""All schedules. A checkpoint names one of these."""


def _count(value: object, name: str) -> int:
    """Return a number of steps or epochs, which int64 and float64 hold exactly."""
    return _validation.whole_number(value, name, maximum=2**53)


def _epochs(value: object, name: str) -> int | tuple[int, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return _count(value, name)
    epochs = tuple(_count(epoch, f"{name}[{index}]") for index, epoch in enumerate(value))
    if not epochs or any(later <= earlier for earlier, later in pairwise(epochs)):
        raise ValueError(f"{name} must be one or more rising numbers, not {_validation.shortened(epochs)}.")
    return epochs


def _powers(base: float, exponents: NDArray[np.integer]) -> Factors:
    """Return `base` to the power of whole numbers of at least 0, by squaring."""
    powers = np.ones(len(exponents))
    square, rest = base, np.array(exponents, np.int64)
    while rest.any():
        powers = np.where(rest & 1, powers * square, powers)
        square, rest = square * square, rest >> 1
    return powers


_SINE_TERMS: Final = 12  # of the series: the next is (pi / 2)^25 / 25! = 5e-21 at most


def _half_wave(x: Factors) -> Factors:
    """Return (1 + cos(pi * x)) / 2 for x from 0 to 1, by the Taylor series of the sine."""
    angle = np.pi * (0.5 - x)
    series = np.zeros_like(angle)
    for k in range(_SINE_TERMS - 1, -1, -1):
        series = 1 / math.factorial(2 * k + 1) - angle * angle * series
    return np.clip(0.5 + 0.5 * (angle * series), 0, 1)
