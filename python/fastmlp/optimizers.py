"""Optimisers: how a gradient changes the weights. Plain settings; the arithmetic is in the core.

Weight decay, where an optimiser has it, is applied to all parameters, biases included, as PyTorch's
optimisers do with all that they are given.

Every optimiser takes `clip_norm`, `max_norm` and `ema_decay`, which `Optimizer` describes.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final, TypedDict

from fastmlp import _core, _validation


class _Around(TypedDict):
    clip_norm: float
    max_norm: float
    average_decay: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimizer:
    """What all optimisers have: a learning rate, and what may be done before and after their update.

    In each step::

        g = g * min(1, clip_norm / norm of g)                     # clip_norm
        w, moments = the optimiser's update with g
        w_j = w_j * min(1, max_norm / norm of w_j), each unit j   # max_norm
        average = average + (1 - ema_decay) / (1 - ema_decay**t) * (w - average)    # ema_decay

    Norms are L2 norms, summed in float64 in an order that does not depend on the number of threads. A net
    that is trained without these pays nothing for them.

    Parameters
    ----------
    clip_norm : float, optional
        Greater than 0, at most 1e37: clip the gradient by its global norm, that is, the norm of the gradient
        of all parameters together, biases included, without weight decay.
    max_norm : float, optional
        Greater than 0, at most 1e37: after each update the norm of every unit's incoming weights, without its
        bias, is at most this (to within the rounding of float32); longer ones are scaled back. From 2 to 4 is
        common, together with dropout and a large learning rate.
    ema_decay : float, optional
        In (0, 1): average the parameters, biases included; those after a step count this many times as much
        as those after the next one. 0.999 averages over some 1,000 steps. The averages are the net's weights:
        all that predicts, evaluates (validation after each epoch included), reads or saves them uses the
        averages, during the fit and after it. The live weights belong to the training, as moments do: a
        further fit, or one that is resumed, goes on from them, and so does a fit without `ema_decay`, which
        gives up the average. `Net.set_weights` sets both, and the average starts anew. The losses of training
        steps are those of the live weights.

    Raises
    ------
    TypeError
        If a setting is neither a real number nor None.
    ValueError
        If a setting is outside of its range.

    References
    ----------
    clip_norm: R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural networks,
    ICML 2013, Algorithm 1. PyTorch's clip_grad_norm_ adds 1e-6 to the norm; this does not.

    max_norm: N. Srivastava et al.: Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR
    15, 2014, section 5.1, with one deviation: there it is for hidden units, here for those of the last layer
    too.

    ema_decay: B. T. Polyak, A. B. Juditsky: Acceleration of stochastic approximation by averaging, SIAM
    Journal on Control and Optimization 30, 1992, for averaging; with exponential weights and bias correction
    as in section 7.2 of D. P. Kingma, J. Ba: Adam, ICLR 2015: after step t the average is the mean of the
    weights after steps 1 to t, those of step i counting ema_decay**(t - i). So the initial weights, which
    Keras averages too, do not count, and a short fit has a useful average.

    Examples
    --------
    >>> SGD(learning_rate=0.1, momentum=0.9, max_norm=3)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, max_norm=3.0)
    >>> Adam(clip_norm=1.0, ema_decay=0.999).ema_decay
    0.999
    """

    learning_rate: float
    clip_norm: float | None = None
    max_norm: float | None = None
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        _validation.set_checked(self, "clip_norm", _validation.or_none(_validation.positive_normal))
        _validation.set_checked(self, "max_norm", _validation.or_none(_validation.positive_normal))
        _validation.set_checked(self, "ema_decay", _validation.or_none(_validation.proper_fraction))

    def __repr__(self) -> str:
        """Return the call that makes it; what every optimiser has comes last, and only if it is in use."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        around = {name: values.pop(name) for name in ("clip_norm", "max_norm", "ema_decay")}
        values |= {name: value for name, value in around.items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def _apply_to(self, trainer: _core.Trainer) -> None:
        """Make the trainer use this optimiser; it keeps its moments if it used one of the same kind."""
        raise NotImplementedError

    def _around(self) -> _Around:
        """Return the core's arguments for what is done before and after the update."""
        return {
            "clip_norm": math.inf if self.clip_norm is None else self.clip_norm,
            "max_norm": math.inf if self.max_norm is None else self.max_norm,
            "average_decay": self.ema_decay or 0.0,
        }


@dataclass(frozen=True, repr=False)
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
    clip_norm, max_norm, ema_decay : float, optional
        Clipping of the gradient, a limit for the weights of each unit, averaging of the weights: see
        `fastmlp.optimizers.Optimizer`.

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
        super().__post_init__()
        _check_adam(self)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        _set_adam(trainer, self, decoupled=False)


@dataclass(frozen=True, repr=False)
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
    clip_norm, max_norm, ema_decay : float, optional
        Clipping of the gradient, a limit for the weights of each unit, averaging of the weights: see
        `fastmlp.optimizers.Optimizer`.

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
        super().__post_init__()
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
        **settings._around(),
    )


@dataclass(frozen=True, repr=False)
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
    clip_norm, max_norm, ema_decay : float, optional
        Clipping of the gradient, a limit for the weights of each unit, averaging of the weights: see
        `fastmlp.optimizers.Optimizer`.

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
        super().__post_init__()
        _validation.set_checked(self, "learning_rate", _validation.positive)
        _validation.set_checked(self, "momentum", _validation.fraction)
        _validation.set_checked(self, "nesterov", _validation.boolean)
        _validation.set_checked(self, "weight_decay", _validation.float32_not_negative)
        if self.nesterov and self.momentum == 0:
            raise ValueError(_validation.NESTEROV_WITHOUT_MOMENTUM)

    def _apply_to(self, trainer: _core.Trainer) -> None:
        trainer.set_sgd(
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            **self._around(),
        )


KINDS: Final = (Adam, AdamW, SGD)
"""All optimisers. A checkpoint names one of these."""
