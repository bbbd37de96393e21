"""Optimisers: how a gradient changes the weights. Plain settings; the arithmetic is in the core."""

from __future__ import annotations

from dataclasses import dataclass

from fastmlp import _core, _validation


class Optimizer:
    """What all optimisers have: a learning rate, and a way to tell the core."""

    learning_rate: float

    def _apply_to(self, trainer: _core.Trainer) -> None:
        """Make the trainer use this optimiser; it keeps its moments if it used one of the same kind."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running moments of the gradient.

    With gradient g at step t = 1, 2, ... and all moments zero before it::

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        w = w - learning_rate * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)

    Parameters
    ----------
    learning_rate : float, default 1e-3
        Greater than 0.
    beta_1 : float, default 0.9
        Decay of the first moment, in [0, 1).
    beta_2 : float, default 0.999
        Decay of the second moment, in [0, 1).
    epsilon : float, default 1e-8
        Added outside of the root; at least 1.2e-38, the smallest normal float32.

    Raises
    ------
    TypeError
        If a setting is not a real number.
    ValueError
        If a setting is outside of its range.

    References
    ----------
    D. P. Kingma, J. Ba: Adam: A Method for Stochastic Optimization, ICLR 2015,
    Algorithm 1, without deviation. (The variant at the end of its section 2, which some libraries use, adds
    epsilon to the root of the uncorrected moment.)

    Examples
    --------
    >>> Adam(learning_rate=3e-4)
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _validation.set_checked(self, "learning_rate", _validation.positive)
        _validation.set_checked(self, "beta_1", _validation.fraction)
        _validation.set_checked(self, "beta_2", _validation.fraction)
        _validation.set_checked(self, "epsilon", _validation.positive_normal)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        trainer.set_adam(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    With gradient g and velocity v, which is zero before the first step::

        v = momentum * v + g
        w = w - learning_rate * v

    Parameters
    ----------
    learning_rate : float, default 0.01
        Greater than 0.
    momentum : float, default 0.0
        In [0, 1); 0 is plain gradient descent.

    Raises
    ------
    TypeError
        If a setting is not a real number.
    ValueError
        If a setting is outside of its range.

    References
    ----------
    B. T. Polyak: Some methods of speeding up the convergence of iteration methods,
    1964. I. Sutskever, J. Martens, G. Dahl, G. Hinton: On the importance of initialization and momentum in
    deep learning, ICML 2013, equations 1 and 2, with one deviation: there v holds the learning rate (v =
    momentum * v - learning_rate * g, w = w + v); here, as in PyTorch, the rate multiplies v, so that a change
    of it acts at once. With a constant rate the two are the same.

    Examples
    --------
    >>> SGD(learning_rate=0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    learning_rate: float = 0.01
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _validation.set_checked(self, "learning_rate", _validation.positive)
        _validation.set_checked(self, "momentum", _validation.fraction)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        trainer.set_sgd(momentum=self.momentum)
