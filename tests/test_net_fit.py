"""Net.fit: what it trains on, in which order, for how long, and what it records."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest

from fastmlp import SGD, Adam, Callback, Net, NonFiniteInputError, _core, _notes, _samples, _training
from fastmlp._random import PURPOSE_SHUFFLE
from fastmlp._shared_network import SharedNetwork
from fastmlp.schedules import Constant, Cosine, ReduceOnPlateau, Schedule, Step, Warmup

RNG = np.random.default_rng(0)
N = 53
X = RNG.random((N, 6), dtype=np.float32)
Y = np.arange(N) % 3


def new_net(**settings: Any) -> Net:
    return Net([6, 5, 3], seed=1, **settings)


def fitted(X: Any = X, y: Any = Y, **settings: Any) -> Net:
    net = new_net()
    net.fit(X, y, **({"epochs": 3, "batch_size": 10} | settings))
    return net


def assert_same_weights(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)


def misaligned(X: np.ndarray) -> np.ndarray:
    array = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    assert not array.flags.aligned
    return array


def read_only(X: np.ndarray) -> np.ndarray:
    array = X.copy()
    array.flags.writeable = False
    return array


# How long, and in which order.


def test_fit_learns() -> None:
    labels = (X[:, 0] > X[:, 1]).astype(int)
    net = Net([6, 20, 2], seed=0)
    history = net.fit(X, labels, epochs=200, batch_size=10, optimizer=Adam(0.01))
    assert history.loss[-1] < 0.2 < history.loss[0]
    assert net.evaluate(X, labels).accuracy > 0.95


@pytest.mark.parametrize(
    ("duration", "n_steps"),
    [
        ({"epochs": 2}, [6, 6]),
        ({"steps": 12}, [6, 6]),
        ({"steps": 13}, [6, 6, 1]),
        ({"steps": 4}, [4]),
        ({"steps": 2, "batch_size": 1000}, [1, 1]),
        ({"epochs": 1, "batch_size": N}, [1]),
        ({"epochs": 1, "batch_size": 1}, [N]),
        ({"epochs": 1, "batch_size": N - 1}, [2]),
        ({}, [6] * 10),
    ],
)
def test_fit_does_exactly_the_steps_asked_for(duration: dict[str, int], n_steps: list[int]) -> None:
    net = new_net()
    history = net.fit(X, Y, **({"batch_size": 10} | duration))
    assert history.n_steps == n_steps
    assert history.step_loss.shape == (sum(n_steps),)
    assert np.isfinite(history.step_loss).all()
    assert net.n_epochs == len(n_steps)
    assert net.history is history


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.1, momentum=0.9)])
def test_two_fits_equal_one_of_the_same_length(optimizer: Adam | SGD) -> None:
    once, twice = new_net(), new_net()
    whole = once.fit(X, Y, epochs=6, batch_size=10, optimizer=optimizer)
    halves = [twice.fit(X, Y, epochs=3, batch_size=10, optimizer=optimizer) for _ in range(2)]
    assert_same_weights(once, twice)
    np.testing.assert_array_equal(whole.step_loss, np.concatenate([half.step_loss for half in halves]))


def test_same_seed_gives_the_same_bits_wherever_calls_end(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fitted()
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)  # one step for each call
    stepwise = fitted()
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 1e6)
    monkeypatch.setattr(_training, "_MOST_GROWTH", 10**6)  # whole epochs
    assert_same_weights(usual, stepwise)
    assert_same_weights(usual, fitted())


@pytest.mark.parametrize(
    "schedule", [Constant(), Step(epochs=3), Warmup(7, Cosine()), ReduceOnPlateau(monitor="loss")]
)
def test_epochs_that_share_a_call_are_those_that_somebody_watches(
    schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 1e6)
    n_calls = 0
    train = SharedNetwork.train

    def counting_train(*args: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        train(*args)

    watched, unwatched = new_net(), new_net()
    settings: dict[str, Any] = {"steps": 6 * 39 + 2, "batch_size": 10, "schedule": schedule}
    watched.fit(X, Y, callbacks=[Callback()], **settings)
    monkeypatch.setattr(SharedNetwork, "train", counting_train)
    unwatched.fit(X, Y, **settings)
    assert (n_calls < 10) == (not schedule.needs_history)
    assert_same_weights(watched, unwatched)
    assert unwatched.n_epochs == watched.n_epochs == 40
    for name in ("step_loss", "loss", "learning_rate", "n_steps"):
        expected = getattr(watched.history, name)
        np.testing.assert_array_equal(getattr(unwatched.history, name), expected, strict=True)
    assert min(unwatched.history.seconds) > 0


def test_order_of_an_epoch_is_a_function_of_seed_and_epoch_over_the_nets_life() -> None:
    by_hand = new_net()
    for epoch in range(3):
        order = _core.philox_permutation(1, PURPOSE_SHUFFLE, epoch, N)
        by_hand.fit(X[order], Y[order], epochs=1, batch_size=10, shuffle=False)
    assert_same_weights(by_hand, fitted())


def test_steps_cut_an_epoch_short_and_a_further_fit_begins_the_next() -> None:
    by_hand = new_net()
    for epoch, n_steps in ((0, 6), (1, 2), (2, 1)):
        rows = _core.philox_permutation(1, PURPOSE_SHUFFLE, epoch, N)[: n_steps * 10]
        by_hand.fit(X[rows], Y[rows], epochs=1, batch_size=10, shuffle=False)
    net = fitted(epochs=None, steps=8)
    net.fit(X, Y, steps=1, batch_size=10)
    assert_same_weights(by_hand, net)


def test_epoch_loss_is_the_mean_over_its_samples() -> None:
    net = new_net()
    before = net.evaluate(X, Y).loss
    history = net.fit(X, Y, epochs=1, batch_size=10, optimizer=SGD(1e-30))  # the weights stay
    assert history.loss[0] == pytest.approx(before, rel=1e-6)


# Data of all kinds.


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda X: X.astype(np.float64), id="float64"),
        pytest.param(lambda X: X.astype(">f4"), id="big endian"),
        pytest.param(np.asfortranarray, id="Fortran order"),
        pytest.param(lambda X: np.repeat(X, 3, axis=0)[::3], id="rows strided"),
        pytest.param(lambda X: X[::-1].copy()[::-1], id="negative stride"),
        pytest.param(lambda X: X.tolist(), id="list"),
        pytest.param(lambda X: X.reshape(N, 2, 3), id="images"),
        pytest.param(lambda X: np.asfortranarray(X.reshape(N, 2, 3)), id="images in Fortran order"),
        pytest.param(lambda X: X.astype(np.longdouble), id="longdouble"),
        pytest.param(misaligned, id="misaligned"),
        pytest.param(read_only, id="read-only"),
    ],
)
def test_same_numbers_in_another_type_or_layout_train_the_same_weights(convert: Any) -> None:
    assert_same_weights(fitted(convert(X)), fitted(X))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.uint16, np.float16])
def test_other_real_types_are_taken_as_they_are(dtype: type) -> None:
    small = (X > 0.5).astype(dtype)
    assert_same_weights(fitted(small), fitted(small.astype(np.float32)))


def test_pixels_strided_train_the_same_weights_as_in_place(tmp_path: Any) -> None:
    pixels = RNG.integers(0, 256, (N, 6), dtype=np.uint8)
    in_place = fitted(pixels)
    assert_same_weights(fitted(np.repeat(pixels, 2, axis=1)[:, ::2]), in_place)
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(N, 2, 3))
    mapped[:] = pixels.reshape(N, 2, 3)
    assert_same_weights(fitted(mapped), in_place)


def test_conversion_in_many_chunks_trains_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(X.astype(np.float64))
    monkeypatch.setattr(_samples, "CHUNK_BYTES", 25 * 6 * 4)
    monkeypatch.setattr(_samples, "_GATHER_BYTES", 3 * 6 * 8)
    assert_same_weights(fitted(X.astype(np.float64)), whole)


def test_huge_array_is_converted_some_rows_at_a_time() -> None:
    n_samples = 10**6
    huge = np.broadcast_to(RNG.random(784), (n_samples, 784))  # 6 GB if it were copied
    net = Net([784, 4, 2], activation="tanh", seed=0)
    labels = np.zeros(n_samples, np.int64)
    tracemalloc.start()
    net.fit(huge, labels, steps=4, batch_size=1000)
    net.predict(huge[:20_000])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The order of samples takes 8 MB; a chunk of samples 32 MB, twice while one replaces another.
    assert peak < 90 * 2**20


def test_one_hot_rows_train_the_same_weights_as_labels() -> None:
    rows = fitted(y=np.eye(3)[Y])
    assert_same_weights(rows, fitted(y=np.eye(3, dtype=np.float32)[Y]))
    assert_same_weights(rows, fitted(y=np.eye(3, dtype=int)[Y].tolist()))
    for a, b in zip(rows.weights, fitted().weights, strict=True):
        # A row's loss is a sum of products, a label's one number: 18 steps of 1e-3, off by a few roundings.
        np.testing.assert_allclose(a, b, atol=18 * 1e-3 * 1e-4)


def test_one_sample_and_one_class_can_be_trained() -> None:
    net = Net([6, 4, 1], seed=0)
    before = net.weights
    history = net.fit(X[:1], [0], epochs=2)
    assert history.loss == [0, 0]
    np.testing.assert_array_equal(net.weights[0], before[0])  # nothing to learn


def test_million_features_can_be_trained() -> None:
    pixels = np.zeros((3, 1_000_000), np.uint8)
    pixels[[0, 1, 2], [5, 500_000, 999_999]] = 255
    net = Net([1_000_000, 2], seed=0)
    history = net.fit(pixels, [0, 1, 0], epochs=2, batch_size=2, optimizer=SGD(1.0))
    assert history.loss[1] < history.loss[0]
    # Strided, so that rows are gathered; a row takes a megabyte.
    twin = Net([1_000_000, 2], seed=0)
    twin.fit(np.asfortranarray(pixels), [0, 1, 0], epochs=2, batch_size=2, optimizer=SGD(1.0))
    assert_same_weights(net, twin)


def test_mixed_bfloat16_learns_and_keeps_float32_weights() -> None:
    labels = (X[:, 0] > X[:, 1]).astype(int)
    net = Net([6, 20, 2], precision="mixed_bfloat16", seed=0)
    net.fit(X, labels, epochs=200, batch_size=10, optimizer=Adam(0.01))
    assert net.evaluate(X, labels).accuracy > 0.9
    assert net.weights[0].dtype == np.float32


def test_fit_changes_neither_samples_nor_labels() -> None:
    samples, labels = X.copy(), Y.copy()
    fitted(samples, labels, validation_split=0.3)
    np.testing.assert_array_equal(samples, X)
    np.testing.assert_array_equal(labels, Y)


# Validation.


def test_validation_data_are_evaluated_after_each_epoch() -> None:
    net = new_net()
    evaluations = []

    class Evaluate(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            evaluations.append(net.evaluate(X[:20], Y[:20]))

    history = net.fit(X, Y, epochs=3, batch_size=10, validation_data=(X[:20], Y[:20]), callbacks=[Evaluate()])
    assert history.validation_loss == [evaluation.loss for evaluation in evaluations]
    assert history.validation_accuracy == [evaluation.accuracy for evaluation in evaluations]
    assert_same_weights(net, fitted())


def test_validation_split_takes_the_last_samples() -> None:
    split, by_hand = new_net(), new_net()
    history = split.fit(X, Y, epochs=2, batch_size=10, validation_split=0.3)
    n_training = N - 15  # 30 % of 53, rounded down, is 15
    expected = by_hand.fit(
        X[:n_training],
        Y[:n_training],
        epochs=2,
        batch_size=10,
        validation_data=(X[n_training:], Y[n_training:]),
    )
    assert_same_weights(split, by_hand)
    assert history.validation_loss == expected.validation_loss


def test_validation_data_may_be_class_probabilities() -> None:
    one_hot = new_net().fit(X, Y, epochs=1, validation_data=(X, np.eye(3)[Y]))
    labels = new_net().fit(X, Y, epochs=1, validation_data=(X, Y))
    assert one_hot.validation_accuracy == labels.validation_accuracy
    assert one_hot.validation_loss == pytest.approx(labels.validation_loss, rel=1e-6)


# Threads.


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_given_are_the_threads_that_run(threads: int) -> None:
    net = Net([64, 70, 50, 10], seed=0)
    samples = np.random.default_rng(1).random((300, 64), dtype=np.float32)
    net.fit(samples, np.arange(300) % 10, epochs=1, batch_size=100, threads=threads)
    assert net._last_run is not None
    assert net._last_run.team_size == threads
    assert len(net._last_run.tasks_per_thread) == threads
    assert min(net._last_run.tasks_per_thread) > 0


# What is refused.


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 1, "steps": 1}, ValueError, r"either epochs or steps, not both \(epochs=1, steps=1\)"),
        ({"epochs": 0}, ValueError, "epochs must be a whole number from 1"),
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number .*, not 1.5"),
        ({"epochs": 2**31 - 2}, ValueError, "this one has had 3, and 2,147,483,646 more are too many"),
        ({"steps": 0}, ValueError, "steps must be a whole number"),
        ({"steps": True}, TypeError, "steps must be a whole number .*, not True"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": None}, TypeError, "batch_size .*, not None"),
        ({"optimizer": Adam}, TypeError, "optimizer is the class Adam; pass an instance"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an instance such as Adam"),
        ({"callbacks": [print]}, TypeError, r"callbacks\[0\] must be an instance"),
        ({"callbacks": [Callback]}, TypeError, r"callbacks\[0\] is the class Callback"),
        ({"callbacks": 3}, TypeError, "callbacks must be a sequence"),
        ({"callbacks": None}, TypeError, "callbacks must be a sequence"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be True or False, not 'yes'"),
        ({"shuffle": None}, TypeError, "shuffle must be True or False"),
        ({"threads": 0}, ValueError, "threads must be a whole number from 1 to 1024, not 0"),
        ({"threads": 10**6}, ValueError, "threads must be a whole number from 1 to 1024, not 1000000"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"validation_split": 1.0}, ValueError, "validation_split must be at least 0 and less than 1, not 1"),
        ({"validation_split": 0.001}, ValueError, r"0.001 of 53 sample\(s\) leaves none for validation"),
        ({"validation_split": "half"}, TypeError, "validation_split"),
        (
            {"validation_split": 0.5, "validation_data": (X, Y)},
            ValueError,
            "either validation_data or validation_split",
        ),
        ({"validation_data": X}, TypeError, r"validation_data must be two arrays, \(X, y\), not ndarray"),
        ({"validation_data": (X, Y, Y)}, TypeError, "two arrays, .* not 3 of them"),
        (
            {"validation_data": (X[:, :5], Y)},
            ValueError,
            "validation_data's X has 5 features per sample, but this net takes 6",
        ),
        (
            {"validation_data": (X, Y[:9])},
            ValueError,
            "validation_data's y has 9 entries, but validation_data's X has 53",
        ),
        ({"validation_data": (X[:0], Y[:0])}, ValueError, "validation_data's X has no samples; validation"),
        ({"X": X[:0], "y": Y[:0]}, ValueError, "X has no samples; training needs at least one"),
        ({"X": []}, ValueError, "X has no samples"),
        ({"X": X[:, :5]}, ValueError, "X has 5 features per sample, but this net takes 6"),
        ({"X": X.astype(object)}, TypeError, "X must be an array of real numbers"),
        ({"y": Y + 1}, ValueError, r"y\[2\] is 3, but this net has 3 classes"),
        ({"y": Y[:-1]}, ValueError, "y has 52 entries, but X has 53 samples"),
        ({"y": Y / 2}, TypeError, "y holds float64 numbers"),
    ],
)
def test_fit_bad_argument_is_an_error_before_any_work(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    net = fitted()
    history = net.history
    arguments = {"X": X, "y": Y} | settings
    with pytest.raises(error, match=message):
        net.fit(arguments.pop("X"), arguments.pop("y"), **arguments)
    assert net.history is history
    assert net.n_epochs == 3
    net.fit(X, Y, epochs=1, batch_size=10)
    assert_same_weights(net, fitted(epochs=4))


class FirstCallError(Exception):
    """Raised in place of the first call of the core, with how many steps it would do."""


def steps_of_first_call(monkeypatch: pytest.MonkeyPatch, sizes: list[int], **settings: Any) -> int:
    def train(network: SharedNetwork, arguments: Any, results: Any) -> None:
        raise FirstCallError(len(arguments["learning_rates"]))

    monkeypatch.setattr(SharedNetwork, "train", train)
    features, targets = np.ones((1000, sizes[0]), np.float32), np.zeros((1000, sizes[-1]), np.float32)
    with pytest.raises(FirstCallError) as caught:
        Net(sizes, loss="squared_error", seed=0).fit(features, targets, **({"steps": 10**4} | settings))
    return int(caught.value.args[0])


@pytest.mark.parametrize(
    ("sizes", "batch_size", "fewest", "most"),
    [
        ([4, 8, 2], 8, 50, 64),
        ([30, 100, 2], 200, 50, 64),
        ([784, 200, 10], 32, 5, 32),
        ([784, 1000, 10], 1000, 1, 1),
        ([1] * 1002, 1, 2, 10),
        ([1] * 302, 1000, 1, 1),
    ],
)
def test_first_call_has_many_steps_if_they_are_short_and_nobody_looks_on(
    sizes: list[int], batch_size: int, fewest: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fewest <= steps_of_first_call(monkeypatch, sizes, batch_size=batch_size) <= most


@pytest.mark.parametrize(
    "settings", [{"callbacks": [Callback()]}, {"validation_split": 0.1}, {"threads": 1024}], ids=str
)
def test_first_call_has_one_step_if_somebody_looks_on_or_threads_must_wait(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps_of_first_call(monkeypatch, [4, 8, 2], batch_size=8, **settings) == 1


@pytest.mark.parametrize("labels", [np.zeros(N), np.arange(N) % 2])
def test_net_with_one_output_says_which_losses_suit_it(labels: np.ndarray) -> None:
    with pytest.raises((TypeError, ValueError), match=r'loss="squared_error".*"sigmoid_cross_entropy"'):
        Net([6, 1], seed=0).fit(X, labels)


# What is noticed.


def dead_net(activation: str = "relu") -> Net:
    net = Net([6, 5, 4, 3], activation=activation, seed=0)
    biases = net.biases
    net.set_weights(net.weights, [biases[0] - 1e3, *biases[1:]])
    return net


def test_layer_that_is_dead_as_a_whole_warns_and_is_noted() -> None:
    net = dead_net()
    with pytest.warns(UserWarning, match=r"All 5 units of hidden layer 1 \(relu\) give 0") as caught:
        net.fit(X, Y, epochs=20, optimizer=SGD(1e-6))
    assert caught[0].filename == __file__
    assert any("hidden layer 1" in note for note in net.history.notes)


def images_of_noise() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (53, 6), np.uint8)


@pytest.mark.parametrize(
    ("pixels_first", "message"),
    [
        (True, r"^X holds pixels \(uint8\).*, but validation_data's X holds numbers up to 255: these are"),
        (False, r"^X holds numbers up to 255, but validation_data's X holds pixels \(uint8\).*: these are"),
    ],
)
def test_pixels_beside_numbers_up_to_255_warn(pixels_first: bool, message: str) -> None:
    images = images_of_noise()
    both = (images, images.astype(np.float32))
    training, validation = both if pixels_first else both[::-1]
    with pytest.warns(UserWarning, match=message) as caught:
        Net([6, 3], seed=0).fit(training, Y, epochs=1, validation_data=(validation, Y))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("scaled", [np.uint8, np.float32])
def test_pixels_beside_pixels_do_not_warn(scaled: type) -> None:
    images = images_of_noise()
    validation = images if scaled is np.uint8 else images / np.float32(255)
    Net([6, 3], seed=0).fit(images, Y, epochs=1, validation_data=(validation, Y))


PREDICTIONS = [
    lambda net, X: net.predict(X),
    lambda net, X: net.predict_proba(X, threads=1),
    lambda net, X: net.logits(X),
    lambda net, X: net.evaluate(X, Y),
]


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_predictions_on_another_scale_than_training_warn(predict: Any) -> None:
    images = images_of_noise()
    net = Net([6, 3], seed=0)
    net.fit(images, Y, epochs=1)
    for same in (images, images / np.float32(255), images // 128):
        predict(net, same)
    with pytest.warns(UserWarning, match=r"X holds numbers up to 255, but what .* holds pixels") as caught:
        predict(net, images.astype(np.float32))
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"X holds numbers up to 255, but what .* holds pixels"):
        predict(pickle.loads(pickle.dumps(net)), images.astype(np.float32))
    with pytest.warns(UserWarning, match=r"X holds numbers up to 255, but what"):
        net.fit(images.astype(np.float32), Y, epochs=1)
    with pytest.warns(UserWarning, match=r"X holds pixels .* but what .* holds numbers up to 255"):
        predict(net, images)


def test_numbers_of_a_table_that_count_as_pixels_warn() -> None:
    codes = images_of_noise() // 128
    net = Net([6, 3], seed=0)
    with pytest.warns(UserWarning, match=r"X holds uint8 numbers up to 1, which count as pixels") as caught:
        net.fit(codes, Y, epochs=1)
    assert caught[0].filename == __file__
    net.fit(codes.astype(np.float32), Y, epochs=1)
    with pytest.warns(UserWarning, match=r"X holds uint8 numbers up to 1, which count as pixels"):
        net.predict(codes)
    net.predict(codes.astype(bool))
    net.predict(images_of_noise())
    net.predict(codes + np.uint8(16))
    net.predict(np.zeros((9, 6), np.uint8))
    net.predict(np.zeros((0, 6), np.uint8))


@pytest.mark.parametrize(("largest", "warns"), [(1.4, False), (3.0, True), (np.inf, False)])
def test_validation_is_compared_with_pixels_by_its_largest_number(largest: float, warns: bool) -> None:
    images, numbers = images_of_noise(), X.copy()
    numbers[0] = largest
    net = Net([6, 3], seed=0)
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(NonFiniteInputError):
        warnings.simplefilter("always")
        net.fit(images, Y, epochs=1, validation_data=(numbers, Y))
    assert len(caught) == warns


def test_wide_images_are_judged_by_more_than_the_first() -> None:
    images = np.full((9, 300_000), 200, np.uint8)
    images[0] = 0
    net = Net([300_000, 2], seed=0)
    net.fit(images, np.arange(9) % 2, epochs=1)
    with pytest.warns(UserWarning, match="X holds numbers up to 200, but"):
        net.predict(images.astype(np.float32))


def test_what_a_net_was_trained_on_is_known_from_the_first_step_until_weights_are_set() -> None:
    images = images_of_noise()
    bad = images.astype(np.float32)
    bad[1] = np.nan
    net = Net([6, 3], seed=0)
    with pytest.raises(NonFiniteInputError):
        net.fit(bad, Y, epochs=1)
    net.fit(images, Y, epochs=1)
    with pytest.warns(UserWarning, match="X holds numbers up to 255, but"):
        net.fold_batch_norm().predict(images.astype(np.float32))
    net.set_weights(net.weights, net.biases)
    net.predict(images.astype(np.float32))


def test_few_dead_units_are_no_note() -> None:
    net = Net([6, 9, 3], seed=0)
    net.set_weights(net.weights, [[-1e3, -1e3, *[0.5] * 7], net.biases[1]])
    assert net.fit(X, Y, epochs=20, optimizer=SGD(1e-6)).notes == []


def test_single_dead_units_are_noted_without_a_warning() -> None:
    net = Net([6, 5, 3], seed=0)
    net.set_weights(net.weights, [[-1e3, 0.5, 0.5, -1e3, 0.5], net.biases[1]])
    history = net.fit(X, Y, epochs=20, optimizer=SGD(1e-6))
    assert history.notes == [
        "2 of 5 units of hidden layer 1 (relu) give 0 for each of 53 training samples: they are dead and "
        "take no part in training."
    ]


def test_notes_do_not_depend_on_how_many_rows_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes() -> list[str]:
        net = Net([6, 5, 4, 3], seed=0)
        first, second, last = net.biases
        net.set_weights(net.weights, [first - np.eye(5, dtype=np.float32)[1] * 1e3, second - 1e3, last])
        with pytest.warns(UserWarning, match="All 4 units of hidden layer 2"):
            return net.fit(X, Y, epochs=20, optimizer=SGD(1e-6)).notes

    together = notes()
    assert len(together) == 2 and " of 5 units of hidden layer 1" in together[0]
    monkeypatch.setattr(_notes, "_ROWS_PER_LOOK", 7)
    assert notes() == together


def test_sample_that_is_no_number_and_not_trained_on_costs_no_other_note() -> None:
    samples = np.random.default_rng(3).random((3000, 6), dtype=np.float32)
    samples[:, 2] = 7
    samples[-1, 0] = np.nan
    net = Net([6, 5, 3], seed=0)
    net.set_weights(net.weights, [[-1e3, 0, 0, 0, 0], net.biases[1]])
    labels = np.arange(3000) % 3
    history = net.fit(samples, labels, steps=20, batch_size=100, shuffle=False, optimizer=SGD(1e-6))
    assert len(history.notes) == 1
    assert history.notes[0].startswith("1 of 6 features have one and the same value")


def test_constant_features_are_noted_unless_zero() -> None:
    samples = X.copy()
    samples[:, 1] = 0
    samples[:, [2, 4]] = 7
    history = Net([6, 3], seed=0).fit(samples, Y, epochs=20)
    assert len(history.notes) == 1
    assert history.notes[0].startswith("2 of 6 features have one and the same value")
    assert "(features 2, 4)" in history.notes[0]


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh", "identity"])
def test_activations_that_cannot_die_are_not_suspected(activation: str) -> None:
    assert dead_net(activation).fit(X, Y, epochs=20, optimizer=SGD(1e-6)).notes == []


def test_nothing_is_looked_for_after_few_steps() -> None:
    assert dead_net().fit(X, Y, steps=1, optimizer=SGD(1e-6)).notes == []
