"""Weights of samples and classes, and label smoothing, through the public face."""

from __future__ import annotations

import numpy as np
import pytest

from error_bounds import UNIT_ROUNDOFF, bounds
from fastmlp import SGD, Net
from reference import LOSSES, ReferenceNet, cross_entropy, smoothed, target_rows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = RNG.choice(3, 60, p=[0.7, 0.2, 0.1])
TARGETS = {
    "softmax_cross_entropy": Y,
    "sigmoid_cross_entropy": RNG.integers(0, 2, (60, 3)),
    "squared_error": RNG.normal(size=(60, 3)),
}
WEIGHTS = RNG.integers(0, 4, 60)  # whole, and divided by 3 when the core sees them


def new_net(loss: str = "softmax_cross_entropy") -> Net:
    return Net([5, 8, 3], activation="tanh", loss=loss, seed=1)


def oracle_like(net: Net) -> ReferenceNet:
    return ReferenceNet(net.weights, net.biases, net.activations, loss=net.loss)


def as_bytes(net: Net) -> list[bytes]:
    return [array.tobytes() for array in [*net.weights, *net.biases]]


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_2_in_a_full_batch_equals_the_sample_twice(loss: str) -> None:
    weights = RNG.integers(1, 3, 60)
    twice = np.repeat(np.arange(60), weights)
    y = np.asarray(TARGETS[loss], None if loss == "softmax_cross_entropy" else np.float32)
    start, weighted, repeated = new_net(loss), new_net(loss), new_net(loss)
    rate = 1.0
    how = {"steps": 1, "batch_size": 200, "optimizer": SGD(rate)}
    a = weighted.fit(X, y, sample_weight=weights, **how)
    b = repeated.fit(X[twice], y[twice], **how)

    # Both err from the same exact gradient and loss, each by at most its bound; the update rounds the rate's
    # product with the gradient (exact, for a rate of 1) and the difference from the parameter.
    net = oracle_like(start)
    bound_a = bounds(net, X, y, weights=weights.astype(np.float32))
    bound_b = bounds(net, X[twice], y[twice])
    exact = net.gradients(X, y, weights=weights)
    loss_bound = bound_a.mean_loss + bound_b.mean_loss + 2 * UNIT_ROUNDOFF * exact.mean_loss
    assert abs(float(a.step_loss[0]) - float(b.step_loss[0])) <= loss_bound
    # The epoch's loss is that of its only step, whose product with its weight is divided by it in float64.
    assert a.loss == pytest.approx([a.step_loss[0]], rel=1e-15)
    errors = zip([*bound_a.weights, *bound_a.biases], [*bound_b.weights, *bound_b.biases], strict=True)
    pairs = zip([*weighted.weights, *weighted.biases], [*repeated.weights, *repeated.biases], strict=True)
    for (mine, other), (error_a, error_b) in zip(pairs, errors, strict=True):
        bound = rate * (error_a + error_b) + UNIT_ROUNDOFF * (np.abs(mine) + np.abs(other))
        assert (np.abs(mine.astype(np.float64) - other) <= bound).all()


def test_weights_count_by_their_ratios_alone() -> None:
    results = []
    for weights in (WEIGHTS, WEIGHTS * 2.0**100, (WEIGHTS * 2.0**-100).astype(np.float32), WEIGHTS.tolist()):
        net = new_net()
        net.fit(X, Y, epochs=3, batch_size=7, sample_weight=weights)
        results.append((as_bytes(net), net.evaluate(X, Y, sample_weight=weights).loss))
    assert results == results[:1] * 4


@pytest.mark.parametrize("factor", [2.0**1000, 2.0**-1000])
def test_weights_of_samples_and_classes_count_by_their_ratios_however_large(factor: float) -> None:
    relative = np.where(Y == 0, 0.25, 1.0) * WEIGHTS
    plain, extreme = new_net(), new_net()
    plain.fit(X, Y, epochs=3, batch_size=7, sample_weight=relative)
    class_weight = {0: 2.0**120, 1: 2.0**122, 2: 2.0**122}
    extreme.fit(X, Y, epochs=3, batch_size=7, sample_weight=WEIGHTS * factor, class_weight=class_weight)
    assert as_bytes(extreme) == as_bytes(plain)
    found = extreme.evaluate(X, Y, sample_weight=WEIGHTS * factor, class_weight=class_weight)
    assert found.loss == plain.evaluate(X, Y, sample_weight=relative).loss


def test_weights_of_1_give_the_bits_of_no_weights() -> None:
    plain, weighted = new_net(), new_net()
    a = plain.fit(X, Y, epochs=3, batch_size=7)
    b = weighted.fit(
        X, Y, epochs=3, batch_size=7, sample_weight=np.full(60, 7), class_weight={}, label_smoothing=0
    )
    assert as_bytes(plain) == as_bytes(weighted)
    assert a.loss == b.loss
    assert plain.evaluate(X, Y).loss == weighted.evaluate(X, Y, sample_weight=np.ones(60)).loss


def test_weights_of_samples_that_are_converted_call_by_call_are_theirs() -> None:
    in_place, converted = new_net(), new_net()
    in_place.fit(X, Y, epochs=3, batch_size=7, sample_weight=WEIGHTS)
    converted.fit(X.astype(np.float64), Y, epochs=3, batch_size=7, sample_weight=WEIGHTS)
    assert as_bytes(in_place) == as_bytes(converted)


def test_sample_of_weight_0_changes_nothing() -> None:
    kept = WEIGHTS > 0
    y = np.where(kept, Y, (Y + 1) % 3)
    results = []
    for labels in (Y, y):
        net = new_net()
        net.fit(X, labels, epochs=3, batch_size=60, shuffle=False, sample_weight=WEIGHTS)
        results.append(as_bytes(net))
    assert results[0] == results[1]


def test_epochs_loss_is_the_weighted_mean_of_what_was_trained_on() -> None:
    # With a rate so small that the net stays as it is, epochs and evaluation see the same losses.
    net = new_net()
    nothing = SGD(1e-30)
    history = net.fit(X, Y, epochs=1, batch_size=7, optimizer=nothing, sample_weight=WEIGHTS)
    # Losses of steps are rounded to float32 once, those of samples not at all.
    expected = net.evaluate(X, Y, sample_weight=WEIGHTS).loss
    assert history.loss[0] == pytest.approx(expected, rel=UNIT_ROUNDOFF)
    history = net.fit(X, Y, steps=2, batch_size=7, shuffle=False, optimizer=nothing, sample_weight=WEIGHTS)
    expected = net.evaluate(X[:14], Y[:14], sample_weight=WEIGHTS[:14]).loss
    assert history.loss[0] == pytest.approx(expected, rel=UNIT_ROUNDOFF)


def test_epoch_whose_weights_are_all_0_has_loss_0() -> None:
    weights = np.where(np.arange(60) < 14, 0, 1)
    net = new_net()
    before = as_bytes(net)
    history = net.fit(X, Y, steps=2, batch_size=7, shuffle=False, optimizer=SGD(1.0), sample_weight=weights)
    assert history.loss == [0.0]
    assert as_bytes(net) == before


def test_class_weight_is_a_sample_weight_for_each_of_the_class() -> None:
    by_class, by_sample, rows = new_net(), new_net(), new_net()
    own = RNG.random(60)
    how = {"epochs": 3, "batch_size": 7}
    by_class.fit(X, Y, sample_weight=own, class_weight={0: 0.5, 2: 4}, **how)
    by_sample.fit(X, Y, sample_weight=own * np.array([0.5, 1, 4])[Y], **how)
    assert as_bytes(by_class) == as_bytes(by_sample)
    # Rows of probabilities count as their most probable class.
    rows.fit(X, np.eye(3)[Y], sample_weight=own, class_weight={0: 0.5, 2: 4}, **how)
    assert rows.history.loss == pytest.approx(by_class.history.loss, rel=1e-5)


def test_balanced_class_weight_makes_all_classes_present_count_alike() -> None:
    y = np.where(Y == 1, 0, Y)  # no sample of class 1
    counts = np.bincount(y, minlength=3)
    balanced, by_hand = new_net(), new_net()
    balanced.fit(X, y, epochs=3, batch_size=7, class_weight="balanced")
    by_hand.fit(X, y, epochs=3, batch_size=7, class_weight={0: 60 / (2 * counts[0]), 2: 60 / (2 * counts[2])})
    assert as_bytes(balanced) == as_bytes(by_hand)

    # Balanced accuracy is the mean recall; its weights are rounded to float32.
    evaluation = balanced.evaluate(X, y, class_weight="balanced")
    predicted = balanced.predict(X)
    recalls = [np.mean(predicted[y == label] == label) for label in (0, 2)]
    assert evaluation.accuracy == pytest.approx(np.mean(recalls), rel=1e-6)
    losses = cross_entropy(balanced.logits(X).astype(np.float64), y)
    expected = np.mean([losses[y == label].mean() for label in (0, 2)])
    assert evaluation.loss == pytest.approx(expected, rel=1e-6)
    n_wrong = int(np.sum(predicted != y))
    assert evaluation.n_wrong == n_wrong
    assert f"({n_wrong} of 60 samples wrong)" in str(evaluation)
    assert f"accuracy {100 * evaluation.accuracy:.2f} % (weighted)" in str(evaluation)
    np.testing.assert_array_equal(evaluation.confusion_matrix, balanced.evaluate(X, y).confusion_matrix)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_label_smoothing_trains_on_smoothed_labels(loss: str) -> None:
    # A step's loss agrees with the oracle's of smoothed rows to within the core's bounds.
    net = new_net(loss)
    oracle, y = oracle_like(net), TARGETS[loss]
    history = net.fit(X, y, steps=1, batch_size=60, label_smoothing=0.1)
    exact = oracle.gradients(X, y, label_smoothing=0.1).mean_loss
    bound = bounds(oracle, X, y, label_smoothing=0.1).mean_loss + UNIT_ROUNDOFF * exact
    assert abs(float(history.step_loss[0]) - exact) <= bound
    plain = oracle.gradients(X, smoothed(target_rows(y, 3), 0.1, loss)).mean_loss
    assert exact == pytest.approx(plain, rel=1e-14)
    assert (
        abs(exact - oracle.gradients(X, y).mean_loss) > 100 * bound
    )  # it is not the loss of labels as given


def test_validation_knows_neither_weights_nor_smoothing() -> None:
    net = new_net()
    how = {"sample_weight": WEIGHTS, "class_weight": "balanced", "label_smoothing": 0.2}
    history = net.fit(X, Y, epochs=2, batch_size=7, validation_split=0.25, **how)
    plain = net.evaluate(X[45:], Y[45:])
    assert (history.validation_loss[-1], history.validation_accuracy[-1]) == (plain.loss, plain.accuracy)
    # Held-out samples have no say in what "balanced" means either.
    other = new_net()
    other.fit(X[:45], Y[:45], epochs=2, batch_size=7, **(how | {"sample_weight": WEIGHTS[:45]}))
    assert as_bytes(net) == as_bytes(other)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"sample_weight": np.ones(59)}, ValueError, r"shape \(59,\), but must be \(60,\)"),
        ({"sample_weight": np.ones((60, 1))}, ValueError, r"shape \(60, 1\), but must be \(60,\)"),
        ({"sample_weight": 1.0}, ValueError, r"shape \(\), but must be \(60,\)"),
        ({"sample_weight": ["a"] * 60}, TypeError, "sample_weight must be an array of real numbers"),
        ({"sample_weight": np.r_[np.ones(59), -1]}, ValueError, r"sample_weight\[59\] is -1.0"),
        ({"sample_weight": np.r_[np.nan, np.ones(59)]}, ValueError, r"sample_weight\[0\] is nan"),
        ({"sample_weight": np.r_[np.inf, np.ones(59)]}, ValueError, r"sample_weight\[0\] is inf"),
        ({"sample_weight": np.zeros(60)}, ValueError, "All weights of the samples are 0"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "All weights of the samples are 0"),
        ({"class_weight": "even"}, ValueError, "class_weight must be one of balanced, or a dict"),
        ({"class_weight": [1, 2, 3]}, TypeError, 'class_weight must be "balanced" or a dict'),
        (
            {"class_weight": {3: 1.0}},
            ValueError,
            "a label in class_weight must be a whole number from 0 to 2",
        ),
        ({"class_weight": {"0": 1.0}}, TypeError, "a label in class_weight must be a whole number"),
        ({"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] must be at least 0"),
        ({"class_weight": {0: None}}, TypeError, r"class_weight\[0\] must be a real number"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_weights_that_make_no_sense_are_refused_and_change_nothing(
    how: dict[str, object], error: type[Exception], message: str
) -> None:
    net = new_net()
    before = as_bytes(net)
    for call in (net.fit, net.evaluate):
        with pytest.raises(error, match=message):
            call(X, Y, **how)
    assert as_bytes(net) == before
    assert net.n_epochs == 0


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_class_weight_without_classes_is_refused(loss: str) -> None:
    with pytest.raises(ValueError, match="there are none; use sample_weight"):
        new_net(loss).fit(X, TARGETS[loss], class_weight="balanced")


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, np.nan])
def test_label_smoothing_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be"):
        new_net().fit(X, Y, label_smoothing=smoothing)


def test_label_smoothing_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing needs labels"):
        new_net("squared_error").fit(X, TARGETS["squared_error"], label_smoothing=0.1)
