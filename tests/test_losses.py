"""Nets with each loss: what targets they take, what they predict, how they are judged and saved."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest

from fastmlp import Adam, EarlyStopping, Net, NonFiniteLossError
from reference import sigmoid

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
LABELS = (X[:, :3] + X[:, 1:] > 0).astype(np.int64)  # three labels of each sample
NUMBERS = X[:, :2] * [2.0, -1.0] + 0.5
QUICK = {"batch_size": 20, "optimizer": Adam(0.02)}


def identity_net(loss: str, n: int = 2) -> Net:
    """Return a net whose outputs are its inputs."""
    net = Net([n, n], loss=loss, seed=0)
    net.set_weights([np.eye(n)], [np.zeros(n)])
    return net


def test_multi_label_net_learns_predicts_and_is_judged_by_whole_rows() -> None:
    net = Net([4, 16, 3], loss="sigmoid_cross_entropy", seed=0)
    history = net.fit(X, LABELS, epochs=60, validation_split=0.2, **QUICK)
    predicted = net.predict(X)
    assert predicted.dtype == np.int64
    assert predicted.shape == LABELS.shape
    probabilities = net.predict_proba(X)
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    assert probabilities.dtype == np.float32
    # The core's sigmoid and the oracle's of the same logits: tests/test_kernels.py has the bounds.
    np.testing.assert_allclose(probabilities, sigmoid(net.logits(X).astype(np.float64)), rtol=0, atol=1e-6)

    evaluation = net.evaluate(X, LABELS)
    assert evaluation.accuracy == np.mean((predicted == LABELS).all(axis=1)) > 0.9
    assert evaluation.loss < 0.1
    assert evaluation.confusion_matrix.shape == (3, 2, 2)
    for label, matrix in enumerate(evaluation.confusion_matrix):
        truth, taken = LABELS[:, label], predicted[:, label]
        expected = [[np.sum((truth == i) & (taken == j)) for j in (0, 1)] for i in (0, 1)]
        np.testing.assert_array_equal(matrix, expected)
    n_wrong = round(200 * (1 - evaluation.accuracy))
    assert f"({n_wrong} of 200 samples wrong)" in str(evaluation)
    last = net.evaluate(X[160:], LABELS[160:])
    assert (history.validation_loss[-1], history.validation_accuracy[-1]) == (last.loss, last.accuracy)


def test_regression_net_learns_predicts_numbers_and_knows_no_accuracy() -> None:
    net = Net([4, 16, 2], activation="tanh", loss="squared_error", seed=0)
    history = net.fit(X, NUMBERS, epochs=60, validation_split=0.2, **QUICK)
    predicted = net.predict(X)
    assert predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted, net.logits(X))
    assert np.mean((predicted - NUMBERS) ** 2) < 0.05 * NUMBERS.var()

    evaluation = net.evaluate(X, NUMBERS)
    # The mean of 400 squares, each rounded a few times in float32.
    assert evaluation.loss == pytest.approx(
        np.mean((predicted.astype(np.float64) - NUMBERS) ** 2), rel=10 * 2.0**-23
    )
    assert math.isnan(evaluation.accuracy)
    assert evaluation.confusion_matrix.shape == (0, 0)
    assert str(evaluation) == f"loss {evaluation.loss:.4g} (200 samples)"
    assert history.validation_accuracy == []
    assert history.validation_loss[-1] == net.evaluate(X[160:], NUMBERS[160:]).loss


def test_regression_net_has_no_probabilities() -> None:
    with pytest.raises(
        ValueError, match=r"squared_error: its outputs are numbers.*predict returns the outputs"
    ):
        identity_net("squared_error").predict_proba([[0.0, 0.0]])


@pytest.mark.parametrize(
    ("loss", "expected"), [("sigmoid_cross_entropy", [0, 0, 1]), ("squared_error", [-1.0, 0.0, 2.0])]
)
def test_single_output_takes_flat_targets_and_predicts_flat(loss: str, expected: list[float]) -> None:
    net = identity_net(loss, 1)
    x = np.array([[-1.0], [0.0], [2.0]], np.float32)
    np.testing.assert_array_equal(net.predict(x), expected)
    assert net.predict(x[:0]).shape == (0,)
    flat, rows = net.evaluate(x, [0, 1, 1]), net.evaluate(x, [[0.0], [1.0], [1.0]])
    assert flat.loss == rows.loss
    for targets in ([0, 1, 1], np.array([False, True, True]), np.array([[0], [1], [1]], np.uint8)):
        copy.deepcopy(net).fit(x, targets, epochs=1)


def test_evaluation_worked_by_hand_agrees() -> None:
    # Logits log 3 and 0: probabilities 3/4 and 1/2, the latter of which is not above 1/2.
    x = [[math.log(3), 0.0], [math.log(3), 0.0]]
    labels = identity_net("sigmoid_cross_entropy").evaluate(x, [[1, 0], [0, 0.75]])
    by_hand = (math.log(4 / 3) + math.log(2)) / 2, (math.log(4) + math.log(2)) / 2
    assert labels.loss == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    assert labels.accuracy == 0.5
    np.testing.assert_array_equal(labels.confusion_matrix, [[[0, 1], [0, 1]], [[1, 0], [1, 0]]])
    numbers = identity_net("squared_error").evaluate([[1.0, 2.0], [3.0, -1.0]], [[1, 4], [0, 0]])
    assert numbers.loss == (4 / 2 + 10 / 2) / 2


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_saved_copied_and_loaded_net_keeps_its_loss(loss: str, tmp_path: Path) -> None:
    net = Net([4, 5, 3], loss=loss, seed=1)
    net.fit(X, LABELS, epochs=1, validation_split=0.5)
    net.save(tmp_path / "net.safetensors")
    for other in (Net.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert other.loss == loss
        np.testing.assert_array_equal(other.predict(X), net.predict(X))
        assert other.evaluate(X, LABELS).loss == net.evaluate(X, LABELS).loss
        assert other.history.validation_accuracy == net.history.validation_accuracy
        assert f"float32, {loss}, seed 1" in repr(other)


@pytest.mark.parametrize("loss", ["softmax", "mse", "", None, 3])
def test_unknown_loss_is_refused_with_the_known_ones(loss: object) -> None:
    with pytest.raises((TypeError, ValueError), match="loss must be one of softmax_cross_entropy, sigmoid"):
        Net([2, 2], loss=loss)


# What the targets may not be; both losses, then one of them.
BAD_FOR_BOTH = [
    (np.zeros(200), "shape (200,), but must be "),
    (np.zeros((200, 2)), "shape (200, 2), but must be "),
    (np.zeros((200, 3, 1)), "shape (200, 3, 1), but must be "),
    (np.zeros((199, 3)), "y has 199 entries, but X has 200 samples"),
    (np.full((200, 3), "a"), "real numbers"),
    (np.full((200, 3), 1j), "real numbers"),
    (np.full((200, 3), np.nan), "y[0, 0] is nan"),
]


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize(("y", "message"), BAD_FOR_BOTH, ids=lambda value: str(np.shape(value)))
def test_targets_that_do_not_fit_are_refused_and_change_nothing(
    y: np.ndarray, message: str, loss: str
) -> None:
    net = Net([4, 3], loss=loss, seed=0)
    before = net.weights[0].tobytes()
    for call in (net.fit, net.evaluate):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(X, y)
        assert message in str(caught.value)
    assert net.weights[0].tobytes() == before
    assert net.n_epochs == 0


@pytest.mark.parametrize("bad", [1.5, -0.25, 2, np.inf])
def test_label_outside_of_0_to_1_is_refused_with_its_place(bad: float) -> None:
    y = LABELS.astype(np.float64)
    y[17, 2] = bad
    with pytest.raises(ValueError, match=r"y\[17, 2\] is .*labels must be from 0 to 1"):
        Net([4, 3], loss="sigmoid_cross_entropy").fit(X, y)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e39])
def test_number_that_is_not_finite_in_float32_is_refused_with_its_place(bad: float) -> None:
    y = LABELS.astype(np.float64)
    y[17, 2] = bad
    with pytest.raises(ValueError, match=r"y\[17, 2\] is .*finite numbers of float32"):
        Net([4, 3], loss="squared_error").fit(X, y)


def test_targets_of_any_type_and_layout_train_alike() -> None:
    y = np.round(RNG.random((200, 3)) * 8)  # whole numbers, exact in every type
    results = set()
    for targets in (
        y,
        y.astype(np.float32),
        y.astype(np.int16),
        np.asfortranarray(y),
        y.astype(">f4"),
        y.tolist(),
    ):
        net = Net([4, 3], loss="squared_error", seed=0)
        net.fit(X, targets, epochs=2)
        results.add(net.weights[0].tobytes())
    assert len(results) == 1


def test_early_stopping_on_accuracy_without_any_is_refused() -> None:
    stopping = EarlyStopping(monitor="validation_accuracy")
    with pytest.raises(ValueError, match=r'there is none; use EarlyStopping\(monitor="validation_loss"\)'):
        Net([4, 2], loss="squared_error").fit(X, NUMBERS, validation_split=0.5, callbacks=[stopping])


def test_squared_error_that_overflows_ends_the_fit_with_the_weights_before() -> None:
    net = Net([4, 2], loss="squared_error", seed=0)
    before = net.weights[0]
    with pytest.raises(NonFiniteLossError, match="step 1 "):
        net.fit(X, np.full((200, 2), 1e25), epochs=1)
    np.testing.assert_array_equal(net.weights[0], before)
