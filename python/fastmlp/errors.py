"""The errors that fastmlp raises beyond Python's own."""

from __future__ import annotations


class IdxFormatError(ValueError):
    """A file is not a valid IDX file; the message names the file and says what is wrong with it."""


class ModelFileError(ValueError):
    """A file is not a valid fastmlp model; the message names the file and says what is wrong with it."""


class DownloadError(OSError):
    """A data set could be had from none of its addresses; the message says what was tried."""


class _KeepsAttributes:
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the attributes too, so that the error survives the way back from a worker process."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class NonFiniteLossError(_KeepsAttributes, ArithmeticError):
    """The loss of a training step is infinite or not a number; that step's update was not made.

    Parameters
    ----------
    message : str
        What happened, and what to do about it.
    step : int
        The step whose loss is not finite, counted from 1 since the call of fit.
    epoch : int
        The epoch it belongs to, counted from 1 since the call of fit.
    learning_rate : float
        The learning rate in force at that step.
    """

    def __init__(self, message: str, *, step: int, epoch: int, learning_rate: float) -> None:
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.learning_rate = learning_rate


class NonFiniteInputError(_KeepsAttributes, ValueError):
    """X holds an infinite value or one that is not a number.

    Parameters
    ----------
    message : str
        What was found where, and what to do about it.
    row : int
        Index into X of the first sample that holds such a value, first in the order in which the samples were
        used.
    """

    def __init__(self, message: str, *, row: int) -> None:
        super().__init__(message)
        self.row = row


class NonFiniteOutputError(_KeepsAttributes, ArithmeticError):
    """An output of the net is infinite or not a number, though its input is finite.

    Parameters
    ----------
    message : str
        For which sample, and what to do about it.
    row : int
        Index into X of the first sample with such an output.
    """

    def __init__(self, message: str, *, row: int) -> None:
        super().__init__(message)
        self.row = row


def _rebuild(kind: type[Exception], message: str, attributes: dict[str, object]) -> Exception:
    error = kind.__new__(kind, message)
    error.__dict__.update(attributes)
    return error
