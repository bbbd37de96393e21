"""Around the optimiser's update: clipping by the global norm, limits for units, averages of the weights."""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import pytest

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
from error_bounds import EPSILON
from fastmlp import (
    SGD,
    Adam,
    AdamW,
    Callback,
    Checkpoint,
    EarlyStopping,
    ModelFileError,
    Net,
    NonFiniteLossError,
)
from reference import ReferenceAdam, ReferenceAround, ReferenceNet, ReferenceSGD
from training_twin import train_beside_twin

ALL = {"clip_norm": 0.5, "max_norm": 1.0, "ema_decay": 0.9}
OPTIMIZERS = {
    "sgd": lambda **around: SGD(0.1, **around),
    "momentum": lambda **around: SGD(0.1, momentum=0.9, weight_decay=0.01, **around),
    "nesterov": lambda **around: SGD(0.1, momentum=0.9, nesterov=True, **around),
    "adam": lambda **around: Adam(0.01, **around),
    "adamw": lambda **around: AdamW(0.01, weight_decay=0.1, **around),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)
every_precision = pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])


def some_data(n=300, n_features=20, n_classes=5):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, n_features)).astype(np.float32), rng.integers(0, n_classes, n)


def bits_of(net):
    return b"".join(array.tobytes() for array in [*net.weights, *net.biases])


def column_norms(weights):
    return np.sqrt((weights.astype(np.float64) ** 2).sum(axis=0))


# Steps by hand.


def zero_net():
    """One input and two classes: of the sample x = 1 of class 0 all four gradients are -1/2 or 1/2."""
    net = Net([1, 2], seed=0)
    net.set_weights([np.zeros((1, 2))], [np.zeros(2)])
    return net


ONE = np.ones((1, 1), np.float32)


def test_clip_norm_step_by_hand_halves_a_gradient_of_twice_the_norm() -> None:
    # The gradient (-1/2, 1/2, -1/2, 1/2) has the norm 1, so 1/2 clips it to (-1/4, 1/4, -1/4, 1/4).
    net = zero_net()
    net.fit(ONE, [0], steps=1, optimizer=SGD(learning_rate=0.1, clip_norm=0.5))
    np.testing.assert_allclose(net.weights[0], [[0.025, -0.025]], rtol=1e-6)
    np.testing.assert_allclose(net.biases[0], [0.025, -0.025], rtol=1e-6)


def test_clip_norm_that_the_gradient_does_not_reach_changes_no_bit() -> None:
    X, y = some_data()
    nets = [Net([20, 12, 5], seed=0) for _ in range(2)]
    for net, clip_norm in zip(nets, [None, 1e6], strict=True):
        net.fit(X, y, steps=5, optimizer=Adam(clip_norm=clip_norm))
    assert bits_of(nets[0]) == bits_of(nets[1])


def test_max_norm_step_by_hand_scales_back_the_unit_that_is_too_long() -> None:
    # Without input, weights have no gradient. (3, 4) has the norm 5 and becomes (0.6, 0.8); (0.3, 0.4), which
    # has 0.5, stays, and so do the biases, but for their update by 0.1 / 2.
    net = Net([2, 2], seed=0)
    net.set_weights([[[3, 0.3], [4, 0.4]]], [np.array([7.0, 7.0])])
    net.fit(np.zeros((1, 2), np.float32), [0], steps=1, optimizer=SGD(learning_rate=0.1, max_norm=1))
    # The factor 1 / 5 and the product are rounded.
    np.testing.assert_allclose(net.weights[0], [[0.6, 0.3], [0.8, 0.4]], rtol=2 * EPSILON)
    np.testing.assert_allclose(net.biases[0], [7.05, 6.95], rtol=2 * EPSILON)


def test_ema_two_steps_by_hand_and_training_goes_on_from_the_live_weights() -> None:
    # SGD: w = 0.25, then the gradient is 1 / (1 + exp(-1)) - 1 = -0.2689414, w = 0.3844707. With a decay of
    # 1/2 the first counts half as much as the second: (0.25 / 2 + 0.3844707) / (3 / 2).
    averaged, live = SGD(learning_rate=0.5, ema_decay=0.5), SGD(learning_rate=0.5)
    net, plain = zero_net(), zero_net()
    net.fit(ONE, [0], steps=1, optimizer=averaged)
    assert net.weights[0][0, 0] == pytest.approx(0.25, rel=1e-6)
    net.fit(ONE, [0], steps=1, optimizer=averaged)
    assert net.weights[0][0, 0] == pytest.approx(0.3396471, rel=1e-6)
    net.fit(ONE, [0], steps=1, optimizer=live)
    plain.fit(ONE, [0], steps=3, optimizer=live)
    assert bits_of(net) == bits_of(plain)


# Against the oracle.


@every_instruction_set
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_training_with_all_three_agrees_with_the_oracle(kind, loss, dtype, mixed, instruction_set):
    rng = np.random.default_rng(5)
    sizes, n, n_steps = [37, 23, 18, 5], 60, 12
    start = random_net(rng, sizes, ["tanh"] * 2, mixed_bfloat16=mixed, loss=loss)
    X = random_inputs(rng, dtype, n, sizes[0])
    kind_of_targets = "labels" if loss == "softmax_cross_entropy" else loss
    targets = random_targets(rng, kind_of_targets, n, sizes[-1])
    batches = [rng.permutation(n)[:21] for _ in range(n_steps)]
    rate = 0.003 if kind == "adam" else 0.05
    limits = {"clip_norm": 0.1, "max_norm": 0.9}

    def reference():
        optimizer = ReferenceAdam() if kind == "adam" else ReferenceSGD(momentum=0.9, nesterov=True)
        return ReferenceAround(optimizer, **limits, ema_decay=0.8)

    oracle = train_beside_twin(start, reference, X, targets, batches=batches, rate=rate)
    assert oracle.optimizer.n_clipped > 0
    assert oracle.optimizer.n_limited > 0
    network = network_like(start, instruction_set)
    around = {**limits, "average_decay": 0.8}
    if kind == "adam":
        trainer = adam_trainer(network, **around)
    else:
        trainer = sgd_trainer(network, 0.9, nesterov=True, **around)
    result = run_batches(trainer, X, targets, batches, rate)
    np.testing.assert_allclose(result.losses, oracle.losses, rtol=0, atol=oracle.loss_tolerance)

    live = trainer.snapshot().arrays["parameters"]
    for actual, expected in zip([*live[::2], *live[1::2]], oracle.parameters, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=oracle.tolerance)
    # An average strays no further than what it is an average of, but for the roundings of its own: of a
    # difference, a product and a sum in each step, of numbers as large as the weights.
    for actual, expected in zip(parameters_of(network, 3), oracle.optimizer.averages, strict=True):
        atol = oracle.tolerance + 3 * n_steps * EPSILON * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@every_instruction_set
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("going_back", [False, True])
def test_moments_of_another_optimizer_leave_nothing_to_the_next(instruction_set, threads, going_back):
    """Moments are not written before the first run, and their memory may be that of moments before."""
    rng = np.random.default_rng(2)
    net = random_net(rng, [70, 50, 3], ["relu"])
    X, labels = random_inputs(rng, "float32", 60, 70), random_targets(rng, "labels", 60, 3)
    batches = np.split(rng.permutation(60), 3)
    fresh = adam_trainer(network_like(net, instruction_set))
    run_batches(fresh, X, labels, batches, 0.01, threads=threads)

    network = network_like(net, instruction_set)
    used = adam_trainer(network)
    start = used.snapshot()
    run_batches(used, X, labels, batches, 0.01, threads=threads)
    used.set_sgd(momentum=0.9, nesterov=False)
    run_batches(used, X, labels, batches, 0.01, threads=threads)
    used.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    unwritten = used.snapshot()
    for moment in ("first_moment", "second_moment"):
        assert all(not array.any() for state in (start, unwritten) for array in state.arrays[moment])
    if going_back:
        used.restore(start)
    else:
        network.set_parameters(net.weights, net.biases)
    run_batches(used, X, labels, batches, 0.01, threads=threads)

    actual, expected = used.snapshot(), fresh.snapshot()
    assert actual.beta_powers == expected.beta_powers
    for name, arrays in expected.arrays.items():
        for one, other in zip(actual.arrays[name], arrays, strict=True):
            np.testing.assert_array_equal(one, other)


def test_averages_are_what_the_network_computes_with_in_mixed_precision():
    """The rounded copies of weights are those of the averages after a run, of the live ones within it."""
    X, y = some_data()
    for precision in ("float32", "mixed_bfloat16"):
        net = Net([20, 33, 5], seed=0, precision=precision)
        net.fit(X, y, steps=7, optimizer=Adam(0.01, **ALL))
        other = Net([20, 33, 5], seed=0, precision=precision)
        other.set_weights(net.weights, net.biases)
        np.testing.assert_array_equal(net.logits(X), other.logits(X))


# Bits.


def make_case(instruction_set, mixed, around, threads, dtype="float32"):
    rng = np.random.default_rng(1)
    sizes, n, batch_size = [333, 257, 129, 7], 330, 103
    net = random_net(rng, sizes, ["relu"] * 2, mixed_bfloat16=mixed)
    X, labels = random_inputs(rng, dtype, n, sizes[0]), random_targets(rng, "labels", n, sizes[-1])
    batches = np.split(rng.permutation(n), range(batch_size, n, batch_size))
    network = network_like(net, instruction_set)
    trainer = adam_trainer(network, **around)
    result = run_batches(trainer, X, labels, batches, 0.01, threads=threads)
    assert result.stopped == ""
    assert result.team_size == threads
    assert min(result.tasks_per_thread) > 0
    arrays = [*parameters_of(network, 3), *trainer.snapshot().arrays["parameters"], result.losses]
    return [array.tobytes() for array in arrays]


AROUND = {
    "clip": {"clip_norm": 0.3},
    "max_norm": {"max_norm": 0.9},
    "average": {"average_decay": 0.9},
    "all": {"clip_norm": 0.3, "max_norm": 0.9, "average_decay": 0.9},
}
every_around = pytest.mark.parametrize("around", AROUND)


@every_instruction_set
@every_around
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed_bfloat16"])
def test_training_with_any_number_of_threads_gives_the_same_bits(mixed, dtype, around, instruction_set):
    expected = make_case(instruction_set, mixed, AROUND[around], 1, dtype)
    for threads in (2, 3, 7):
        assert make_case(instruction_set, mixed, AROUND[around], threads, dtype) == expected


@pytest.mark.parametrize(
    "pair", list(itertools.combinations(("avx2", "avx512", "avx512_bf16"), 2)), ids="-".join
)
@every_around
def test_training_on_sets_with_fused_multiply_add_gives_the_same_bits(around, pair):
    missing = [name for name in pair if name not in INSTRUCTION_SETS]
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}: {' and '.join(pair)} were not compared")
    first, second = (make_case(name, False, AROUND[around], 2) for name in pair)
    assert first == second


# In fits.


@every_precision
@every_optimizer
def test_max_norm_holds_after_a_fit_with_every_optimizer(optimizer, precision):
    X, y = some_data()
    norms = {}
    for max_norm in (None, 0.7):
        net = Net([20, 33, 17, 5], seed=0, precision=precision)
        net.fit(X, y, epochs=3, batch_size=32, optimizer=OPTIMIZERS[optimizer](max_norm=max_norm))
        norms[max_norm] = np.concatenate([column_norms(weights) for weights in net.weights])
    assert norms[None].max() > 0.7
    # The factor and each product are rounded by half an epsilon.
    assert norms[0.7].max() <= 0.7 * (1 + EPSILON)


@every_precision
@every_optimizer
@pytest.mark.parametrize("around", AROUND)
def test_fit_in_two_parts_equals_one_fit_bit_for_bit(around, optimizer, precision):
    X, y = some_data()
    how = AROUND[around]
    how = {("ema_decay" if name == "average_decay" else name): value for name, value in how.items()}
    nets = [Net([20, 33, 5], seed=0, precision=precision) for _ in range(2)]
    for net, parts in zip(nets, [(4,), (1, 3)], strict=True):
        for epochs in parts:
            net.fit(X, y, epochs=epochs, batch_size=32, optimizer=OPTIMIZERS[optimizer](**how))
    assert bits_of(nets[0]) == bits_of(nets[1])


@every_precision
@every_optimizer
def test_fit_with_all_three_resumes_in_the_middle_of_an_epoch_bit_for_bit(optimizer, precision, tmp_path):
    class Interrupt(Callback):
        every = 13  # of 10 steps an epoch

        def on_step(self, net, fit):
            raise KeyboardInterrupt

    X, y = some_data()
    how = {"epochs": 4, "batch_size": 32, "optimizer": OPTIMIZERS[optimizer](**ALL)}
    whole = Net([20, 33, 5], seed=0, precision=precision)
    whole.fit(X, y, validation_data=(X, y), **how)

    path = tmp_path / "net.safetensors"
    cut = Net([20, 33, 5], seed=0, precision=precision)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, y, validation_data=(X, y), callbacks=[Checkpoint(path), Interrupt()], **how)
    loaded = Net.load(path)
    assert bits_of(loaded) == bits_of(cut)
    loaded.fit(X, y, validation_data=(X, y), callbacks=[Checkpoint(path)], resume=True)
    assert bits_of(loaded) == bits_of(whole)
    assert loaded.history.validation_loss == whole.history.validation_loss
    np.testing.assert_array_equal(loaded.history.step_loss, whole.history.step_loss)

    # And a further fit goes on from live weights, average and moments, from a file as well.
    path = tmp_path / "further.safetensors"
    whole.save(path, training_state=True)
    further = Net.load(path)
    for net in (whole, further):
        net.fit(X, y, **how)
    assert bits_of(further) == bits_of(whole)


def test_validation_saving_and_early_stopping_use_the_averages(tmp_path):
    X, y = some_data()
    seen = []

    class Look(EarlyStopping):
        def on_epoch_end(self, net, fit):
            super().on_epoch_end(net, fit)
            seen.append((net.evaluate(X, y).loss, bits_of(net)))

    net = Net([20, 33, 5], seed=0)
    optimizer = SGD(2.0, momentum=0.9, ema_decay=0.9)
    stopping = Look(patience=3, monitor="validation_loss")
    history = net.fit(
        X, y, epochs=20, batch_size=32, optimizer=optimizer, validation_data=(X, y), callbacks=[stopping]
    )
    assert history.validation_loss == [loss for loss, _ in seen]
    assert bits_of(net) == seen[stopping.best_epoch - 1][1]
    net.save(tmp_path / "net.safetensors")
    assert bits_of(Net.load(tmp_path / "net.safetensors")) == bits_of(net)

    # A further fit goes on from the live weights, as if there had been no best ones.
    twin = Net([20, 33, 5], seed=0)
    for each, before in ((net, 0), (twin, len(history.loss))):
        if before:
            each.fit(X, y, epochs=before, batch_size=32, optimizer=optimizer)
        each.fit(X, y, epochs=1, batch_size=32, optimizer=optimizer)
    assert bits_of(net) == bits_of(twin)


@every_precision
def test_another_thread_predicts_with_averages_of_whole_steps_while_the_net_is_fitted(precision):
    X, y = some_data()

    class Record(Callback):
        every = 1

        def on_step(self, net, fit):
            of_steps.add(net.logits(X[:8]).tobytes())

    def watch():
        while not done.is_set():
            seen.add(net.logits(X[:8]).tobytes())

    net = Net([20, 33, 5], seed=0, precision=precision)
    of_steps, seen, done = {net.logits(X[:8]).tobytes()}, set(), threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        net.fit(X, y, epochs=10, batch_size=32, optimizer=Adam(0.01, **ALL), callbacks=[Record()])
    finally:
        done.set()
        watcher.join()
    assert seen <= of_steps


def test_set_weights_after_averaging_is_where_training_goes_on_from():
    X, y = some_data()
    optimizer = SGD(0.1, ema_decay=0.9)
    net, other = Net([20, 33, 5], seed=0), Net([20, 33, 5], seed=0)
    start = other.weights, other.biases
    net.fit(X, y, epochs=2, optimizer=optimizer)
    net.set_weights(*start)
    assert bits_of(net) == bits_of(other)
    for each in (net, other):
        each.n_epochs = 0
        each.fit(X, y, epochs=2, optimizer=optimizer)
    assert bits_of(net) == bits_of(other)


def test_ema_decay_of_another_size_in_a_further_fit_keeps_the_average():
    # 1 - 1/2 of the first weights, then 1/4 of that and 1 - 1/4 of the second: 1/8 and 3/4.
    net, weights = zero_net(), []
    live = zero_net()
    for decay in (0.5, 0.25):
        net.fit(ONE, [0], steps=1, optimizer=SGD(0.5, ema_decay=decay))
        live.fit(ONE, [0], steps=1, optimizer=SGD(0.5))
        weights.append(float(live.weights[0][0, 0]))
    assert net.weights[0][0, 0] == pytest.approx((weights[0] / 8 + weights[1] * 3 / 4) * 8 / 7, rel=1e-6)


def test_average_of_another_kind_of_optimizer_goes_on():
    net, live, weights = zero_net(), zero_net(), []
    for kind in (SGD, Adam):
        net.fit(ONE, [0], steps=1, optimizer=kind(0.5, ema_decay=0.5))
        live.fit(ONE, [0], steps=1, optimizer=kind(0.5))
        weights.append(float(live.weights[0][0, 0]))
    assert net.weights[0][0, 0] == pytest.approx((0.5 * weights[0] + weights[1]) / 1.5, rel=1e-6)


# Trouble.


@pytest.mark.parametrize("around", [*({name: value} for name, value in ALL.items()), ALL], ids=str)
def test_non_finite_loss_with_them_leaves_the_net_before_the_bad_step(around):
    """Weight decay of 1e4 a step makes the biases, which nothing limits, grow that fast."""
    X, y = some_data()
    nets = [Net([20, 33, 5], seed=0, activation="identity") for _ in range(2)]
    how = {"batch_size": 32, "shuffle": False}
    how["optimizer"] = SGD(10, momentum=0.9, weight_decay=1e3, **around)
    with pytest.raises(NonFiniteLossError) as caught:
        nets[0].fit(X, y, epochs=50, **how)
    assert all(np.isfinite(array).all() for array in [*nets[0].weights, *nets[0].biases])
    nets[1].fit(X, y, steps=caught.value.step - 2, **how)  # the last update is what was wrong
    assert bits_of(nets[0]) == bits_of(nets[1])


def test_gradient_that_is_too_large_for_squares_in_float32_is_clipped_all_the_same():
    # Two features of 1e25 give weights' gradients of 5e24, whose squares float32 does not hold; the norm is
    # sqrt(4 * 25e48 + 2 / 4) = 1e25, so that 1 clips them to 0.5, and those of the biases to next to nothing.
    net = Net([2, 2], seed=0)
    net.set_weights([np.zeros((2, 2))], [np.zeros(2)])
    net.fit(np.full((1, 2), 1e25, np.float32), [0], steps=1, optimizer=SGD(1.0, clip_norm=1.0))
    np.testing.assert_allclose(net.weights[0], [[0.5, -0.5], [0.5, -0.5]], rtol=4 * EPSILON)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, -math.inf, 1e39, 10**400])
@pytest.mark.parametrize("name", ["clip_norm", "max_norm", "ema_decay"])
def test_setting_out_of_range_is_a_value_error_that_names_it(name, value, kind):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("clip_norm", 1e-45), ("max_norm", 1e-45), ("ema_decay", 1), ("ema_decay", 2.5)]
)
def test_norm_that_is_denormal_or_decay_of_1_or_more_is_a_value_error(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Adam(**{name: value})


@pytest.mark.parametrize("name", ["clip_norm", "max_norm", "ema_decay"])
@pytest.mark.parametrize("value", ["1", True, 1j, [1.0], np.ones(2)])
def test_setting_of_wrong_type_is_a_type_error_that_names_it(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be a real number"):
        SGD(**{name: value})


def test_settings_show_in_repr_only_if_they_are_in_use():
    assert repr(SGD(0.1, clip_norm=1)).endswith("weight_decay=0.0, clip_norm=1.0)")
    assert "norm" not in repr(Adam())
    assert eval(repr(AdamW(0.1, **ALL))) == AdamW(0.1, **ALL)


@pytest.mark.parametrize("wanted", [True, False])
def test_core_state_of_a_trainer_that_averages_is_refused_by_one_that_does_not(wanted):
    net = ReferenceNet([np.ones((2, 2), np.float32)], [np.ones(2, np.float32)], [])
    network = network_like(net, INSTRUCTION_SETS[0])
    state = adam_trainer(network, average_decay=0.5 if wanted else 0.0).snapshot()
    with pytest.raises(ValueError, match="average"):
        adam_trainer(network, average_decay=0.0 if wanted else 0.5).restore(state)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('\\"ema_decay\\": 0.9', '\\"ema_decay\\": null'),
        ('\\"ema_decay\\": 0.9', '\\"ema_decay\\": 1.5'),
        ('\\"clip_norm\\": 0.5', '\\"clip_norm\\": -.5'),
        ('\\"max_norm\\": 1.0', '\\"max_norm\\": NaN'),
        ('\\"average_power\\": 0', '\\"average_power\\": 7'),
        ("training.average.layers.0.bias", "training.average.layers.9.bias"),
        ("training.average.", "training.median_."),
    ],
)
def test_file_with_an_impossible_state_of_averaging_is_refused(before, after, tmp_path):
    path = tmp_path / "net.safetensors"
    X, y = some_data()
    net = Net([20, 33, 5], seed=0)
    net.fit(X, y, steps=2, optimizer=Adam(**ALL))
    net.save(path, training_state=True)
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + header_size].replace(before.encode(), after.encode())
    assert header != data[8 : 8 + header_size]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + header_size :])
    with pytest.raises(ModelFileError, match=r"net\.safetensors"):
        Net.load(path)


def test_input_that_is_not_finite_in_the_first_step_leaves_the_network_as_it_was():
    net = ReferenceNet([np.ones((2, 2), np.float32)], [np.zeros(2, np.float32)], [])
    network = network_like(net, INSTRUCTION_SETS[0])
    trainer = sgd_trainer(network, average_decay=0.5)
    X = np.array([[np.inf, 0]], np.float32)
    result = run_batches(trainer, X, np.zeros(1, np.int64), [np.zeros(1, np.int64)], 0.1)
    assert result.stopped == "input"
    np.testing.assert_array_equal(network.weights(0), net.weights[0])
