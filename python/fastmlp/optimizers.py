"""Optimisers: how a gradient changes the weights. Plain settings; the arithmetic is in the core.

Weight decay, where an optimiser has it, is applied to all parameters, biases included, as PyTorch's
optimisers do with all that they are given.
"""

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

    With the loss's gradient g at step t = 1, 2, ... and all moments zero before it::

        g = g + weight_decay * w
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
    weight_decay : float, default 0.0
        At least 0: L2 regularisation, as if ``weight_decay / 2`` times the sum of the squares of all
        parameters, biases included, were added to the loss that is trained on (reported losses are without
        it). Its part of the gradient is scaled by the moments like the rest; `AdamW` decays weights beside
        them.

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
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.0)
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_adam(self)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        _set_adam(trainer, self, decoupled=False)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: the decay does not pass through the moments.

    With gradient g at step t = 1, 2, ... and all moments zero before it::

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        w = w - learning_rate * ((m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)
                                 + weight_decay * w)

    Its moments are those of Adam: going from one to the other between two fits keeps them.

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
    weight_decay : float, default 0.01
        At least 0; of all parameters, biases included. Each step takes this times the learning rate of what
        they are.

    Raises
    ------
    TypeError
        If a setting is not a real number.
    ValueError
        If a setting is outside of its range.

    References
    ----------
    I. Loshchilov, F. Hutter: Decoupled Weight Decay Regularization, ICLR 2019, Algorithm 2, with one
    deviation, which is PyTorch's too: there the decay is multiplied by the schedule alone; here by the
    learning rate, so that the paper's lambda is learning_rate * weight_decay.

    Examples
    --------
    >>> AdamW(weight_decay=0.05)
    AdamW(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.05)
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check_adam(self)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        _set_adam(trainer, self, decoupled=True)


def _check_adam(settings: Adam | AdamW) -> None:
    _validation.set_checked(settings, "learning_rate", _validation.positive)
    _validation.set_checked(settings, "beta_1", _validation.fraction)
    _validation.set_checked(settings, "beta_2", _validation.fraction)
    _validation.set_checked(settings, "epsilon", _validation.positive_normal)
    _validation.set_checked(settings, "weight_decay", _validation.float32_not_negative)


def _set_adam(trainer: _core.Trainer, settings: Adam | AdamW, *, decoupled: bool) -> None:
    trainer.set_adam(
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
        weight_decay=settings.weight_decay,
        decoupled=decoupled,
    )


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    With the loss's gradient g and velocity v, which is zero before the first step::

        g = g + weight_decay * w
        v = momentum * v + g
        w = w - learning_rate * v                     # or, with nesterov:
        w = w - learning_rate * (g + momentum * v)

    Parameters
    ----------
    learning_rate : float, default 0.01
        Greater than 0.
    momentum : float, default 0.0
        In [0, 1); 0 is plain gradient descent.
    nesterov : bool, default False
        Whether to step from where the momentum will have led; takes a momentum greater than 0.
    weight_decay : float, default 0.0
        At least 0: L2 regularisation, as if ``weight_decay / 2`` times the sum of the squares of all
        parameters, biases included, were added to the loss that is trained on (reported losses are without
        it).

    Raises
    ------
    TypeError
        If a setting is of a wrong type.
    ValueError
        If a setting is outside of its range, or nesterov is asked for without momentum.

    References
    ----------
    B. T. Polyak: Some methods of speeding up the convergence of iteration methods,
    1964. I. Sutskever, J. Martens, G. Dahl, G. Hinton: On the importance of initialization and momentum in
    deep learning, ICML 2013, equations 1 and 2, with one deviation: there v holds the learning rate (v =
    momentum * v - learning_rate * g, w = w + v); here, as in PyTorch, the rate multiplies v, so that a change
    of it acts at once. With a constant rate the two are the same.
    nesterov: Y. Nesterov: A method for solving the convex programming problem with convergence rate O(1/k^2),
    1983; in the form of Sutskever et al., equations 3 and 4, with the same deviation, and with w standing for
    their point ahead, theta + mu v, at which the gradient is taken: as in PyTorch.

    Examples
    --------
    >>> SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _validation.set_checked(self, "learning_rate", _validation.positive)
        _validation.set_checked(self, "momentum", _validation.fraction)
        _validation.set_checked(self, "nesterov", _validation.boolean)
        _validation.set_checked(self, "weight_decay", _validation.float32_not_negative)
        if self.nesterov and self.momentum == 0:
            raise ValueError(_validation.NESTEROV_WITHOUT_MOMENTUM)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        trainer.set_sgd(momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay)
