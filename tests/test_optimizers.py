"""Settings of the optimisers, and steps worked by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from fastmlp import SGD, Adam, AdamW, Net, optimizers

# A net of one input and two classes, all zero, learns the sample x = 1 of class 0. Its logits are (w0 + b0,
# w1 + b1). The gradient for w0 and b0 is p0 - 1, for w1 and b1 it is 1 - p0, with p0 = 1 / (1 + exp(-(z0 -
# z1))), z0 = -z1 = 2 w0. So w0 = b0 = -w1 = -b1 throughout, and one number tells all.


def weight_after(optimizer: Adam | AdamW | SGD, steps: int) -> float:
    net = Net([1, 2], seed=0)
    net.set_weights([np.zeros((1, 2))], [np.zeros(2)])
    net.fit(np.ones((1, 1), np.float32), [0], steps=steps, optimizer=optimizer)
    w = float(net.weights[0][0, 0])
    np.testing.assert_allclose(net.weights[0], [[w, -w]], rtol=1e-6)
    np.testing.assert_allclose(net.biases[0], [w, -w], rtol=1e-6)
    return w


def gradient(w: float) -> float:
    return 1 / (1 + math.exp(-4 * w)) - 1


# A step is a dozen float32 operations on numbers around 1: their errors, 6e-8 each, stay far below 1e-6.
TOLERANCE = 1e-6


def test_sgd_step_by_hand() -> None:
    # g = -1/2, w = 0 + 0.1 / 2
    assert weight_after(SGD(learning_rate=0.1), 1) == pytest.approx(0.05, rel=TOLERANCE)


def test_sgd_two_steps_with_momentum_by_hand() -> None:
    # v = -1/2, w = 0.25; then g = 1 / (1 + exp(-1)) - 1 = -0.2689414, v = 0.9 * -0.5 - 0.2689414 =
    # -0.7189414, w = 0.25 + 0.5 * 0.7189414
    assert gradient(0.25) == pytest.approx(-0.2689414)
    assert weight_after(SGD(learning_rate=0.5, momentum=0.9), 2) == pytest.approx(0.6094707, rel=TOLERANCE)


def test_adam_step_by_hand_has_epsilon_outside_of_the_root() -> None:
    # Corrected moments: m = g = -1/2, v = g**2, so w = 0.1 * 0.5 / (0.5 + 0.5); an epsilon under the root
    # would give 0.1 * 0.5 / sqrt(0.25 + 0.5) = 0.0577, one that is added to the uncorrected root 0.1 / (1 +
    # 0.5 / 0.0158) = 0.0031.
    assert weight_after(Adam(learning_rate=0.1, epsilon=0.5), 1) == pytest.approx(0.05, rel=TOLERANCE)


def test_adam_two_steps_by_hand() -> None:
    # After one step w = 0.25 (0.5 * 0.5 / (0.5 + 0.5)). Then g = -0.2689414; m = 0.5 * (0.5 * -0.5) + 0.5 g =
    # -0.2594707, corrected by 1 - 0.5**2: -0.3459609; v = 0.75 * (0.25 * 0.25) + 0.25 g**2 = 0.06495737,
    # corrected by 1 - 0.75**2: 0.1484740, its root 0.3853232; w = 0.25 + 0.5 * 0.3459609 / (0.3853232 + 0.5)
    expected = 0.25 + 0.5 * 0.3459609 / 0.8853232
    adam = Adam(learning_rate=0.5, beta_1=0.5, beta_2=0.75, epsilon=0.5)
    assert weight_after(adam, 2) == pytest.approx(expected, rel=TOLERANCE)


def test_sgd_two_steps_with_nesterov_momentum_by_hand() -> None:
    # v = -1/2, the step -1/2 - 0.9 / 2 = -0.95, w = 0.475; then g = 1 / (1 + exp(-1.9)) - 1 = -0.1301085,
    # v = 0.9 * -0.5 - 0.1301085 = -0.5801085, the step g + 0.9 v = -0.6522062, w = 0.475 + 0.5 * 0.6522062
    assert gradient(0.475) == pytest.approx(-0.1301085)
    sgd = SGD(learning_rate=0.5, momentum=0.9, nesterov=True)
    assert weight_after(sgd, 2) == pytest.approx(0.8011031, rel=TOLERANCE)


def test_sgd_two_steps_with_weight_decay_by_hand_decay_biases_too() -> None:
    # From 0 there is nothing to decay: w = 0.25. Then g = -0.2689414 + 0.4 * 0.25 = -0.1689414. weight_after
    # checks that the biases are where the weights are.
    assert weight_after(SGD(learning_rate=0.5, weight_decay=0.4), 2) == pytest.approx(
        0.25 + 0.5 * 0.1689414, rel=TOLERANCE
    )


def test_adam_two_steps_with_weight_decay_by_hand_decay_in_the_gradient() -> None:
    # w = 0.25 as without decay. Then g = -0.1689414 as above; m = 0.5 * (0.5 * -0.5) + 0.5 g = -0.2094707,
    # corrected: -0.2792943; v = 0.75 * 0.0625 + 0.25 g**2 = 0.05401030, corrected: 0.1234521, root 0.3513575
    expected = 0.25 + 0.5 * 0.2792943 / 0.8513575
    adam = Adam(learning_rate=0.5, beta_1=0.5, beta_2=0.75, epsilon=0.5, weight_decay=0.4)
    assert weight_after(adam, 2) == pytest.approx(expected, rel=TOLERANCE)


def test_adamw_two_steps_by_hand_decay_beside_the_moments() -> None:
    # w = 0.25 as without decay; then the step of Adam without decay, and 0.5 * 0.4 * 0.25 = 0.05.
    expected = 0.25 + 0.5 * 0.3459609 / 0.8853232 - 0.05
    adamw = AdamW(learning_rate=0.5, beta_1=0.5, beta_2=0.75, epsilon=0.5, weight_decay=0.4)
    assert weight_after(adamw, 2) == pytest.approx(expected, rel=TOLERANCE)


def test_adamw_without_decay_is_adam_bit_for_bit() -> None:
    assert weight_after(AdamW(0.1, weight_decay=0.0), 5) == weight_after(Adam(0.1), 5)


def test_adamw_after_adam_keeps_the_moments() -> None:
    X = np.ones((1, 1), np.float32)
    net = Net([1, 2], seed=0)
    net.set_weights([np.zeros((1, 2))], [np.zeros(2)])
    for optimizer in (Adam(0.1), AdamW(0.1, weight_decay=0.0)):
        net.fit(X, [0], steps=1, optimizer=optimizer)
    assert float(net.weights[0][0, 0]) == weight_after(Adam(0.1), 2)


def test_sgd_nesterov_without_momentum_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="momentum is 0"):
        SGD(nesterov=True)
    with pytest.raises(TypeError, match="nesterov must be True or False"):
        SGD(momentum=0.9, nesterov=1)


def test_optimizer_moments_are_kept_from_fit_to_fit_and_dropped_with_its_kind() -> None:
    X = np.ones((1, 1), np.float32)
    momentum = SGD(learning_rate=0.5, momentum=0.9)

    def w_after(*optimizers: Adam | SGD) -> float:
        net = Net([1, 2], seed=0)
        net.set_weights([np.zeros((1, 2))], [np.zeros(2)])
        for optimizer in optimizers:
            net.fit(X, [0], steps=1, optimizer=optimizer)
        return float(net.weights[0][0, 0])

    assert w_after(momentum, momentum) == weight_after(momentum, 2)
    # Another rate is no other kind: v stays -0.7189414, but now counts 1/4.
    slower = SGD(learning_rate=0.25, momentum=0.9)
    assert w_after(momentum, slower) == pytest.approx(0.25 + 0.25 * 0.7189414, rel=TOLERANCE)
    # Adam in between, too slow to matter, makes the velocity start from zero.
    nothing = Adam(learning_rate=1e-30)
    assert w_after(momentum, nothing, momentum) == pytest.approx(0.25 + 0.5 * 0.2689414, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Adam, {"learning_rate": 0}),
        (Adam, {"learning_rate": -1e-3}),
        (Adam, {"learning_rate": math.nan}),
        (Adam, {"learning_rate": math.inf}),
        (Adam, {"learning_rate": 10**400}),
        (Adam, {"beta_1": 1.0}),
        (Adam, {"beta_1": -0.1}),
        (Adam, {"beta_2": 1.0}),
        (Adam, {"beta_2": math.nan}),
        (Adam, {"epsilon": 0.0}),
        (Adam, {"epsilon": 1e-40}),
        (Adam, {"epsilon": 1e39}),
        (Adam, {"weight_decay": -0.01}),
        (Adam, {"weight_decay": 1e38}),
        (AdamW, {"learning_rate": 0.0}),
        (AdamW, {"beta_2": 1.0}),
        (AdamW, {"weight_decay": math.inf}),
        (AdamW, {"weight_decay": -1e-9}),
        (SGD, {"learning_rate": 0.0}),
        (SGD, {"weight_decay": -1.0}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"momentum": -0.5}),
    ],
)
def test_optimizer_setting_out_of_range_is_a_value_error_that_names_it(
    kind: type, settings: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, np.ones(2), np.bool_(True)])
def test_optimizer_setting_of_wrong_type_is_a_type_error_that_names_it(value: object) -> None:
    with pytest.raises(TypeError, match="learning_rate must be a real number"):
        Adam(learning_rate=value)
    with pytest.raises(TypeError, match="momentum must be a real number"):
        SGD(momentum=value)


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.float64(0.5), np.int8(1)])
def test_optimizer_setting_may_be_any_real_number_and_becomes_a_float(value: object) -> None:
    assert type(Adam(learning_rate=value).learning_rate) is float


def test_optimizers_are_frozen_and_compare_by_value() -> None:
    assert Adam(1e-3) == Adam()
    assert SGD(0.1, 0.9) != SGD(0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().learning_rate = 1.0


def test_every_optimizer_is_one_that_files_may_name() -> None:
    classes = {kind for kind in vars(optimizers).values() if isinstance(kind, type)}
    concrete = {kind for kind in classes if issubclass(kind, optimizers.Optimizer)} - {optimizers.Optimizer}
    assert concrete == set(optimizers.KINDS)
