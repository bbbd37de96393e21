"""The oracle itself is held against calculus, and against steps worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import (
    ACTIVATIONS,
    LOSSES,
    ReferenceAdam,
    ReferenceNet,
    ReferenceSGD,
    cross_entropy,
    round_to_bfloat16,
    sigmoid_cross_entropy,
    smoothed,
    softmax,
    squared_error,
    target_rows,
    train_step,
)


def random_net(rng, sizes, activations, **options):
    weights = [rng.normal(0, 1 / math.sqrt(n), (n, m)) for n, m in itertools.pairwise(sizes)]
    biases = [rng.normal(0, 0.3, m) for m in sizes[1:]]
    return ReferenceNet(weights, biases, activations, **options)


def random_targets(rng, kind, n, n_classes):
    if kind == "labels":
        return rng.integers(0, n_classes, n)
    if kind == "sigmoid_cross_entropy":
        return rng.choice([0.0, 1.0, 0.25], (n, n_classes))
    if kind == "squared_error":
        return rng.normal(size=(n, n_classes))
    return rng.dirichlet(np.ones(n_classes), n)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_every_activation_equal_central_differences(activation, kind):
    rng = np.random.default_rng(1)
    net = random_net(rng, [5, 4, 6, 3], [activation, activation])
    net.loss = kind if kind in LOSSES else "softmax_cross_entropy"
    X, targets = rng.normal(size=(7, 5)), random_targets(rng, kind, 7, 3)
    # A kink within reach of the step would be no error of the gradient.
    assert min(np.abs(z).min() for z in net.forward(X).pre_activations[:-1]) > 1e-3

    gradients = net.gradients(X, targets)

    def difference(parameter, index, h):
        kept = parameter[index]
        losses = []
        for value in (kept - h, kept + h):
            parameter[index] = value
            T = target_rows(targets, 3)
            losses.append(LOSSES[net.loss].function(net.forward(X).logits, T).mean())
        parameter[index] = kept
        return (losses[1] - losses[0]) / (2 * h)

    # (L(w + h) - L(w - h)) / 2h errs by c h^2 + O(h^4), so with h by a third of what it differs from itself
    # with 2h. A loss around 1 is right to a few 2^-53: divided by h that is below 1e-11.
    h, rounding = 1e-4, 1e-11
    for parameter, gradient in zip(net.parameters, [*gradients.weights, *gradients.biases], strict=True):
        for index in np.ndindex(parameter.shape):
            expected = difference(parameter, index, h)
            tolerance = abs(expected - difference(parameter, index, 2 * h)) + rounding
            assert abs(gradient[index] - expected) < tolerance < 1e-6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_derivative_equals_central_differences(activation):
    z = np.linspace(-6, 6, 120)  # an even number of points leaves out 0, where relu has its kink
    f = ACTIVATIONS[activation]
    h = 1e-5
    difference = (f.function(z + h) - f.function(z - h)) / (2 * h)
    # As above: |f'''| <= 2 makes h^2 / 3 = 4e-11; rounding makes 2^-53 * 6 / h = 7e-11.
    np.testing.assert_allclose(f.derivative(z, f.function(z)), difference, rtol=0, atol=2e-10)


def test_activations_at_known_points_have_known_values():
    z = np.array([-1.0, 0.0, 2.0])
    expected = {
        "identity": [-1, 0, 2],
        "relu": [0, 0, 2],
        "leaky_relu": [-0.01, 0, 2],
        "tanh": [-0.7615941559557649, 0, 0.9640275800758169],
        "sigmoid": [0.2689414213699951, 0.5, 0.8807970779778823],
        # z * Phi(z), with Phi(-1) = 0.158655253931457 and Phi(2) = 0.977249868051821 from tables
        "gelu": [-0.158655253931457, 0, 1.954499736103642],
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name].function(z), values, rtol=1e-14, atol=0)


def test_softmax_of_huge_logits_has_no_nan():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_array_equal(softmax(logits), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 2])), [2e4, math.log(3)], rtol=1e-15)


def test_cross_entropy_worked_by_hand_agrees():
    # Logits log(1), log(2), log(5) give probabilities 1/8, 2/8, 5/8.
    logits = np.log([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]])
    np.testing.assert_allclose(cross_entropy(logits, np.array([0, 2])), [math.log(8), math.log(8 / 5)])
    rows = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    by_hand = [0.5 * math.log(8) + 0.5 * math.log(4), 0.25 * math.log(4) + 0.75 * math.log(1.6)]
    np.testing.assert_allclose(cross_entropy(logits, rows), by_hand)


def test_sigmoid_cross_entropy_worked_by_hand_agrees():
    # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2; the mean over the outputs.
    logits, T = np.array([[math.log(3), 0.0]] * 2), np.array([[1.0, 0.0], [0.0, 0.25]])
    by_hand = [(math.log(4 / 3) + math.log(2)) / 2, (math.log(4) + math.log(2)) / 2]
    np.testing.assert_allclose(sigmoid_cross_entropy(logits, T), by_hand, rtol=1e-15)
    huge = np.array([[1e4, -1e4]])
    np.testing.assert_array_equal(sigmoid_cross_entropy(huge, np.array([[1.0, 0.0]])), [0.0])
    np.testing.assert_array_equal(sigmoid_cross_entropy(huge, np.array([[0.0, 1.0]])), [1e4])


def test_squared_error_worked_by_hand_agrees():
    outputs, T = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(squared_error(outputs, T), [(0 + 4) / 2, (9 + 1) / 2])


def test_smoothed_targets_worked_by_hand_agree():
    T = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    expected = [[0.85, 0.05, 0.05, 0.05], [0.45, 0.45, 0.05, 0.05]]
    np.testing.assert_allclose(smoothed(T, 0.2, "softmax_cross_entropy"), expected, rtol=1e-15)
    expected = [[0.9, 0.1, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]]
    np.testing.assert_allclose(smoothed(T, 0.2, "sigmoid_cross_entropy"), expected, rtol=1e-15)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "sigmoid_cross_entropy", "squared_error"])
def test_gradients_with_whole_weights_equal_those_of_repeated_samples(kind):
    rng = np.random.default_rng(6)
    net = random_net(rng, [4, 3, 5], ["tanh"])
    net.loss = kind if kind in LOSSES else "softmax_cross_entropy"
    X, targets, weights = (
        rng.normal(size=(6, 4)),
        random_targets(rng, kind, 6, 5),
        np.array([1, 2, 0, 3, 1, 2]),
    )
    weighted = net.gradients(X, targets, weights=weights)
    repeated = net.gradients(np.repeat(X, weights, axis=0), np.repeat(targets, weights, axis=0))
    assert weighted.mean_loss == pytest.approx(repeated.losses.mean(), rel=1e-14)
    pairs = zip([*weighted.weights, *weighted.biases], [*repeated.weights, *repeated.biases], strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)  # sums of nine terms around 1, in another order


def test_gradients_of_labels_equal_those_of_one_hot_rows():
    rng = np.random.default_rng(2)
    net = random_net(rng, [4, 3, 5], ["tanh"])
    X, labels = rng.normal(size=(6, 4)), rng.integers(0, 5, 6)
    by_label, by_row = net.gradients(X, labels), net.gradients(X, target_rows(labels, 5))
    for a, b in zip([*by_label.weights, *by_label.biases], [*by_row.weights, *by_row.biases], strict=True):
        np.testing.assert_array_equal(a, b)


def test_pixels_mean_their_255th():
    rng = np.random.default_rng(3)
    net = random_net(rng, [9, 4, 3], ["relu"])
    pixels, labels = rng.integers(0, 256, (5, 9), dtype=np.uint8), rng.integers(0, 3, 5)
    from_pixels, from_floats = net.gradients(pixels, labels), net.gradients(pixels / 255, labels)
    for a, b in zip(from_pixels.weights, from_floats.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)  # the same sums, rounded in another order


def test_adam_two_steps_worked_by_hand_agree():
    # alpha = 0.1, beta_1 = 0.5, beta_2 = 0.75, epsilon = 1; theta = 1; gradients 2 and -1.
    # t = 1: m = 0.5 * 2 = 1,           m^ = 1 / 0.5 = 2
    #        v = 0.25 * 4 = 1,          v^ = 1 / 0.25 = 4
    #        theta = 1 - 0.1 * 2 / (2 + 1) = 14/15
    # t = 2: m = 0.5 * 1 - 0.5 = 0,     m^ = 0                     -> theta stays; had the gradient been 1:
    #        m = 0.5 * 1 + 0.5 = 1,     m^ = 1 / 0.75 = 4/3
    #        v = 0.75 * 1 + 0.25 = 1,   v^ = 1 / 0.4375 = 16/7
    #        theta = 14/15 - 0.1 * (4/3) / (4 / sqrt(7) + 1)
    theta = [np.array([1.0, 1.0])]
    adam = ReferenceAdam(beta_1=0.5, beta_2=0.75, epsilon=1.0)
    adam.step(theta, [np.array([2.0, 2.0])], 0.1)
    np.testing.assert_allclose(theta[0], [14 / 15, 14 / 15], rtol=1e-15)
    adam.step(theta, [np.array([-1.0, 1.0])], 0.1)
    np.testing.assert_allclose(theta[0], [14 / 15, 14 / 15 - 0.4 / 3 / (4 / math.sqrt(7) + 1)], rtol=1e-15)


def test_adam_first_step_moves_by_the_learning_rate_against_the_gradients_sign():
    # m^ = g and v^ = g^2: theta moves by alpha g / (|g| + epsilon), whatever the gradient's size.
    theta = [np.zeros(3)]
    ReferenceAdam(epsilon=0.0).step(theta, [np.array([1e-6, -3.0, 1e5])], 0.001)
    np.testing.assert_allclose(theta[0], [-0.001, 0.001, -0.001], rtol=1e-12)


def test_sgd_with_momentum_three_steps_worked_by_hand_agree():
    # momentum = 0.5, learning rate 0.1, w = 1, gradients 1, 2, 0: v = 1, 2.5, 1.25; w = 0.9, 0.65, 0.525.
    w = [np.array([1.0])]
    sgd = ReferenceSGD(momentum=0.5)
    for gradient, expected in [(1.0, 0.9), (2.0, 0.65), (0.0, 0.525)]:
        sgd.step(w, [np.array([gradient])], 0.1)
        np.testing.assert_allclose(w[0], expected, rtol=1e-15)


def test_adam_with_weight_decay_two_steps_worked_by_hand_agree():
    # Both: alpha = 0.1, beta_1 = 0.5, beta_2 = 0.75, epsilon = 1, weight decay 1/2, theta = 2.
    # In the gradient: 1 + 2/2 = 2, so the first step is that of the test above: theta = 2 - 0.1 * 2 / 3 =
    # 29/15. Then 1/30 + 29/30 = 1, and the second one is, too: theta = 29/15 - 0.1 (4/3) / (4 / sqrt(7) + 1).
    theta, adam = [np.array([2.0])], ReferenceAdam(beta_1=0.5, beta_2=0.75, epsilon=1.0, weight_decay=0.5)
    adam.step(theta, [np.array([1.0])], 0.1)
    np.testing.assert_allclose(theta[0], 29 / 15, rtol=1e-15)
    adam.step(theta, [np.array([1 / 30])], 0.1)
    np.testing.assert_allclose(theta[0], 29 / 15 - 0.4 / 3 / (4 / math.sqrt(7) + 1), rtol=1e-15)

    # Decoupled, gradients 2 and 1: the same moves, and before each of them theta loses 0.1 / 2 of itself:
    # theta = 2 - 0.1 * 2 / 3 - 0.1 = 11/6, then 11/6 - (4/30) / (4 / sqrt(7) + 1) - 11/120.
    theta = [np.array([2.0])]
    adam = ReferenceAdam(beta_1=0.5, beta_2=0.75, epsilon=1.0, weight_decay=0.5, decoupled=True)
    adam.step(theta, [np.array([2.0])], 0.1)
    np.testing.assert_allclose(theta[0], 11 / 6, rtol=1e-15)
    adam.step(theta, [np.array([1.0])], 0.1)
    expected = 11 / 6 - 4 / 30 / (4 / math.sqrt(7) + 1) - 11 / 120
    np.testing.assert_allclose(theta[0], expected, rtol=1e-15)


def test_sgd_with_nesterov_momentum_three_steps_worked_by_hand_agree():
    # momentum = 0.5, learning rate 0.1, w = 1, gradients 1, 2, 0: v = 1, 2.5, 1.25 as above; the steps are
    # 1 + 0.5, 2 + 1.25, 0 + 0.625; w = 0.85, 0.525, 0.4625.
    w = [np.array([1.0])]
    sgd = ReferenceSGD(momentum=0.5, nesterov=True)
    for gradient, expected in [(1.0, 0.85), (2.0, 0.525), (0.0, 0.4625)]:
        sgd.step(w, [np.array([gradient])], 0.1)
        np.testing.assert_allclose(w[0], expected, rtol=1e-15)


def test_sgd_with_nesterov_momentum_is_sutskevers_with_the_point_ahead_for_w():
    # Equations 3 and 4 of the paper: v = mu v - rate grad(theta + mu v), theta = theta + v. A quadratic
    # function has the gradient c w.
    mu, rate, c = 0.75, 0.25, np.array([1.0, 0.5, 0.125])
    theta, v = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    w, sgd = [theta.copy()], ReferenceSGD(momentum=mu, nesterov=True)
    for _ in range(20):
        v = mu * v - rate * c * (theta + mu * v)
        theta = theta + v
        sgd.step(w, [c * w[0]], rate)
        np.testing.assert_allclose(w[0], theta + mu * v, rtol=0, atol=20 * 8 * 2.0**-53 * 4)  # sums below 4


def test_sgd_with_weight_decay_two_steps_worked_by_hand_agree():
    # momentum 0.5, learning rate 0.1, weight decay 0.5, w = 2, gradients 1 and 0: g = 2, v = 2, w = 1.8;
    # g = 0.9, v = 1.9, w = 1.61.
    w = [np.array([2.0])]
    sgd = ReferenceSGD(momentum=0.5, weight_decay=0.5)
    for gradient, expected in [(1.0, 1.8), (0.0, 1.61)]:
        sgd.step(w, [np.array([gradient])], 0.1)
        np.testing.assert_allclose(w[0], expected, rtol=1e-15)


def test_training_step_worked_by_hand_agrees():
    # One feature, two classes, weights and biases 0: p = (1/2, 1/2), loss log(2). The sample x = 2 of class 1
    # has dZ = (1/2, -1/2), so dW = (1, -1) and db = (1/2, -1/2); SGD with rate 0.1 subtracts a tenth.
    net = ReferenceNet([np.zeros((1, 2))], [np.zeros(2)], [])
    loss = train_step(net, ReferenceSGD(), np.array([[2.0]]), np.array([1]), 0.1)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    np.testing.assert_allclose(net.weights[0], [[-0.1, 0.1]], rtol=1e-15)
    np.testing.assert_allclose(net.biases[0], [-0.05, 0.05], rtol=1e-15)


def test_rounding_to_bfloat16_of_known_numbers_is_known():
    # bfloat16 has 8 significant bits: next to 1 they are 2^-7 apart, and 1 + 2^-8 lies half way.
    ulp = 2.0**-7
    roundings = {
        1.0: 1.0,
        1 + ulp / 2: 1.0,
        1 + ulp / 2 + 2**-20: 1 + ulp,
        1 + 1.5 * ulp: 1 + 2 * ulp,
        -1 - ulp / 2: -1.0,
        0.0: 0.0,
        255.0: 255.0,
        257.0: 256.0,
        3.4e38: math.inf,
    }
    np.testing.assert_array_equal(round_to_bfloat16(np.array([*roundings])), [*roundings.values()])


def test_rounding_to_bfloat16_leaves_every_pixel_value():
    np.testing.assert_array_equal(round_to_bfloat16(np.arange(256.0)), np.arange(256.0))


@settings(derandomize=True, deadline=None)
@given(st.floats(min_value=-(2.0**127), max_value=2.0**127, width=32))
def test_rounding_to_bfloat16_finds_no_nearer_one(x):
    rounded = round_to_bfloat16(np.array([x]))
    bits = rounded.astype(np.float32).view(np.uint32)
    assert bits[0] & 0xFFFF == 0
    neighbours = (bits + np.array([-0x10000, 0x10000]).astype(np.uint32)).view(np.float32).astype(np.float64)
    distances = np.abs(neighbours[np.isfinite(neighbours)] - x)
    assert abs(rounded[0] - x) <= distances.min()


def test_mixed_precision_of_numbers_that_bfloat16_holds_equals_float64():
    # Small integers are exact in bfloat16, so the forward pass of an identity net rounds nothing.
    rng = np.random.default_rng(4)
    weights = [rng.integers(-2, 3, (6, 4)).astype(np.float32), rng.integers(-2, 3, (4, 3)).astype(np.float32)]
    biases = [np.zeros(4, np.float32), np.ones(3, np.float32)]
    X = rng.integers(-3, 4, (5, 6)).astype(np.float32)
    mixed = ReferenceNet(weights, biases, ["identity"], mixed_bfloat16=True)
    exact = ReferenceNet(weights, biases, ["identity"])
    np.testing.assert_array_equal(mixed.forward(X).logits, exact.forward(X).logits)


def test_mixed_precision_gradients_differ_from_float64_by_bfloat16_roundings():
    rng = np.random.default_rng(5)
    net = random_net(rng, [20, 15, 4], ["tanh"])
    mixed = ReferenceNet(net.weights, net.biases, net.activations, mixed_bfloat16=True)
    X, labels = rng.normal(size=(30, 20)), rng.integers(0, 4, 30)
    for a, b in zip(net.gradients(X, labels).weights, mixed.gradients(X, labels).weights, strict=True):
        difference = np.abs(a - b).max() / np.abs(a).max()
        # Each operand errs by at most 2^-9 relatively; fewer than eight roundings follow one another.
        assert 0 < difference < 8 * 2**-9


def test_mixed_precision_keeps_parameters_and_moments_in_float32():
    net = ReferenceNet([np.ones((2, 2), np.float32)], [np.zeros(2, np.float32)], [], mixed_bfloat16=True)
    adam = ReferenceAdam()
    train_step(net, adam, np.array([[1.0, 2.0]]), np.array([0]), 0.01)
    assert {array.dtype for array in [*net.parameters, *adam.m, *adam.v]} == {np.dtype(np.float32)}
