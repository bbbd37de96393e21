"""Net but for its training: construction, prediction, evaluation, weights, files, copies."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastmlp import Evaluation, Net, NonFiniteInputError, Normal, _core, _samples
from fastmlp._shared_network import SharedNetwork

RNG = np.random.default_rng(0)
X = RNG.random((50, 6), dtype=np.float32)
Y = np.arange(50) % 3


@pytest.fixture
def net() -> Net:
    return Net([6, 5, 4, 3], activation=["relu", "tanh"], seed=1)


def parameters(net: Net) -> list[np.ndarray]:
    return [*net.weights, *net.biases]


def assert_same_parameters(one: Net, other: Net) -> None:
    for a, b in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Construction.


def test_net_tells_what_it_is(net: Net) -> None:
    assert net.layer_sizes == (6, 5, 4, 3)
    assert net.activations == ("relu", "tanh")
    assert net.n_parameters == 7 * 5 + 6 * 4 + 5 * 3 == sum(array.size for array in parameters(net))
    assert (net.precision, net.seed, net.n_epochs) == ("float32", 1, 0)
    assert net.instruction_set
    assert repr(net) == "<Net 6 -> 5 relu -> 4 tanh -> 3: 74 parameters, float32, seed 1, 0 epochs>"


def test_net_one_activation_serves_all_hidden_layers() -> None:
    assert Net([2, 3, 4, 5], activation="gelu", seed=0).activations == ("gelu", "gelu")
    assert Net([2, 3, 4, 5], activation=np.array("gelu"), seed=0).activations == ("gelu", "gelu")
    assert Net([2, 5], activation="gelu", seed=0).activations == ()


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([784], ValueError, "at least inputs and outputs, not 1"),
        ([], ValueError, "at least inputs and outputs, not 0"),
        ([784, 0, 10], ValueError, r"layer_sizes\[1\] must be a whole number from 1 to .*, not 0"),
        ([784, -5], ValueError, r"layer_sizes\[1\]"),
        ([784, 10.0], TypeError, r"layer_sizes\[1\] .* not 10.0"),
        ([784, True], TypeError, r"layer_sizes\[1\] .* not True"),
        ([784, "10"], TypeError, r"layer_sizes\[1\] .* not '10'"),
        ([784, 10**5000], ValueError, r"layer_sizes\[1\]"),
        ([2**31 - 1] * 3, ValueError, "parameters, too many"),
        ("784", TypeError, "layer_sizes must be the units of each layer"),
        (784, TypeError, "layer_sizes must be the units of each layer"),
        (None, TypeError, "layer_sizes must be the units of each layer"),
    ],
)
def test_net_bad_layer_sizes_are_an_error(sizes: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Net(sizes)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"activation": "softmax"}, ValueError, "activation must be one of relu, tanh, .*, not softmax"),
        (
            {"activation": ["relu"]},
            ValueError,
            r"activation has 1 names, .* 2 hidden layer\(s\)",
        ),
        ({"activation": ["relu", "elu"]}, ValueError, r"activation\[1\] must be one of"),
        ({"activation": {"relu", "tanh"}}, TypeError, "or one such name for each hidden layer, not set"),
        ({"activation": b"relu"}, TypeError, "activation must be one of .*, not bytes"),
        ({"activation": None}, TypeError, "activation must be one of .*, not None"),
        ({"activation": ["relu", 1]}, TypeError, r"activation\[1\]"),
        (
            {"precision": "float64"},
            ValueError,
            "precision must be one of .*, not float64",
        ),
        ({"precision": np.float32}, TypeError, "precision"),
        ({"seed": -1}, ValueError, "seed must be a whole number from 0 to 18446744073709551615, not -1"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": 1.0}, TypeError, "seed .* not 1.0"),
    ],
)
def test_net_bad_setting_is_an_error_that_names_it(
    settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Net([6, 5, 4, 3], **settings)


# Prediction.


def test_predictions_agree_with_one_another_and_with_the_weights(net: Net) -> None:
    logits = net.logits(X)
    assert logits.shape == (50, 3)
    assert logits.dtype == np.float32
    hidden = np.tanh(np.maximum(X @ net.weights[0], 0) @ net.weights[1])
    # Three products of at most 6 terms around 1: a few dozen roundings of 6e-8.
    np.testing.assert_allclose(logits, hidden @ net.weights[2], atol=1e-5)
    probabilities = net.predict_proba(X)
    np.testing.assert_allclose(
        probabilities, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert probabilities.dtype == np.float32
    predicted = net.predict(X)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, logits.argmax(axis=1))


def test_predictions_of_no_samples_are_empty(net: Net) -> None:
    for nothing in (np.empty((0, 6)), np.empty((0, 2, 3), np.uint8), []):
        assert net.predict(nothing).shape == (0,)
        assert net.predict_proba(nothing).shape == net.logits(nothing).shape == (0, 3)


def test_net_without_hidden_layer_and_net_with_one_class_work() -> None:
    linear = Net([6, 3], seed=0)
    np.testing.assert_allclose(linear.logits(X), X @ linear.weights[0], atol=1e-5)
    sure = Net([6, 1], seed=0)
    assert (sure.predict(X) == 0).all()
    assert (sure.predict_proba(X) == 1).all()
    assert sure.evaluate(X, np.zeros(50, int)).accuracy == 1


def test_uint8_counts_as_pixels(net: Net) -> None:
    pixels = RNG.integers(0, 256, (50, 6), dtype=np.uint8)
    # p / 255 is rounded once here and once, elsewhere, there.
    np.testing.assert_allclose(net.logits(pixels), net.logits(pixels / 255), atol=1e-5)


def test_predict_obeys_its_threads_and_refuses_nonsense(net: Net) -> None:
    np.testing.assert_array_equal(net.logits(X, threads=1), net.logits(X, threads=3))
    for bad, error in ((0, ValueError), (1025, ValueError), (1.0, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="threads must be a whole number from 1 to 1024"):
            net.predict(X, threads=bad)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((2, 5)), ValueError, "X has 5 features per sample, but this net takes 6"),
        (np.zeros((2, 3, 3)), ValueError, "X has 9 features per sample, but this net takes 6"),
        (np.zeros(6), ValueError, r"looks like a single sample; pass X\[np.newaxis\]"),
        (np.zeros((2, 3)), ValueError, r"looks like a single sample; pass X\[np.newaxis\]"),
        (np.zeros((0, 5)), ValueError, "X has 5 features per sample"),
        (np.float32(1), ValueError, "X is a single number"),
        ([[1, 2], [3]], ValueError, "X cannot be read as one array"),
        (np.zeros((2, 6), complex), TypeError, "not an array of complex128"),
        (np.zeros((2, 6), object), TypeError, "not an array of object"),
        ([["a"] * 6], TypeError, "not an array of <U1"),
        (np.zeros((2, 6), "datetime64[s]"), TypeError, "not an array of datetime64"),
        (np.zeros(2, "i4,i4"), TypeError, "array of real numbers"),
        (None, TypeError, "X must be an array of real numbers, not NoneType"),
        ("digit.png", TypeError, "X must be an array of real numbers, not str"),
    ],
)
def test_predict_bad_samples_are_an_error(
    net: Net, bad: object, error: type[Exception], message: str
) -> None:
    for method in (net.predict, net.predict_proba, net.logits):
        with pytest.raises(error, match=message):
            method(bad)


def test_wrong_number_of_pixels_names_the_image_shape_once_it_is_known() -> None:
    net = Net([12, 2], seed=0)
    net.fit(np.zeros((2, 3, 4), np.uint8), [0, 1], epochs=1)
    with pytest.raises(ValueError, match=r"11 features per sample, but this net takes 12 \(3 x 4 pixels\)"):
        net.predict(np.zeros((5, 11)))


def test_sparse_and_masked_arrays_are_refused_with_advice(net: Net) -> None:
    class Sparse:
        tocsr = toarray = lambda self: None

    with pytest.raises(TypeError, match=r"X is a sparse matrix; pass X.toarray\(\)"):
        net.predict(Sparse())
    masked = np.ma.masked_array(X, mask=X > 0.9)
    with pytest.raises(TypeError, match="X is a masked array"):
        net.predict(masked)
    np.testing.assert_array_equal(net.predict(np.ma.masked_array(X)), net.predict(X))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["in place", "converted", "strided"])
def test_non_finite_sample_is_named_by_row_and_column(net: Net, value: float, layout: str) -> None:
    bad = X.astype(np.float64 if layout == "converted" else np.float32)
    bad[7, 4] = value
    bad[30, 1] = value
    if layout == "strided":
        bad = np.repeat(bad, 2, axis=1)[:, ::2]
    for method in (net.predict, net.predict_proba, net.logits, lambda X: net.evaluate(X, Y)):
        with pytest.raises(NonFiniteInputError, match=rf"X\[7, 4\] is {value}") as caught:
            method(bad)
        assert caught.value.row == 7


def test_number_too_large_for_float32_is_named_with_all_its_indices(net: Net) -> None:
    bad = X.reshape(50, 2, 3).astype(np.float64)
    bad[3, 1, 2] = 1e300
    with pytest.raises(NonFiniteInputError, match=r"X\[3, 1, 2\] is 1e\+300, too large for float32"):
        net.predict(bad)


def test_non_finite_sample_in_a_later_chunk_is_named_by_its_row_in_x(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_samples, "_CHUNK_WORK", 8 * net.n_parameters)
    bad = X.copy()
    bad[41, 0] = np.nan
    with pytest.raises(NonFiniteInputError, match=r"X\[41, 0\] is nan") as caught:
        net.predict(bad)
    assert caught.value.row == 41


# Evaluation.


def test_evaluate_agrees_with_predictions(net: Net) -> None:
    evaluation = net.evaluate(X, Y)
    assert isinstance(evaluation, Evaluation)
    probabilities = net.predict_proba(X)[np.arange(50), Y]
    assert evaluation.loss == pytest.approx(-np.log(probabilities.astype(float)).mean(), rel=1e-5)
    predicted = net.predict(X)
    assert evaluation.accuracy == (predicted == Y).mean()
    assert evaluation.n_samples == 50
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (Y, predicted), 1)
    np.testing.assert_array_equal(evaluation.confusion_matrix, expected)
    assert evaluation.confusion_matrix.dtype == np.int64
    n_wrong = (predicted != Y).sum()
    assert str(evaluation).endswith(f"({n_wrong} of 50 samples wrong)")


def test_evaluate_takes_class_probabilities(net: Net) -> None:
    one_hot = np.eye(3)[Y]
    assert net.evaluate(X, one_hot).loss == pytest.approx(net.evaluate(X, Y).loss, rel=1e-6)
    np.testing.assert_array_equal(
        net.evaluate(X, one_hot).confusion_matrix, net.evaluate(X, Y).confusion_matrix
    )
    smoothed = 0.9 * one_hot + 0.1 / 3
    uniform = -np.log(net.predict_proba(X).astype(float)).mean()
    expected = 0.9 * net.evaluate(X, Y).loss + 0.1 * uniform
    assert net.evaluate(X, smoothed).loss == pytest.approx(expected, rel=1e-5)


def test_evaluate_is_the_same_in_any_number_of_chunks(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = net.evaluate(X, Y)
    logits = net.logits(X)
    monkeypatch.setattr(_samples, "_CHUNK_WORK", 7 * net.n_parameters)
    parts = net.evaluate(X, Y)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    np.testing.assert_array_equal(parts.confusion_matrix, whole.confusion_matrix)
    np.testing.assert_array_equal(net.logits(X), logits)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y[:49], ValueError, "y has 49 entries, but X has 50 samples"),
        (np.where(Y == 2, 3, Y), ValueError, r"y\[2\] is 3, but this net has 3 classes"),
        (Y - 1, ValueError, r"y\[0\] is -1, .* labels must be from 0 to 2"),
        (np.full(50, 2**63, np.uint64), ValueError, r"y\[0\] is 9223372036854775808"),
        (Y.astype(float), TypeError, r"y holds float64 numbers, .* pass y.astype\(np.int64\)"),
        (Y.astype(str), TypeError, "np.unique"),
        (Y.astype(object), TypeError, "not object values"),
        (Y.astype(complex), TypeError, "not complex128 values"),
        (None, TypeError, "y must hold class labels from 0 to 2"),
        (Y[:, np.newaxis], ValueError, r"pass np.ravel\(y\) if it holds labels"),
        (np.eye(4)[Y], ValueError, r"y has the shape \(50, 4\), but must be labels \(50,\) or .*\(50, 3\)"),
        (np.zeros((50, 3, 1)), ValueError, "y has the shape"),
        (np.float64(1), ValueError, r"y has the shape \(\)"),
        (np.zeros((50, 3)), ValueError, r"y\[0\] is \[0.0, 0.0, 0.0\], with the sum 0"),
        (np.eye(3)[Y] + [[0.5, -0.5, 0]], ValueError, "at least 0 and sum to 1"),
        (np.eye(3)[Y] * 1.002, ValueError, "with the sum 1.002"),
        (np.eye(3)[Y] * np.nan, ValueError, "with the sum nan"),
        ([[1, 0, 0], [1, 0]], ValueError, "y cannot be read as one array"),
    ],
)
def test_evaluate_bad_targets_are_an_error(net: Net, y: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        net.evaluate(X, y)


def test_evaluate_of_nothing_is_an_error(net: Net) -> None:
    with pytest.raises(ValueError, match="X has no samples; evaluation needs at least one"):
        net.evaluate(np.empty((0, 6)), [])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, ">i4", np.uint64, np.bool_])
def test_labels_may_be_of_any_integer_type(net: Net, dtype: object) -> None:
    labels = (Y % 2).astype(dtype)
    assert net.evaluate(X, labels).loss == net.evaluate(X, Y % 2).loss
    assert net.evaluate(X, np.repeat(labels, 3)[::3]).loss == net.evaluate(X, Y % 2).loss


# Weights.


def test_weights_are_read_only_copies(net: Net) -> None:
    weights, biases = net.weights, net.biases
    assert [w.shape for w in weights] == [(6, 5), (5, 4), (4, 3)]
    assert [b.shape for b in biases] == [(5,), (4,), (3,)]
    assert {array.dtype for array in (*weights, *biases)} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match="read-only"):
        weights[0][0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        biases[0][0] = 1
    before = weights[0].copy()
    net.set_weights([w * 0 for w in weights], biases)
    np.testing.assert_array_equal(weights[0], before)
    assert not net.weights[0].any()


def test_set_weights_takes_what_weights_gives_and_other_types_and_layouts(net: Net) -> None:
    other = Net(net.layer_sizes, activation=net.activations, initializer=Normal(0, 1, bias_too=True), seed=9)
    net.set_weights(other.weights, other.biases)
    assert_same_parameters(net, other)
    net.set_weights(
        [np.asfortranarray(w, dtype=">f8") for w in other.weights], [b[::-1][::-1] for b in other.biases]
    )
    assert_same_parameters(net, other)
    np.testing.assert_array_equal(net.logits(X), other.logits(X))


def test_set_weights_bad_arrays_are_an_error_and_change_nothing(net: Net) -> None:
    weights, biases = net.weights, net.biases
    for bad_weights, bad_biases, error, message in [
        (weights[:2], biases, ValueError, "weights has 2 arrays, but this net has 3 layers"),
        (weights, [*biases, biases[0]], ValueError, "biases has 4 arrays"),
        (
            [*weights[:2], weights[2].T],
            biases,
            ValueError,
            r"weights\[2\] .* \(3, 4\), .* \(4, 3\)",
        ),
        (weights, [*biases[:2], np.zeros((3, 1))], ValueError, r"biases\[2\] has the shape"),
        ([*weights[:2], weights[2] * np.nan], biases, ValueError, r"weights\[2\] holds values"),
        (
            [*weights[:2], np.full((4, 3), 1e300)],
            biases,
            ValueError,
            r"weights\[2\] holds values",
        ),
        ([*weights[:2], weights[2] + 1j], biases, TypeError, r"weights\[2\]"),
        (None, biases, TypeError, "weights must be a list of 3 arrays, not None"),
        (1, biases, TypeError, "weights must be a list of 3 arrays"),
    ]:
        with pytest.raises(error, match=message):
            net.set_weights(bad_weights, bad_biases)
    assert_same_parameters(net, Net([6, 5, 4, 3], activation=["relu", "tanh"], seed=1))


# What else a net knows.


@pytest.mark.parametrize(
    "name",
    ["layer_sizes", "activations", "initializer", "precision", "loss", "batch_norm", "dropout", "seed"],
)
def test_what_a_net_is_made_of_cannot_be_set_later(net: Net, name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name} is settled when a net is made and cannot be set later"):
        setattr(net, name, getattr(net, name))


def test_image_shape_and_class_names_are_checked_and_learned(net: Net) -> None:
    assert net.image_shape is None
    assert net.class_names is None
    net.image_shape = [2, 3]
    net.class_names = ["a", "b", "c"]
    assert (net.image_shape, net.class_names) == ((2, 3), ("a", "b", "c"))
    net.fit(X.reshape(50, 3, 2), Y, epochs=1)
    assert net.image_shape == (3, 2)
    net.fit(X, Y, epochs=1)  # flat samples say nothing about images
    assert net.image_shape == (3, 2)
    for bad, error in (((2, 4), ValueError), ((6, 0), ValueError), ("23", TypeError), (6, TypeError)):
        with pytest.raises(error, match="image_shape"):
            net.image_shape = bad
    for names, error in (
        (["a"], ValueError),
        (["a", "b", 3], TypeError),
        ("abc", TypeError),
        (["a", "b", "\ud800"], ValueError),  # no font and no UTF-8 file can have it
    ):
        with pytest.raises(error, match="class_names"):
            net.class_names = names
    net.image_shape = net.class_names = None
    assert net.image_shape is None
    assert net.class_names is None


# Files and copies.


def trained() -> Net:
    net = Net([6, 5, 3], activation="gelu", initializer=Normal(0.1, 0.3, bias_too=True), seed=2**64 - 1)
    net.fit(X.reshape(50, 2, 3), Y, epochs=3, validation_split=0.2)
    net.class_names = ("zero", "ett", "två")
    net.history.notes.append("café")
    return net


def assert_same_net(one: Net, other: Net) -> None:
    assert repr(one) == repr(other)
    assert_same_parameters(one, other)
    for name in ("activations", "initializer", "precision", "seed", "n_epochs", "image_shape", "class_names"):
        assert getattr(one, name) == getattr(other, name)
    assert vars(one.history).keys() == vars(other.history).keys()
    for name in ("loss", "validation_loss", "validation_accuracy", "seconds", "n_steps", "notes"):
        assert getattr(one.history, name) == getattr(other.history, name)
    np.testing.assert_array_equal(one.history.step_loss, other.history.step_loss)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def through_a_file(net: Net, folder: Path) -> Net:
    net.save(folder / "net.safetensors")
    return Net.load(str(folder / "net.safetensors"))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net)), "file"]
)
def test_net_survives_file_pickle_and_copy(copied: object, tmp_path: Path) -> None:
    net = trained()
    twin = through_a_file(net, tmp_path) if copied == "file" else copied(net)
    assert_same_net(net, twin)
    before = net.weights[0]
    twin.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(net.weights[0], before)
    assert net.n_epochs == 3
    assert twin.n_epochs == 4


def test_loaded_net_goes_on_with_the_order_of_the_next_epoch(tmp_path: Path) -> None:
    from fastmlp import SGD

    def fit(net: Net) -> Net:
        net.fit(X, Y, epochs=2, batch_size=7, optimizer=SGD(0.1))  # no moments to lose
        return net

    once = fit(fit(Net([6, 5, 3], seed=0)))
    assert_same_parameters(once, fit(through_a_file(fit(Net([6, 5, 3], seed=0)), tmp_path)))


def test_subclass_stays_a_subclass(tmp_path: Path) -> None:
    assert type(copy.deepcopy(Special([2, 2], seed=0))) is Special
    Special([2, 2], seed=0).save(tmp_path / "net.safetensors")
    assert type(Special.load(tmp_path / "net.safetensors")) is Special


class Special(Net):
    """At module level, so that it can be pickled."""


# Several threads.


def test_many_threads_predict_with_one_net(net: Net) -> None:
    expected = net.logits(X)
    wrong = []

    def predict() -> None:
        for _ in range(50):
            if not np.array_equal(net.logits(X), expected):
                wrong.append(1)

    threads = [threading.Thread(target=predict) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_net_that_no_memory_holds_says_how_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(_core, "Network", no_memory)
    with pytest.raises(MemoryError, match=r"a net of 1,000,001,000 parameters, which take 4\.0 GB"):
        Net([10**6, 1000])


def test_reading_starts_over_with_a_copy_when_the_weights_change_meanwhile() -> None:
    how = {
        "mixed_bfloat16": False,
        "loss": "softmax_cross_entropy",
        "batch_norm": (),
        "dropout": (),
        "seed": 0,
    }
    shared = SharedNetwork([2, 2], [], **how)
    ones = [np.ones((2, 2), np.float32)], [np.ones(2, np.float32)]
    networks = []

    def compute(network: object) -> list[float]:
        networks.append(network)
        first = network.weights(0)[0, 0]
        if len(networks) == 1:
            shared.assign(ones)
        return [first, network.weights(0)[0, 0]]

    assert shared.read(compute) == [1, 1]
    assert networks[0] is shared.network
    assert networks[1] is not shared.network
    assert len(networks) == 2


class InterruptedNetwork:
    """A network of the core; when one of its methods returns for the first time, a signal handler runs."""

    def __init__(self, network: object, method: str, handler: Callable[[], object]) -> None:
        self._network, self._method, self._handlers = network, method, [handler]

    def __getattr__(self, name: str) -> object:
        attribute = getattr(self._network, name)
        if name != self._method:
            return attribute

        def call(*arguments: object) -> object:
            result = attribute(*arguments)
            if self._handlers:
                self._handlers.pop()()
            return result

        return call


def test_weights_set_by_a_signal_handler_while_they_are_read_are_read_as_a_whole(net: Net) -> None:
    ones = [np.ones_like(weight) for weight in net.weights]
    biases = net.biases
    shared = net._network
    shared.network = InterruptedNetwork(shared.network, "weights", lambda: net.set_weights(ones, biases))
    for weight in net.weights:
        np.testing.assert_array_equal(weight, 1)


def test_signal_handler_while_weights_are_set_can_read_but_not_set_them(net: Net, tmp_path: Path) -> None:
    net.fit(X, Y, epochs=1)
    before, biases = net.weights, net.biases
    ones = [np.ones_like(weight) for weight in before]

    def handler() -> None:
        np.testing.assert_array_equal(net.weights[0], 1)
        net.save(tmp_path / "net")
        for forbidden in (
            lambda: net.set_weights(before, biases),
            lambda: net.fit(X, Y, epochs=1),
            lambda: net.save(tmp_path / "state", training_state=True),
        ):
            with pytest.raises(RuntimeError, match="has interrupted what is setting the weights"):
                forbidden()

    shared = net._network
    shared.network = InterruptedNetwork(shared.network, "set_parameters", handler)
    net.set_weights(ones, biases)
    np.testing.assert_array_equal(net.weights[0], 1)
    np.testing.assert_array_equal(Net.load(tmp_path / "net").weights[0], 1)
    net.save(tmp_path / "state", training_state=True)


def test_reading_that_begins_in_the_middle_of_a_change_does_not_trust_the_version(net: Net) -> None:
    shared = net._network
    networks = []

    def compute(network: object) -> list[int]:
        networks.append(network)
        return [1, 2]

    # The parameters change between two results, and the thread that changes them has no turn to say so.
    shared._change_version(lambda: shared.read(compute))
    assert len(networks) == 2
    networks.clear()
    shared.read(compute)
    assert len(networks) == 1
