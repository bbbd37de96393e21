"""Dropout: masks, gradients, and that bits depend on nothing but seed, epoch and place in it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core_networks import (
    FUSED_SETS,
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
from dropout_reference import dropped_inputs, kept_columns, threshold
from fastmlp import SGD, Augmentation, Callback, Net, NonFiniteInputError, _core
from gradient_agreement import assert_gradients_agree
from reference import ACTIVATIONS, LOSSES, ReferenceNet, cross_entropy

SEED = 2**63 + 12345


def dropping_trainer(network: _core.Network, rates: list[float], seed: int = SEED) -> _core.Trainer:
    trainer = sgd_trainer(network)
    trainer.set_dropout(seed, rates)
    return trainer


@every_instruction_set
def test_step_with_dropout_by_hand(instruction_set):
    # Two inputs, two identity units, one output, squared error; rate 1/2, so that what is kept is doubled.
    # Of row 0, seed 14 keeps input 0 alone, and unit 1 alone.
    assert kept_columns(14, 0, 0, np.arange(1), 2, 0.5).tolist() == [[True, False]]
    assert kept_columns(14, 1, 0, np.arange(1), 2, 0.5).tolist() == [[False, True]]
    net = ReferenceNet(
        [np.float32([[1, 2], [3, 4]]), np.float32([[5], [6]])],
        [np.float32([0, 1]), np.float32([7])],
        ["identity"],
        loss="squared_error",
    )
    network = network_like(net, instruction_set)
    trainer = dropping_trainer(network, [0.5, 0.5], seed=14)
    X, target = np.float32([[3, 100]]), np.float32([[160]])

    result = run_batches(trainer, X, target, [np.arange(1)], 2.0**-10)

    # x~ = (6, 0); a = (6, 13), a~ = (0, 26); y = 6 * 26 + 7 = 163; the loss is 3^2, d loss / d y = 6.
    # d/da~_1 = 36 and d/da_1 = 72, all else is 0: d/dw = x~ * 72 = 432.
    assert result.losses.tolist() == [9.0]
    w_0, w_1, b_0, b_1 = parameters_of(network, 2)
    rate = 2.0**-10
    assert w_0.tolist() == [[1, 2 - 432 * rate], [3, 4]]
    assert b_0.tolist() == [0, 1 - 72 * rate]
    assert w_1.tolist() == [[5], [6 - 6 * 26 * rate]]
    assert b_1.tolist() == [7 - 6 * rate]


@every_instruction_set
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_with_dropout_agree_with_the_oracle(activation, dtype, precision, instruction_set):
    rng = np.random.default_rng(1)
    # Columns up to, at and beyond the 128 that share their counters; rows beyond what is packed at a time.
    for sizes, n in (([5, 3, 2], 1), ([150, 128, 140, 5], 23), ([33, 17, 129, 3], 40)):
        rates = [0.2, 0.5, 0.3][: len(sizes) - 1]
        activations = [activation] * (len(sizes) - 2)
        net = random_net(rng, sizes, activations, mixed_bfloat16=precision == "mixed_bfloat16")
        X, labels = random_inputs(rng, dtype, n, sizes[0]), random_targets(rng, "labels", n, sizes[-1])
        network = network_like(net, instruction_set)
        dropped = dropped_inputs(SEED, rates, sizes, np.arange(n))
        trainer = dropping_trainer(network, rates)
        assert_gradients_agree(net, network, X, labels, trainer=trainer, dropped=dropped)


@every_instruction_set
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("density", [0.1, 0.9])
def test_gradients_with_dropout_of_sparse_and_dense_rows_agree_with_the_oracle(
    density, threads, instruction_set
):
    rng = np.random.default_rng(2)
    sizes, n, rates = [300, 200, 10], 90, [0.2, 0.5]
    net = random_net(rng, sizes, ["relu"])
    X = rng.integers(1, 256, (n, 300)) * (rng.random((n, 300)) < density)
    labels = random_targets(rng, "labels", n, 10)
    for kind in (np.uint8, np.float32):
        network = network_like(net, instruction_set)
        inputs = X.astype(kind) if kind is np.uint8 else (X / 255).astype(kind)
        dropped = dropped_inputs(SEED, rates, sizes, np.arange(n))
        how = {"trainer": dropping_trainer(network, rates), "dropped": dropped, "threads": threads}
        assert_gradients_agree(net, network, inputs, labels, **how)


@every_instruction_set
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_with_dropout_and_every_loss_agree_with_the_oracle(loss, instruction_set):
    rng = np.random.default_rng(3)
    sizes, n, rates = [20, 30, 4], 17, [0.1, 0.5]
    net = random_net(rng, sizes, ["tanh"], loss=loss)
    kind = "probabilities" if loss == "softmax_cross_entropy" else loss
    X, targets = random_inputs(rng, "float32", n, 20), random_targets(rng, kind, n, 4)
    network = network_like(net, instruction_set)
    how = {
        "trainer": dropping_trainer(network, rates),
        "dropped": dropped_inputs(SEED, rates, sizes, np.arange(n)),
        "weights": rng.random(n, np.float32),
    }
    assert_gradients_agree(net, network, X, targets, **how)


def trained_bits(net: ReferenceNet, instruction_set: str, X: Any, labels: Any, batches: Any, threads: int):
    network = network_like(net, instruction_set)
    trainer = adam_trainer(network)
    trainer.set_dropout(SEED, [0.2, 0.5, 0.4])
    result = run_batches(trainer, X, labels, batches, 0.01, threads=threads)
    assert result.team_size == threads
    return [array.tobytes() for array in (result.losses, *parameters_of(network, net.n_layers))]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("sizes", [[7, 5, 6, 3], [333, 257, 300, 7]])
def test_training_with_dropout_gives_the_same_bits_on_any_threads_and_sets(sizes, dtype, mixed):
    rng = np.random.default_rng(4)
    net = random_net(rng, sizes, ["relu", "tanh"], mixed_bfloat16=mixed)
    X, labels = random_inputs(rng, dtype, 130, sizes[0]), random_targets(rng, "labels", 130, sizes[-1])
    batches = np.split(rng.permutation(130), [57, 114])
    runs = {
        name: [trained_bits(net, name, X, labels, batches, threads) for threads in (1, 2, 3, 7)]
        for name in _core.supported_instruction_sets()
    }
    for name, each in runs.items():
        assert each == each[:1] * 4, name
    if not mixed:
        fused = [each[0] for name, each in runs.items() if name in FUSED_SETS]
        assert fused == fused[:1] * len(fused)


def test_masks_keep_the_fraction_that_they_should():
    # 65,536 trials each: the standard error is at most 0.002, and five of it are allowed.
    for rate in (0.1, 0.5, 0.9):
        kept = kept_columns(1, 2, 3, np.arange(256), 256, rate)
        assert abs(kept.mean() - (1 - rate)) < 0.01
        assert abs(np.corrcoef(kept[:, 0], kept[:, 1])[0, 1]) < 5 / np.sqrt(256)


def test_masks_differ_between_epochs_samples_layers_and_seeds():
    base = {"seed": 1, "layer": 1, "epoch": 0, "rows": np.arange(2)}
    masks = [
        kept_columns(**(base | other), n_columns=200, rate=0.5).tobytes()
        for other in ({}, {"seed": 2}, {"layer": 2}, {"epoch": 1}, {"rows": np.arange(1, 3)})
    ]
    assert len(set(masks)) == len(masks)


@every_instruction_set
def test_rates_next_to_0_and_1_train(instruction_set):
    rng = np.random.default_rng(5)
    net = random_net(rng, [20, 20, 3], ["relu"])
    X, labels = random_inputs(rng, "float32", 9, 20), random_targets(rng, "labels", 9, 3)
    for rate in (1e-9, 1 - 1e-9):
        network = network_like(net, instruction_set)
        result = run_batches(dropping_trainer(network, [rate, rate]), X, labels, [np.arange(9)], 1e-6)
        assert np.isfinite(result.losses).all()
        if rate < 0.5:
            plain = run_batches(
                sgd_trainer(network_like(net, instruction_set)), X, labels, [np.arange(9)], 1e-6
            )
            assert result.losses.tolist() == plain.losses.tolist()


@pytest.mark.parametrize("rates", [[0.5], [0.5, 1.0], [-0.1, 0.5], [float("nan"), 0.0]])
def test_core_with_wrong_rates_refuses(rates):
    trainer = _core.Trainer(_core.Network([3, 4, 2], ["relu"]))
    with pytest.raises(ValueError, match="rate"):
        trainer.set_dropout(0, rates)


# From Python.

RNG = np.random.default_rng(0)
X = RNG.random((43, 30), dtype=np.float32)
Y = np.arange(43) % 3


def new_net(**settings: Any) -> Net:
    return Net([30, 40, 20, 3], seed=1, **({"dropout": [0.2, 0.5, 0.4]} | settings))


def assert_same(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.history.step_loss, other.history.step_loss)


def test_dropout_as_a_number_is_for_hidden_layers_alone():
    assert new_net(dropout=0.5).dropout == (0.0, 0.5, 0.5)
    assert new_net(dropout=[0.1, 0.2, 0.3]).dropout == (0.1, 0.2, 0.3)
    assert new_net(dropout=np.array(0.5)).dropout == (0.0, 0.5, 0.5)
    assert new_net(dropout=np.array([0.1, 0.2, 0.3])).dropout == (0.1, 0.2, 0.3)
    assert Net([3, 2]).dropout == (0.0,)


@pytest.mark.parametrize(
    ("dropout", "error", "message"),
    [
        (1.0, ValueError, "dropout must be at least 0 and less than 1, not 1"),
        (-0.5, ValueError, "dropout must be at least 0"),
        (float("nan"), ValueError, "dropout must be"),
        ("half", TypeError, "dropout must be"),
        (b"\0\0\0", TypeError, "dropout must be a real number, not bytes"),
        (None, TypeError, "dropout must be a real number, not None"),
        (True, TypeError, "dropout must be a real number, not True"),
        ({0.1, 0.2, 0.3}, TypeError, "dropout must be a real number, not set"),
        ({0.1: 0, 0.2: 0, 0.3: 0}, TypeError, "dropout must be a real number, not dict"),
        (np.array("half"), TypeError, "dropout must be a real number, not 'half'"),
        (np.ones((3, 3)), TypeError, r"dropout\[0\] must be a real number, not list"),
        ([0.1, None, 0.3], TypeError, r"dropout\[1\] must be a real number, not None"),
        ([0.5, 0.5], ValueError, "dropout has 2 rates, but this net takes 3"),
        ([0.5, 0.5, 1.5], ValueError, r"dropout\[2\] must be at least 0 and less than 1, not 1.5"),
    ],
)
def test_wrong_dropout_is_refused(dropout, error, message):
    with pytest.raises(error, match=message):
        new_net(dropout=dropout)


def test_prediction_drops_nothing():
    dropping, plain = new_net(), new_net(dropout=0.0)
    np.testing.assert_array_equal(dropping.logits(X), plain.logits(X))


def test_training_with_dropout_differs_from_training_without():
    dropping, plain = new_net(), new_net(dropout=0.0)
    losses = [net.fit(X, Y, steps=1).step_loss[0] for net in (dropping, plain)]
    assert losses[0] != losses[1]


def test_batches_of_a_fit_are_dropped_by_epoch_and_place():
    # One step of each batch, by the oracle: the loss before the update tells whether the masks were right.
    net = Net([30, 40, 3], seed=5, activation="tanh", dropout=[0.2, 0.5])
    reference = ReferenceNet(net.weights, net.biases, ["tanh"])
    history = net.fit(X, Y, epochs=3, batch_size=16, optimizer=SGD(1e-30), shuffle=False)
    expected = []
    for epoch in range(3):
        for rows in (np.arange(16), np.arange(16, 32), np.arange(32, 43)):
            dropped = dropped_inputs(5, net.dropout, net.layer_sizes, rows, epoch)
            expected.append(reference.gradients(X[rows], Y[rows], dropped=dropped).mean_loss)
    # float32 losses of sums of at most 40 terms around 1; 1e-30 changes no weight.
    np.testing.assert_allclose(history.step_loss, expected, rtol=200 * 2.0**-24)


def test_dropout_behind_batch_normalisation_agrees_with_finite_differences():
    sizes, rates, n = [6, 9, 7, 3], [0.2, 0.5, 0.3], 19
    x, labels = X[:n, :6], Y[:n]
    factors = []
    for layer, rate in enumerate(rates):
        kept = kept_columns(11, layer, 0, np.arange(n), sizes[layer], rate)
        factors.append(kept * (2**16 / (2**16 - threshold(rate))))

    def loss(parameters: list[NDArray[np.float64]]) -> float:
        a = x * factors[0]
        for layer in range(2):
            z = a @ parameters[2 * layer]
            shift, scale = parameters[2 * layer + 1][:2]
            z = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5) * scale + shift
            a = np.tanh(z) * factors[layer + 1]
        return float(cross_entropy(a @ parameters[4] + parameters[5], labels).mean())

    net = Net(sizes, activation="tanh", dropout=rates, batch_norm=True, seed=11)
    before = [p.astype(np.float64) for pair in zip(net.weights, net.biases, strict=True) for p in pair]
    net.fit(x, labels, steps=1, batch_size=n, shuffle=False, optimizer=SGD(2.0**6))
    after = [p for pair in zip(net.weights, net.biases, strict=True) for p in pair]

    # float32 sums of at most 19 terms, divided by deviations of 0.1 and more: 200 u.
    assert net.history.step_loss[0] == pytest.approx(loss(before), rel=200 * 2.0**-24)
    step = 2.0**-17
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        rows = slice(2) if number in (1, 3) else slice(None)  # shift and scale, without running statistics
        for at in np.ndindex(old[rows].shape):
            value = old[at]
            losses = []
            for moved in (value - step, value + step):
                old[at] = moved
                losses.append(loss(before))
            old[at] = value
            # Gradients of float32 as above, of terms of up to some 1. What differences are off by is little
            # beside that: 2^-34 (step squared) times a third derivative, and 2^-53 / step for rounding.
            expected = (losses[1] - losses[0]) / (2 * step)
            assert abs((value - new[at]) / 2.0**6 - expected) < 200 * 2.0**-24 * (1 + abs(expected))


class Watching(Callback):
    """Makes each epoch a call of the core of its own."""


@pytest.mark.parametrize("convert", [np.asarray, lambda X: X.astype(np.float64), np.asfortranarray])
def test_fit_however_divided_into_calls_gives_the_same_bits(convert):
    nets: list[Net] = []
    for callbacks in ((), (Watching(),)):
        nets.append(new_net())
        nets[-1].fit(convert(X), Y, epochs=6, batch_size=10, callbacks=callbacks)
    nets.append(new_net())
    nets[-1].fit(X, Y, epochs=6, batch_size=10)
    for net in nets[1:]:
        assert_same(net, nets[0])


class Interrupt(Callback):
    """Press Ctrl-C, as it were, after some step."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.every = 1

    def on_step(self, net: Net, fit: Any) -> None:
        if fit.step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 5, 8])
def test_resume_with_dropout_in_mid_epoch_is_exact(at, tmp_path):
    whole = new_net()
    whole.fit(X, Y, epochs=3, batch_size=10)
    part = new_net()
    with pytest.raises(KeyboardInterrupt):
        part.fit(X, Y, epochs=3, batch_size=10, callbacks=[Interrupt(at)])
    part.save(tmp_path / "net", training_state=True)
    loaded = Net.load(tmp_path / "net")
    loaded.fit(X, Y, resume=True)
    assert_same(loaded, whole)


def test_two_fits_with_dropout_equal_one():
    one, two = new_net(), new_net()
    one.fit(X, Y, epochs=4, batch_size=10)
    two.fit(X, Y, epochs=2, batch_size=10)
    two.fit(X, Y, epochs=2, batch_size=10)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_saved_copied_and_loaded_nets_keep_their_dropout(tmp_path):
    net = new_net()
    net.save(tmp_path / "net")
    assert Net.load(tmp_path / "net").dropout == net.dropout
    assert copy.deepcopy(net).dropout == net.dropout


def test_dropout_beside_augmentation_trains_reproducibly():
    images: NDArray[np.uint8] = RNG.integers(0, 256, (20, 6, 5)).astype(np.uint8)
    nets = [Net([30, 20, 3], seed=2, dropout=[0.3, 0.5]) for _ in range(2)]
    for net, threads in zip(nets, (1, 3), strict=True):
        net.fit(images, Y[:20], epochs=2, batch_size=7, augment=Augmentation(shift=1), threads=threads)
    assert_same(*nets)


def test_input_that_is_not_finite_is_found_though_it_is_dropped():
    bad = X.copy()
    bad[7] = np.inf
    net = new_net(dropout=[0.99, 0.0, 0.0])
    with pytest.raises(NonFiniteInputError, match="7"):
        net.fit(bad, Y, epochs=1)
