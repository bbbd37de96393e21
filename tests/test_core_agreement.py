"""The compiled core computes what the float64 oracle computes, on every instruction set of this machine."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_networks import (
    INSTRUCTION_SETS,
    adam_trainer,
    every_instruction_set,
    network_like,
    parameters_of,
    random_inputs,
    random_net,
    random_targets,
    run_batches,
    sgd_trainer,
)
from error_bounds import EPSILON, UNIT_ROUNDOFF, bounds
from fastmlp import _core
from gradient_agreement import assert_gradients_agree, assert_within
from reference import (
    ACTIVATIONS,
    LOSSES,
    ReferenceAdam,
    ReferenceNet,
    ReferenceSGD,
    sigmoid,
    softmax,
    target_rows,
)
from training_twin import train_beside_twin

# Around every tile, vector and panel there is, and some odd ones.
SIZES = (1, 5, 6, 7, 8, 15, 16, 17, 31, 33, 100)
PRECISIONS = {"float32": False, "mixed_bfloat16": True}

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
every_input = pytest.mark.parametrize("dtype", ["uint8", "float32"])


def assert_forward_agrees(net, network, X, targets):
    """Hold forward, softmax and evaluate against the oracle."""
    expected, bound = net.forward(X), bounds(net, X, targets)
    active = []
    for layer in range(net.n_layers):
        actual = network.forward(X, layer + 1, 0)
        assert actual.dtype == np.float32
        assert_within(actual, expected.outputs[layer], bound.outputs[layer])
        active.append((actual != 0).any(axis=0))
    np.testing.assert_array_equal(network.active_units(X, net.n_layers, 0), np.concatenate(active))
    if net.loss == "softmax_cross_entropy":
        assert_within(network.softmax(X, 0), softmax(expected.logits), bound.probabilities)
    if net.loss == "sigmoid_cross_entropy":
        assert_within(network.sigmoid(X, 0), sigmoid(expected.logits), bound.probabilities)

    exact_loss = LOSSES[net.loss].function(expected.logits, target_rows(targets, expected.logits.shape[1]))
    loss, predictions = network.evaluate(X, targets, 0)
    assert abs(loss - exact_loss.sum()) <= bound.losses.sum()
    same_loss, outputs = network.evaluate_outputs(X, targets, 0)
    assert same_loss == loss
    np.testing.assert_array_equal(outputs, network.forward(X, net.n_layers, 0))
    # The predicted class may lose against the oracle's by no more than the errors of both.
    rows = np.arange(len(X))
    chosen, best = expected.logits[rows, predictions], expected.logits.max(axis=1)
    assert (best - chosen <= 2 * bound.pre_activations[-1].max(axis=1)).all()


@every_instruction_set
def test_forward_of_small_integers_at_all_sizes_is_exact(instruction_set):
    # Sums of products of small integers are integers below 2^24: float32 holds them exactly in any order, so
    # that a single element too many or too few shows.
    rng = np.random.default_rng(1)
    for n_features, n_outputs in itertools.product((*SIZES, 255, 256, 257, 515), SIZES):
        weights = [rng.integers(-8, 9, (n_features, n_outputs)).astype(np.float32)]
        net = ReferenceNet(weights, [rng.integers(-8, 9, n_outputs).astype(np.float32)], [])
        network = network_like(net, instruction_set)
        for n in (0, *SIZES):
            X = rng.integers(-8, 9, (n, n_features)).astype(np.float32)
            assert np.array_equal(network.forward(X, 1, 0), net.forward(X).logits), X.shape


@every_instruction_set
def test_forward_of_pixels_at_all_sizes_rounds_thrice(instruction_set):
    # The sums are exact as above. Then 1/255, its product with the sum and the sum with the bias are rounded.
    rng = np.random.default_rng(2)
    for n_features, n_outputs in itertools.product((*SIZES, 255, 256, 257, 515), SIZES):
        weights = [rng.integers(-8, 9, (n_features, n_outputs)).astype(np.float32)]
        net = ReferenceNet(weights, [np.zeros(n_outputs, np.float32)], [])
        network = network_like(net, instruction_set)
        for n in (0, *SIZES):
            X = random_inputs(rng, "uint8", n, n_features)
            expected = net.forward(X).logits
            assert_within(network.forward(X, 1, 0), expected, 3 * UNIT_ROUNDOFF * np.abs(expected))


@every_instruction_set
@every_precision
@every_input
@every_activation
def test_forward_softmax_and_evaluate_agree_with_the_oracle(activation, dtype, precision, instruction_set):
    rng = np.random.default_rng(3)
    for sizes in ([1, 1, 1], [7, 5, 3], [33, 17, 16, 10], [100, 31, 6, 15, 2]):
        net = random_net(rng, sizes, [activation] * (len(sizes) - 2), mixed_bfloat16=PRECISIONS[precision])
        network = network_like(net, instruction_set)
        for n in (0, *SIZES):
            X = random_inputs(rng, dtype, n, sizes[0])
            kind = ("labels", "probabilities")[n % 2]
            assert_forward_agrees(net, network, X, random_targets(rng, kind, n, sizes[-1]))


@every_instruction_set
@every_precision
@every_input
@every_activation
def test_gradients_of_every_layer_agree_with_the_oracle(activation, dtype, precision, instruction_set):
    rng = np.random.default_rng(4)
    mixed = PRECISIONS[precision]
    for sizes in ([1, 1, 1], [7, 5, 3], [33, 17, 16, 10], [100, 31, 6, 15, 2]):
        for n in (1, 7, 16, 33, 100):
            net = random_net(rng, sizes, [activation] * (len(sizes) - 2), mixed_bfloat16=mixed)
            X = random_inputs(rng, dtype, n, sizes[0])
            kind = ("labels", "probabilities")[n % 2]
            assert_gradients_agree(
                net, network_like(net, instruction_set), X, random_targets(rng, kind, n, sizes[-1])
            )


@every_instruction_set
@every_precision
@every_input
@pytest.mark.parametrize("density", ["dense", "sparse", "half"])
def test_gradients_of_dense_and_sparse_rows_agree_with_the_oracle(density, dtype, precision, instruction_set):
    # Rows with few zeros are packed densely, others as lists of their non-zeros; one batch has parts of both.
    rng = np.random.default_rng(20)
    n, sizes = 131, [301, 21, 5]
    X = rng.integers(1, 256, (n, sizes[0])) if dtype == "uint8" else rng.normal(size=(n, sizes[0]))
    n_dense = {"dense": n, "sparse": 0, "half": n // 2}[density]
    X[n_dense:] *= rng.random((n - n_dense, sizes[0])) < 0.1
    X = X.astype(dtype)
    labels = rng.integers(0, sizes[-1], n)
    for threads in (1, 3):
        net = random_net(rng, sizes, ["tanh"], mixed_bfloat16=PRECISIONS[precision])
        network = network_like(net, instruction_set)
        assert_forward_agrees(net, network, X, labels)
        assert_gradients_agree(net, network, X, labels, threads=threads)


@every_instruction_set
@every_precision
@every_input
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_losses_of_independent_outputs_and_their_gradients_agree_with_the_oracle(
    loss, dtype, precision, instruction_set
):
    rng = np.random.default_rng(19)
    for sizes in ([1, 1], [7, 5, 3], [33, 17, 16], [100, 31, 6, 17]):
        for n in (1, 7, 33, 100):
            activations = ["tanh"] * (len(sizes) - 2)
            net = random_net(rng, sizes, activations, mixed_bfloat16=PRECISIONS[precision], loss=loss)
            X, targets = random_inputs(rng, dtype, n, sizes[0]), random_targets(rng, loss, n, sizes[-1])
            network = network_like(net, instruction_set)
            assert_forward_agrees(net, network, X, targets)
            assert_gradients_agree(net, network, X, targets)


KINDS_OF_TARGETS = {  # and their loss
    "labels": "softmax_cross_entropy",
    "probabilities": "softmax_cross_entropy",
    "sigmoid_cross_entropy": "sigmoid_cross_entropy",
    "squared_error": "squared_error",
}


@every_instruction_set
@every_precision
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("kind", KINDS_OF_TARGETS)
def test_gradients_of_weighted_samples_and_smoothed_labels_agree_with_the_oracle(
    kind, label_smoothing, weighted, precision, instruction_set
):
    if label_smoothing and kind == "squared_error":
        label_smoothing = 0.0  # it has no labels
    rng = np.random.default_rng(20)
    for sizes in ([1, 1], [7, 5, 3], [33, 17, 16], [100, 31, 6, 17]):
        for n in (1, 7, 33, 100):
            activations = ["gelu"] * (len(sizes) - 2)
            mixed, loss = PRECISIONS[precision], KINDS_OF_TARGETS[kind]
            net = random_net(rng, sizes, activations, mixed_bfloat16=mixed, loss=loss)
            X, targets = random_inputs(rng, "float32", n, sizes[0]), random_targets(rng, kind, n, sizes[-1])
            weights = (
                (rng.random(n) * rng.choice([0, 1, 1, 1e-3], n)).astype(np.float32) if weighted else None
            )
            if weighted:
                weights[0] = 0.5  # one at least is not 0
            network = network_like(net, instruction_set)
            how = {"weights": weights, "label_smoothing": label_smoothing}
            assert_gradients_agree(net, network, X, targets, **how)

            network = network_like(net, instruction_set)
            expected = net.gradients(X, targets, weights=weights)
            total = n if weights is None else weights.sum(dtype=np.float64)
            bound = bounds(net, X, targets, weights=weights).mean_loss
            for evaluate in (network.evaluate, network.evaluate_outputs):
                loss_sum, _ = evaluate(X, targets, 0, weights)
                assert abs(loss_sum / total - expected.mean_loss) <= bound


@every_instruction_set
@pytest.mark.parametrize("kind", KINDS_OF_TARGETS)
def test_batch_whose_weights_are_all_zero_has_loss_and_gradient_zero(kind, instruction_set):
    rng = np.random.default_rng(21)
    net = random_net(rng, [6, 5, 4], ["relu"], loss=KINDS_OF_TARGETS[kind])
    X, targets = random_inputs(rng, "float32", 10, 6), random_targets(rng, kind, 10, 4)
    network = network_like(net, instruction_set)
    weights = np.where(np.arange(10) < 5, 0, 1).astype(np.float32)
    result = run_batches(sgd_trainer(network), X, targets, [np.arange(5)], 1.0, weights=weights)
    assert result.stopped == ""
    np.testing.assert_array_equal(result.losses, [0.0])
    for before, after in zip(net.parameters, parameters_of(network, 2), strict=True):
        np.testing.assert_array_equal(after, before)


@every_instruction_set
@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data())
def test_gradients_of_any_net_agree_with_the_oracle(instruction_set, data):
    size = st.sampled_from(SIZES) | st.integers(1, 70)
    sizes = data.draw(st.lists(size, min_size=2, max_size=5))
    names = st.sampled_from(sorted(ACTIVATIONS))
    activations = data.draw(st.lists(names, min_size=len(sizes) - 2, max_size=len(sizes) - 2))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    net = random_net(rng, sizes, activations, mixed_bfloat16=data.draw(st.booleans()))
    n = data.draw(size)
    X = random_inputs(rng, data.draw(st.sampled_from(["uint8", "float32"])), n, sizes[0])
    targets = random_targets(rng, data.draw(st.sampled_from(["labels", "probabilities"])), n, sizes[-1])
    threads = data.draw(st.none() | st.integers(1, 5))
    network = network_like(net, instruction_set)
    assert_forward_agrees(net, network, X, targets)
    assert_gradients_agree(net, network, X, targets, threads=threads)


@every_instruction_set
@every_precision
def test_batch_of_rows_in_any_order_trains_on_those_rows(precision, instruction_set):
    # The batch is picked from X by number: repeated, unordered, not all.
    rng = np.random.default_rng(5)
    net = random_net(rng, [20, 9, 4], ["tanh"], mixed_bfloat16=PRECISIONS[precision])
    X, labels = random_inputs(rng, "float32", 50, 20), rng.integers(0, 4, 50)
    batch = np.array([49, 0, 3, 3, 17, 48, 1])
    by_number, copied = network_like(net, instruction_set), network_like(net, instruction_set)
    run_batches(sgd_trainer(by_number), X, labels, [batch], 1.0)
    run_batches(sgd_trainer(copied), X[batch], labels[batch], [np.arange(7)], 1.0)
    for a, b in zip(parameters_of(by_number, 2), parameters_of(copied, 2), strict=True):
        np.testing.assert_array_equal(a, b)


@every_instruction_set
@every_precision
@every_input
def test_softmax_of_few_has_the_bits_of_softmax(dtype, precision, instruction_set):
    # Two nets in turn, and other numbers of samples: the memory that a thread keeps must not be mistaken.
    rng = np.random.default_rng(21)
    networks = []
    for sizes in ([40, 9, 4], [40, 70, 33, 5]):
        net = random_net(rng, sizes, ["relu"] * (len(sizes) - 2), mixed_bfloat16=PRECISIONS[precision])
        networks.append(network_like(net, instruction_set))
    for n in (1, 2, 8, 1, 3):
        X = random_inputs(rng, dtype, n, 40)
        for network in networks:
            for shape in ((n, 40), (n, 5, 8)):
                at_once = network.softmax_of_few(X.reshape(shape))
                assert at_once.tobytes() == network.softmax(X, 1).tobytes()


def test_softmax_of_few_leaves_what_it_cannot_use_in_place_to_softmax():
    network = _core.Network([6, 3], [])
    X = np.ones((2, 6), np.float32)
    spoilt = X.copy()
    spoilt[1, 5] = np.nan
    assert network.softmax_of_few(X) is not None
    for other in (
        X.tolist(),
        X[0],
        X[:, :5].copy(),
        X[:0],
        np.ones((1000, 6), np.float32),
        X.astype(np.float64),
        X.astype(">f4"),
        X.astype(np.int8),
        np.asfortranarray(X),
        X[:, ::-1],
        X.view(np.recarray),
        spoilt,
        None,
    ):
        assert network.softmax_of_few(other) is None


OPTIMIZERS = {
    "adam": (ReferenceAdam, adam_trainer, 1e-3),
    "sgd": (ReferenceSGD, sgd_trainer, 0.1),
    "momentum": (lambda: ReferenceSGD(momentum=0.9), lambda network: sgd_trainer(network, 0.9), 0.02),
    "nesterov": (
        lambda: ReferenceSGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda network: sgd_trainer(network, 0.9, nesterov=True, weight_decay=0.01),
        0.02,
    ),
    "adam_decay": (
        lambda: ReferenceAdam(weight_decay=0.01),
        lambda network: adam_trainer(network, weight_decay=0.01),
        1e-3,
    ),
    "adamw": (
        lambda: ReferenceAdam(weight_decay=0.1, decoupled=True),
        lambda network: adam_trainer(network, weight_decay=0.1, decoupled=True),
        1e-3,
    ),
}


@functools.cache
def oracle_run(optimizer, activation, mixed):
    """Start, data, batches and run of the oracle, which all instruction sets are compared with."""
    rng = np.random.default_rng(6)
    start = random_net(rng, [24, 19, 11, 5], [activation] * 2, mixed_bfloat16=mixed)
    X = (rng.integers(0, 256, (200, 24)) * rng.integers(0, 2, (200, 24))).astype(np.uint8)
    labels = rng.integers(0, 5, 200)
    batches = [rng.permutation(200)[:33] for _ in range(100)]
    make_optimizer, _, rate = OPTIMIZERS[optimizer]
    run = train_beside_twin(start, make_optimizer, X, labels, batches=batches, rate=rate)
    return start, X, labels, batches, run


@every_instruction_set
@every_precision
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_of_100_steps_follows_the_oracle(optimizer, activation, precision, instruction_set):
    mixed = PRECISIONS[precision]
    start, X, labels, batches, oracle = oracle_run(optimizer, activation, mixed)
    _, make_trainer, rate = OPTIMIZERS[optimizer]
    network = network_like(start, instruction_set)

    result = run_batches(make_trainer(network), X, labels, batches, rate)

    assert_run_agrees(network, result, oracle)
    # The tolerance is a small part of the way that training went: a run that went elsewhere would show.
    ways = [np.abs(a - b).max() for a, b in zip(oracle.parameters, start.parameters, strict=True)]
    assert oracle.tolerance < (0.1 if mixed else 0.01) * max(ways)


def assert_run_agrees(network, result, oracle):
    assert_within(result.losses, oracle.losses, np.full(oracle.losses.shape, oracle.loss_tolerance))
    actual = parameters_of(network, len(oracle.parameters) // 2)
    for mine, expected in zip(actual, oracle.parameters, strict=True):
        assert_within(mine, expected, np.full(expected.shape, oracle.tolerance))


# Sizes at the edge of what there is.


@every_instruction_set
@every_precision
def test_training_of_one_sample_and_one_class_agrees_with_the_oracle(precision, instruction_set):
    rng = np.random.default_rng(7)
    mixed = PRECISIONS[precision]
    for sizes, n in (([9, 4, 1], 1), ([9, 4, 1], 20), ([9, 4, 3], 1), ([1, 1], 1)):
        net = random_net(rng, sizes, ["relu"] * (len(sizes) - 2), mixed_bfloat16=mixed)
        X, labels = random_inputs(rng, "float32", n, sizes[0]), rng.integers(0, sizes[-1], n)
        assert_forward_agrees(net, network_like(net, instruction_set), X, labels)
        assert_gradients_agree(net, network_like(net, instruction_set), X, labels)


@every_instruction_set
def test_training_with_one_class_never_moves_a_parameter(instruction_set):
    # Its probability is always 1, its loss 0.
    rng = np.random.default_rng(8)
    net = random_net(rng, [9, 4, 1], ["tanh"])
    network = network_like(net, instruction_set)
    X = random_inputs(rng, "float32", 20, 9)
    result = run_batches(adam_trainer(network), X, np.zeros(20, np.int64), [np.arange(20)] * 3, 0.1)
    np.testing.assert_array_equal(result.losses, np.zeros(3))
    for actual, expected in zip(parameters_of(network, 2), net.parameters, strict=True):
        np.testing.assert_array_equal(actual, expected)


@every_instruction_set
def test_training_in_batches_of_unequal_size_averages_over_each(instruction_set):
    # 33 rows in batches of 16, as at the end of an epoch: the last one holds a single row.
    rng = np.random.default_rng(9)
    start = random_net(rng, [12, 7, 3], ["gelu"])
    X, labels = random_inputs(rng, "float32", 33, 12), rng.integers(0, 3, 33)
    batches = np.split(np.arange(33), [16, 32])
    network = network_like(start, instruction_set)
    oracle = train_beside_twin(start, ReferenceSGD, X, labels, batches=batches, rate=0.1)
    assert_run_agrees(network, run_batches(sgd_trainer(network), X, labels, batches, 0.1), oracle)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_training_on_a_million_features_is_exact(dtype):
    # All weights are zero, so with two classes and two samples dZ is -1/4 or 1/4, and the gradient a
    # quarter of differences of small integers: no sum is rounded. Pixels carry a 1/255 that is rounded, and
    # multiplied.
    n_features = 1_000_000
    rng = np.random.default_rng(10)
    X = rng.integers(0, 5, (2, n_features)).astype(dtype)
    network = _core.Network([n_features, 2], [])

    result = run_batches(sgd_trainer(network), X, np.array([0, 1]), [np.arange(2)], 4.0)

    expected = X[0].astype(np.float32) - X[1]
    scale = np.float32(1 / 255) if dtype == "uint8" else np.float32(1)
    np.testing.assert_allclose(result.losses, np.log(2), rtol=EPSILON)
    np.testing.assert_array_equal(network.weights(0), scale * np.stack([expected, -expected], axis=1))

    # Forward, small integers again: sums stay below 2^24, but are long enough to show a block left out.
    network.set_parameters(
        [rng.integers(-1, 2, (n_features, 2)).astype(np.float32)], [np.zeros(2, np.float32)]
    )
    exact = X.astype(np.float64) @ network.weights(0).astype(np.float64)
    np.testing.assert_allclose(network.forward(X, 1, 0), float(scale) * exact, rtol=EPSILON)


@every_instruction_set
@every_precision
def test_logits_of_ten_thousand_give_no_nan(precision, instruction_set):
    net = ReferenceNet([np.eye(3, dtype=np.float32)], [np.zeros(3, np.float32)], [], PRECISIONS[precision])
    network = network_like(net, instruction_set)
    X = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], np.float32)
    labels = np.array([1, 2, 0])
    assert_forward_agrees(net, network, X, labels)
    assert_gradients_agree(net, network, X, labels)
    assert np.isfinite(parameters_of(network, 1)[0]).all()


@every_instruction_set
def test_predicted_class_of_equal_logits_is_the_first(instruction_set):
    network = network_like(
        ReferenceNet([np.zeros((3, 40), np.float32)], [np.zeros(40, np.float32)], []), instruction_set
    )
    assert network.evaluate(np.ones((2, 3), np.float32), np.array([0, 39]), 0)[1].tolist() == [0, 0]


# What is not finite.


@every_instruction_set
@every_precision
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_input_that_is_not_finite_is_reported_with_its_row(bad, precision, instruction_set):
    rng = np.random.default_rng(11)
    for n_features, column in itertools.product((1, 15, 16, 17, 300), (0, -1)):
        net = random_net(rng, [n_features, 4, 3], ["relu"], mixed_bfloat16=PRECISIONS[precision])
        network = network_like(net, instruction_set)
        X, labels = random_inputs(rng, "float32", 40, n_features), rng.integers(0, 3, 40)
        X[23, column] = X[31, 0] = bad
        for method, arguments in (("forward", (1, 0)), ("softmax", (0,)), ("evaluate", (labels, 0))):
            with pytest.raises(_core.NonFiniteInput) as raised:
                getattr(network, method)(X, *arguments)
            assert raised.value.args == (23,)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_training_stops_before_the_step_whose_input_is_not_finite(bad, precision, instruction_set):
    rng = np.random.default_rng(12)
    net = random_net(rng, [20, 4, 3], ["relu"], mixed_bfloat16=PRECISIONS[precision])
    X, labels = random_inputs(rng, "float32", 40, 20), rng.integers(0, 3, 40)
    batches = np.split(rng.permutation(40), 4)
    stopped, expected = network_like(net, instruction_set), network_like(net, instruction_set)
    run_batches(adam_trainer(expected), X, labels, batches[:2], 0.01)
    X[batches[2][5], 19] = X[batches[2][7], 0] = bad

    result = run_batches(adam_trainer(stopped), X, labels, batches, 0.01)

    assert result.stopped == "input"
    assert result.bad_sample == batches[2][5]
    assert len(result.losses) == 2
    for a, b in zip(parameters_of(stopped, 2), parameters_of(expected, 2), strict=True):
        np.testing.assert_array_equal(a, b)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_training_stops_before_the_step_whose_loss_is_not_finite(kind, precision, instruction_set):
    # The third step's rate carries the logits beyond float32, so that the fourth step has no finite loss.
    rng = np.random.default_rng(13)
    net = random_net(rng, [20, 4, 3], ["identity"], mixed_bfloat16=PRECISIONS[precision])
    X, targets = random_inputs(rng, "float32", 40, 20), random_targets(rng, kind, 40, 3)
    batches = np.split(rng.permutation(40), 8)
    rates = [0.1, 0.1, 1e25, 0.1, 0.1, 0.1, 0.1, 0.1]
    stopped, expected = network_like(net, instruction_set), network_like(net, instruction_set)
    run_batches(sgd_trainer(expected), X, targets, batches[:3], rates[:3])

    result = run_batches(sgd_trainer(stopped), X, targets, batches, rates)

    assert result.stopped == "loss"
    assert result.bad_sample == -1
    assert len(result.losses) == 3
    assert np.isfinite(result.losses).all()
    for a, b in zip(parameters_of(stopped, 2), parameters_of(expected, 2), strict=True):
        np.testing.assert_array_equal(a, b)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("in_one_call", [True, False])
def test_training_stops_after_the_step_that_makes_a_weight_infinite(in_one_call, precision, instruction_set):
    # Nothing but the weight would tell: tanh makes -1 or 1 of it, and the loss is finite. A feature of 100
    # makes its gradient that much larger than the others, which do not overflow.
    weights = [np.full((1, 1), 1e-3, np.float32), np.array([[10, -10]], np.float32)]
    biases = [np.zeros(1, np.float32), np.zeros(2, np.float32)]
    network = network_like(ReferenceNet(weights, biases, ["tanh"], PRECISIONS[precision]), instruction_set)
    trainer = sgd_trainer(network)
    finite = trainer.snapshot()
    X, labels, batch = np.full((1, 1), 100, np.float32), np.array([1]), np.zeros(1, np.int64)
    if in_one_call:
        result = run_batches(trainer, X, labels, [batch] * 3, [1e37, 0.1, 0.1])
        assert len(result.losses) == 1
    else:
        assert run_batches(trainer, X, labels, [batch], 1e37).stopped == ""
        result = run_batches(trainer, X, labels, [batch] * 2, 0.1)
        assert len(result.losses) == 0
    assert result.stopped == "loss"
    assert np.isinf(network.weights(0)).all()

    trainer.restore(finite)
    assert run_batches(trainer, X, labels, [batch], 0.1).stopped == ""


@every_instruction_set
def test_callers_denormals_survive_every_call(instruction_set):
    # The core flushes denormals in its own loops only.
    rng = np.random.default_rng(19)
    net = random_net(rng, [20, 9, 3], ["tanh"])
    X, labels = random_inputs(rng, "float32", 40, 20), rng.integers(0, 3, 40)
    network, denormal = network_like(net, instruction_set), np.array([1e-40], np.float32)
    calls = {
        "forward": lambda: network.forward(X, 2, 1),
        "active_units": lambda: network.active_units(X, 1, 1),
        "softmax": lambda: network.softmax(X, 1),
        "evaluate": lambda: network.evaluate(X, labels, 1),
        "set_parameters": lambda: network.set_parameters(net.weights, net.biases),
        "run": lambda: run_batches(adam_trainer(network), X, labels, [np.arange(40)], 0.01, threads=2),
    }
    for name, call in calls.items():
        call()
        assert (denormal * np.float32(0.5) > 0).all(), name


# What is out of range.


def untouched(network, n_layers, call):
    """Assert that call raises ValueError and changes no parameter."""
    before = parameters_of(network, n_layers)
    with pytest.raises(ValueError):
        call()
    for a, b in zip(before, parameters_of(network, n_layers), strict=True):
        np.testing.assert_array_equal(a, b)


GOOD_RUN = {
    "X": np.ones((6, 4), np.float32),
    "targets": np.array([0, 1, 2, 0, 1, 2]),
    "order": np.arange(6),
    "offsets": np.array([0, 3, 6]),
    "learning_rates": np.array([0.1, 0.1]),
    "threads": 1,
    "threads_are_required": True,
}
BAD_ARGUMENTS = {
    "order_too_large": {"order": np.array([0, 1, 2, 3, 4, 6])},
    "order_negative": {"order": np.array([0, 1, 2, 3, 4, -1])},
    "order_huge": {"order": np.array([0, 1, 2, 3, 4, 2**62])},
    "order_longer_than_offsets": {"order": np.zeros(7, np.int64)},
    "order_of_another_type": {"order": np.arange(6, dtype=np.int32)},
    "order_with_a_stride": {"order": np.arange(12)[::2]},
    "target_too_large": {"targets": np.array([0, 1, 2, 0, 1, 3])},
    "target_negative": {"targets": np.array([-1, 1, 2, 0, 1, 2])},
    "targets_too_few": {"targets": np.zeros(5, np.int64)},
    "targets_of_too_many_classes": {"targets": np.ones((6, 4), np.float32)},
    "targets_of_another_type": {"targets": np.zeros((6, 3))},
    "offsets_falling": {"offsets": np.array([0, 4, 3])},
    "offsets_of_an_empty_batch": {"offsets": np.array([0, 6, 6])},
    "offsets_not_from_0": {"offsets": np.array([1, 3, 6])},
    "offsets_negative": {"offsets": np.array([-3, 3, 6])},
    "offsets_beyond_order": {"offsets": np.array([0, 3, 7])},
    "offsets_short_of_order": {"offsets": np.array([0, 3, 5])},
    "offsets_too_few": {"offsets": np.array([0, 6])},
    "offsets_none": {"offsets": np.zeros(0, np.int64), "learning_rates": np.zeros(0)},
    "learning_rates_of_another_type": {"learning_rates": np.array([0.1, 0.1], np.float32)},
    "X_of_another_width": {"X": np.ones((6, 5), np.float32)},
    "X_of_another_type": {"X": np.ones((6, 4))},
    "X_of_big_endian_numbers": {"X": np.ones((6, 4), ">f4")},
    "X_with_three_dimensions": {"X": np.ones((6, 4, 1), np.float32)},
    "X_transposed": {"X": np.ones((4, 6), np.float32).T},
    "X_reversed": {"X": np.ones((6, 4), np.float32)[::-1]},
    "threads_negative": {"threads": -1},
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_training_with_a_bad_argument_raises_and_changes_nothing(case):
    network = network_like(random_net(np.random.default_rng(15), [4, 5, 3], ["relu"]), INSTRUCTION_SETS[-1])
    trainer = adam_trainer(network)
    untouched(network, 2, lambda: trainer.run(**(GOOD_RUN | BAD_ARGUMENTS[case])))
    # Nor does a later step see that anything happened.
    assert len(trainer.run(**GOOD_RUN).losses) == 2
    fresh = network_like(random_net(np.random.default_rng(15), [4, 5, 3], ["relu"]), INSTRUCTION_SETS[-1])
    adam_trainer(fresh).run(**GOOD_RUN)
    for a, b in zip(parameters_of(network, 2), parameters_of(fresh, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_on_an_unaligned_array_raises_or_agrees():
    # Python can build a float32 array on an odd address; reading it as it is would be undefined behaviour.
    raw = np.zeros(6 * 4 * 4 + 1, np.uint8)
    X = raw[1:].view(np.float32).reshape(6, 4)
    assert not X.flags.aligned
    network = network_like(random_net(np.random.default_rng(15), [4, 5, 3], ["relu"]), INSTRUCTION_SETS[-1])
    untouched(network, 2, lambda: adam_trainer(network).run(**(GOOD_RUN | {"X": X})))


@pytest.mark.parametrize(
    "shapes",
    [
        ([(4, 5)], [(5,)]),
        ([(5, 4), (5, 3)], [(5,), (3,)]),
        ([(4, 5), (5, 3)], [(5,), (4,)]),
        ([(4, 5), (5, 3)], [(5,), (3, 1)]),
        ([(4, 5), (5, 3), (3, 3)], [(5,), (3,), (3,)]),
    ],
)
def test_parameters_of_wrong_shape_raise_and_change_nothing(shapes):
    network = network_like(random_net(np.random.default_rng(16), [4, 5, 3], ["relu"]), INSTRUCTION_SETS[-1])
    weights, biases = ([np.ones(shape, np.float32) for shape in group] for group in shapes)
    untouched(network, 2, lambda: network.set_parameters(weights, biases))


@every_instruction_set
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_raise_and_change_nothing(bad, instruction_set):
    net = random_net(np.random.default_rng(14), [20, 4, 3], ["tanh"])
    network = network_like(net, instruction_set)
    for parameter in net.parameters:
        kept = parameter.flat[-1]
        parameter.flat[-1] = bad
        untouched(network, 2, lambda: network.set_parameters(net.weights, net.biases))
        parameter.flat[-1] = kept


@pytest.mark.parametrize(
    ("sizes", "activations"),
    [
        ([], []),
        ([4], []),
        ([4, 0], []),
        ([0, 4], []),
        ([4, 3], ["relu"]),
        ([4, 5, 3], []),
        ([4, 5, 3], ["swish"]),
    ],
)
def test_network_of_impossible_shape_raises(sizes, activations):
    with pytest.raises(ValueError):
        _core.Network(sizes, activations)


def test_network_too_large_for_memory_raises_memory_error():
    with pytest.raises(MemoryError):
        _core.Network([2**62, 2**62], [])


def test_network_on_an_instruction_set_that_is_not_there_raises():
    missing = set(_core.compiled_instruction_sets()) - set(INSTRUCTION_SETS)
    for name in (*missing, "mmx"):
        with pytest.raises(RuntimeError, match=name):
            _core.Network([4, 3], [], instruction_set=name)


# State.


@pytest.mark.parametrize("make_trainer", [adam_trainer, lambda network: sgd_trainer(network, 0.9)])
@every_precision
def test_state_restored_trains_on_as_if_nothing_had_happened(precision, make_trainer):
    rng = np.random.default_rng(17)
    net = random_net(rng, [9, 6, 3], ["relu"], mixed_bfloat16=PRECISIONS[precision])
    X, labels = random_inputs(rng, "float32", 30, 9), rng.integers(0, 3, 30)
    batches = np.split(rng.permutation(30), 6)
    network, straight = network_like(net, INSTRUCTION_SETS[-1]), network_like(net, INSTRUCTION_SETS[-1])
    run_batches(make_trainer(straight), X, labels, batches, 0.01)

    trainer = make_trainer(network)
    run_batches(trainer, X, labels, batches[:2], 0.01)
    state = trainer.snapshot()
    run_batches(trainer, X, labels, batches[::-1], 0.3)
    trainer.restore(state)
    run_batches(trainer, X, labels, batches[2:], 0.01)

    for a, b in zip(parameters_of(network, 2), parameters_of(straight, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_optimizer_set_again_keeps_its_moments_and_another_kind_starts_anew():
    rng = np.random.default_rng(18)
    net = random_net(rng, [9, 6, 3], ["relu"])
    X, labels, batch = random_inputs(rng, "float32", 30, 9), rng.integers(0, 3, 30), [np.arange(30)]

    def weights_after(*trainings):
        network = network_like(net, INSTRUCTION_SETS[-1])
        trainer = _core.Trainer(network)
        for set_optimizer in trainings:
            set_optimizer(trainer)
            run_batches(trainer, X, labels, batch, 0.01)
        return network.weights(0)

    def adam(trainer):
        trainer.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)

    def sgd(trainer):
        trainer.set_sgd(momentum=0.9)

    def keep(trainer):
        pass

    np.testing.assert_array_equal(weights_after(adam, adam, adam), weights_after(adam, keep, keep))
    np.testing.assert_array_equal(weights_after(sgd, sgd, sgd), weights_after(sgd, keep, keep))

    network = network_like(net, INSTRUCTION_SETS[-1])
    trainer = _core.Trainer(network)
    for set_optimizer in (adam, sgd):
        set_optimizer(trainer)
        run_batches(trainer, X, labels, batch, 0.01)
    fresh = network_like(net, INSTRUCTION_SETS[-1])
    for set_optimizer in (adam, sgd):
        trainer = _core.Trainer(fresh)
        set_optimizer(trainer)
        run_batches(trainer, X, labels, batch, 0.01)
    np.testing.assert_array_equal(network.weights(0), fresh.weights(0))


@pytest.mark.parametrize("make_trainer", [adam_trainer, lambda network: sgd_trainer(network, 0.9)])
@every_precision
def test_state_carried_over_as_arrays_trains_on_in_another_net(precision, make_trainer):
    rng = np.random.default_rng(19)
    net = random_net(rng, [21, 18, 3], ["relu"], mixed_bfloat16=PRECISIONS[precision])
    X, labels = random_inputs(rng, "float32", 30, 21), rng.integers(0, 3, 30)
    batches = np.split(rng.permutation(30), 6)
    straight = network_like(net, INSTRUCTION_SETS[-1])
    trainer = make_trainer(straight)
    run_batches(trainer, X, labels, batches[:3], 0.01)
    state = trainer.snapshot()
    run_batches(trainer, X, labels, batches[3:], 0.01)

    other = network_like(
        random_net(rng, [21, 18, 3], ["relu"], mixed_bfloat16=PRECISIONS[precision]), INSTRUCTION_SETS[-1]
    )
    trainer = make_trainer(other)
    trainer.restore(trainer.state_of(state.arrays, state.beta_powers))
    run_batches(trainer, X, labels, batches[3:], 0.01)
    for a, b in zip(parameters_of(other, 2), parameters_of(straight, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_of_arrays_has_the_same_bits_whatever_they_are():
    rng = np.random.default_rng(20)
    network = network_like(random_net(rng, [9, 6, 3], ["relu"]), INSTRUCTION_SETS[-1])
    trainer = adam_trainer(network)
    arrays = trainer.snapshot().arrays
    for parts in arrays.values():
        for part in parts:
            bits = rng.integers(
                0, 2**32, part.shape, dtype=np.uint32
            )  # denormals, infinities, NaNs of all kinds
            part[...] = bits.view(np.float32)
    powers = float.fromhex("0x1.23456789abcdep-7"), 5e-324
    state = trainer.state_of(arrays, powers)
    assert state.beta_powers == powers
    for name, parts in state.arrays.items():
        for part, original in zip(parts, arrays[name], strict=True):
            np.testing.assert_array_equal(part.view(np.uint32), original.view(np.uint32))
    trainer.restore(state)
    assert not network.is_finite


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("second_moment"),
        lambda arrays: arrays.update(third_moment=arrays["second_moment"]),
        lambda arrays: arrays.update(third_moment=arrays.pop("second_moment")),
        lambda arrays: arrays["parameters"].pop(),
        lambda arrays: arrays["parameters"].append(np.zeros(3, np.float32)),
        lambda arrays: arrays["first_moment"].reverse(),
        lambda arrays: arrays["first_moment"].__setitem__(0, np.zeros((6, 9), np.float32)),
        lambda arrays: arrays["first_moment"].__setitem__(1, np.zeros(7, np.float32)),
        lambda arrays: arrays["first_moment"].__setitem__(0, np.zeros((9, 6))),
        lambda arrays: arrays["first_moment"].__setitem__(0, np.zeros((6, 9), np.float32).T),
    ],
)
def test_state_of_arrays_that_do_not_fit_is_an_error(damage):
    network = network_like(random_net(np.random.default_rng(21), [9, 6, 3], ["relu"]), INSTRUCTION_SETS[-1])
    trainer = adam_trainer(network)
    arrays = trainer.snapshot().arrays
    damage(arrays)
    with pytest.raises(ValueError):
        trainer.state_of(arrays, (1.0, 1.0))
