"""Batch normalisation, against the paper's formulas in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core_networks import INSTRUCTION_SETS, every_instruction_set, parameters_of, run_batches
from fastmlp import SGD, Adam, AdamW, Callback, EarlyStopping, ModelFileError, Net, _core
from reference import ACTIVATIONS, Float, ReferenceAdam, ReferenceSGD, cross_entropy, softmax

EPSILON = float(np.finfo(np.float32).eps)
BATCH_NORM_EPSILON = float(np.float32(1e-5))
RUNNING_PART = 0.1


class NormalizedNet:
    """A naive net with batch normalisation in all hidden layers; biases are (4, n_units) there.

    Ioffe & Szegedy, "Batch normalization" (2015): Algorithm 1, and the gradients of section 3 as they stand
    there. Running statistics: Algorithm 2, line 10, with a moving average in place of the mean.
    """

    def __init__(self, weights: Sequence[Float], biases: Sequence[Float], activations: Sequence[str]) -> None:
        self.weights = [w.astype(np.float64) for w in weights]
        self.biases = [b.astype(np.float64) for b in biases]
        self.activations = [ACTIVATIONS[name] for name in activations]

    def normalized_sums(self, layer: int, x: Float, statistics: tuple[Float, Float]) -> tuple[Float, Float]:
        mean, variance = statistics
        normalized = (x - mean) / np.sqrt(variance + BATCH_NORM_EPSILON)
        shift, scale = self.biases[layer][:2]
        return normalized, scale * normalized + shift

    def logits(self, X: Float) -> Float:
        a = X
        for layer, activation in enumerate(self.activations):
            statistics = self.biases[layer][2], self.biases[layer][3]
            a = activation.function(self.normalized_sums(layer, a @ self.weights[layer], statistics)[1])
        return a @ self.weights[-1] + self.biases[-1]

    def gradients(self, X: Float, y: NDArray[np.int64]) -> tuple[float, list[Float], list[Float], list[Any]]:
        """Return the mean loss, its gradients, and the statistics of each hidden layer's sums."""
        m = len(X)
        inputs, sums, normalized, outputs, statistics = [X], [], [], [], []
        for layer, activation in enumerate(self.activations):
            x = inputs[-1] @ self.weights[layer]
            statistics.append((x.mean(axis=0), x.var(axis=0)))
            x_hat, z = self.normalized_sums(layer, x, statistics[-1])
            sums.append(x)
            normalized.append(x_hat)
            outputs.append(z)
            inputs.append(activation.function(z))
        logits = inputs[-1] @ self.weights[-1] + self.biases[-1]
        loss = float(cross_entropy(logits, y).mean())
        delta = (softmax(logits) - np.eye(logits.shape[1])[y]) / m
        d_weights, d_biases = [inputs[-1].T @ delta], [delta.sum(axis=0)]
        for layer in reversed(range(len(self.activations))):
            d_output = delta @ self.weights[layer + 1].T
            d_z = d_output * self.activations[layer].derivative(outputs[layer], inputs[layer + 1])
            mean, variance = statistics[layer]
            root = np.sqrt(variance + BATCH_NORM_EPSILON)
            centred = sums[layer] - mean
            d_normalized = d_z * self.biases[layer][1]
            d_variance = (d_normalized * centred).sum(axis=0) * -0.5 * root**-3
            d_mean = (-d_normalized / root).sum(axis=0) + d_variance * (-2 * centred).sum(axis=0) / m
            delta = d_normalized / root + d_variance * 2 * centred / m + d_mean / m
            d_weights.insert(0, inputs[layer].T @ delta)
            untrained = np.zeros_like(mean)
            d_scale = (d_z * normalized[layer]).sum(axis=0)
            d_biases.insert(0, np.stack([d_z.sum(axis=0), d_scale, untrained, untrained]))
        return loss, d_weights, d_biases, statistics

    def train_step(
        self, optimizer: ReferenceAdam | ReferenceSGD, X: Float, y: NDArray[np.int64], rate: float
    ) -> float:
        loss, d_weights, d_biases, statistics = self.gradients(X, y)
        optimizer.step([*self.weights, *self.biases], [*d_weights, *d_biases], rate)
        for biases, (mean, variance) in zip(self.biases, statistics, strict=False):
            unbiased = variance * len(X) / max(len(X) - 1, 1)
            biases[2:] += RUNNING_PART * (np.stack([mean, unbiased]) - biases[2:])
        return loss


SIZES, ACTIVATION_NAMES = (37, 21, 18, 5), ("tanh", "gelu")


def random_parameters(
    seed: int, sizes: Sequence[int] = SIZES
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, n**-0.5, (n, m)).astype(np.float32) for n, m in pairwise(sizes)]
    biases = [
        np.stack([rng.normal(size=n), rng.normal(1, 0.3, n), rng.normal(size=n), rng.uniform(0.5, 2, n)])
        for n in sizes[1:-1]
    ]
    return weights, [*(b.astype(np.float32) for b in biases), np.zeros(sizes[-1], np.float32)]


def new_network(instruction_set: str = "", *, mixed_bfloat16: bool = False) -> _core.Network:
    network = _core.Network(
        SIZES,
        ACTIVATION_NAMES,
        batch_norm=[True, True],
        instruction_set=instruction_set,
        mixed_bfloat16=mixed_bfloat16,
    )
    network.set_parameters(*random_parameters(0))
    return network


def samples(n: int, dtype: str, seed: int = 1) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 256, (n, SIZES[0])) if dtype == "uint8" else rng.normal(size=(n, SIZES[0]))
    return numbers.astype(dtype), rng.integers(0, SIZES[-1], n)


def as_numbers(X: NDArray[np.generic]) -> Float:
    return X / 255 if X.dtype == np.uint8 else X.astype(np.float64)


# The oracle itself.


def test_reference_gradients_are_those_of_finite_differences() -> None:
    net = NormalizedNet(*random_parameters(3), ACTIVATION_NAMES)
    X, y = samples(13, "float64")
    _, d_weights, d_biases, _ = net.gradients(X, y)
    rng = np.random.default_rng(0)
    h = 1e-5  # central differences are off by h**2 = 1e-10 and by rounding, 1e-16 / h = 1e-11
    for arrays, gradients, rows in ((net.weights, d_weights, None), (net.biases, d_biases, 2)):
        for array, gradient in zip(arrays, gradients, strict=True):
            for _ in range(8):
                index = tuple(rng.integers(0, n) for n in array.shape)
                if rows is not None and array.ndim == 2:
                    index = (int(rng.integers(0, rows)), index[1])
                value = array[index]
                array[index] = value + h
                above = net.gradients(X, y)[0]
                array[index] = value - h
                below = net.gradients(X, y)[0]
                array[index] = value
                assert gradient[index] == pytest.approx((above - below) / (2 * h), abs=1e-8)


# The core.


def test_one_step_worked_by_hand() -> None:
    # One unit, two samples: x = 0 and 2 have the mean 1 and the variance 1, or 2 with n - 1. The running
    # statistics, 0 and 1 before, take in a tenth.
    net = Net([1, 1, 2], activation="identity", batch_norm=True, seed=0)
    net.set_weights([[[2.0]], [[1.0, 0.0]]], [[[0.5], [3.0], [0.0], [1.0]], [0.0, 0.0]])
    history = net.fit([[0.0], [1.0]], [0, 1], epochs=1, batch_size=2, optimizer=SGD(1e-30))
    x_hat = 1 / np.sqrt(1 + BATCH_NORM_EPSILON)
    z = 3.0 * np.array([-x_hat, x_hat]) + 0.5
    expected = (np.log1p(np.exp(-z[0])) + np.log1p(np.exp(z[1]))) / 2
    assert history.loss[0] == pytest.approx(expected, rel=4 * EPSILON)
    np.testing.assert_allclose(net.biases[0][2:].ravel(), [0.1, 1.1], rtol=2 * EPSILON)
    # Prediction normalises by these: x = 2 gives (2 - 0.1) / sqrt(1.1 + 1e-5).
    expected = 3.0 * (2 - 0.1) / np.sqrt(1.1 + BATCH_NORM_EPSILON) + 0.5
    assert net.logits([[1.0]])[0, 0] == pytest.approx(expected, rel=8 * EPSILON)


def test_average_takes_notice_of_a_step_that_leaves_the_statistics() -> None:
    def statistics(steps: int, ema_decay: float | None = None) -> Any:
        net = Net([1, 1, 2], activation="identity", batch_norm=True, seed=0)
        X, y = np.float32([[0], [2], [6], [4], [9]]), [0, 1, 0, 1, 0]
        net.fit(X, y, steps=steps, batch_size=2, shuffle=False, optimizer=SGD(1e-30, ema_decay=ema_decay))
        return net.biases[0][2:]

    first, second, third = (statistics(steps) for steps in (1, 2, 3))
    np.testing.assert_array_equal(third, second)  # one sample has no variance
    expected = (0.25 * first + 0.5 * second + third) / 1.75
    np.testing.assert_allclose(statistics(3, ema_decay=0.5), expected, rtol=8 * EPSILON)


@every_instruction_set
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_follows_the_reference(optimizer: str, dtype: str, instruction_set: str) -> None:
    X, y = samples(150, dtype)
    rng = np.random.default_rng(2)
    batches = [rng.permutation(150)[:n] for n in (150, 64, 65, 2, 100)]
    rate = 0.05 if optimizer == "sgd" else 0.002
    make_optimizer = ReferenceSGD if optimizer == "sgd" else ReferenceAdam

    # The tolerance is how far a twin strays whose parameters are disturbed before every step by the worst of
    # what float32 sums of 150 terms and less do to them, 150 epsilon, in random directions.
    exact = NormalizedNet(*random_parameters(0), ACTIVATION_NAMES)
    twin = copy.deepcopy(exact)
    exact_optimizer, twin_optimizer = make_optimizer(), make_optimizer()
    losses, strays = [], []
    for batch in batches:
        for array in (*twin.weights, *twin.biases):
            array[...] *= 1 + 150 * EPSILON * rng.choice([-1.0, 1.0], array.shape)
        losses.append(exact.train_step(exact_optimizer, as_numbers(X)[batch], y[batch], rate))
        other = twin.train_step(twin_optimizer, as_numbers(X)[batch], y[batch], rate)
        strays.append(abs(other - losses[-1]))

    network = new_network(instruction_set)
    trainer = _core.Trainer(network)
    if optimizer == "sgd":
        trainer.set_sgd(momentum=0.0)
    else:
        trainer.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    result = run_batches(trainer, X, y, batches, rate, threads=2)
    np.testing.assert_allclose(result.losses, losses, rtol=0, atol=max(strays))
    expected = [*exact.weights, *exact.biases]
    for actual, wanted, strayed in zip(
        parameters_of(network, 3), expected, [*twin.weights, *twin.biases], strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=np.abs(strayed - wanted).max())
    np.testing.assert_allclose(
        network.forward(X, 3, 1),
        exact.logits(as_numbers(X)),
        rtol=0,
        atol=np.abs(twin.logits(as_numbers(X)) - exact.logits(as_numbers(X))).max(),
    )


@pytest.mark.parametrize("mixed_bfloat16", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_threads_and_instruction_sets_do_not_change_a_bit(dtype: str, *, mixed_bfloat16: bool) -> None:
    X, y = samples(300, dtype)
    batches = [np.arange(300), np.arange(77), np.arange(300)[::3]]
    fused = [name for name in INSTRUCTION_SETS if name != "baseline"]
    sets = fused[:1] if mixed_bfloat16 else fused
    results = []
    for instruction_set in sets:
        for threads in (1, 2, 3, 7):
            network = new_network(instruction_set, mixed_bfloat16=mixed_bfloat16)
            trainer = _core.Trainer(network)
            trainer.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)
            run_batches(trainer, X, y, batches, 0.01, threads=threads)
            results.append(parameters_of(network, 3))
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(a, b)


def test_mixed_bfloat16_is_near_float32() -> None:
    # Operands are off by 2**-9 of themselves at most; losses around 1, of 4 layers' products, by no more
    # than a few of these.
    X, y = samples(200, "float32")
    losses = []
    for mixed_bfloat16 in (False, True):
        trainer = _core.Trainer(new_network(mixed_bfloat16=mixed_bfloat16))
        trainer.set_sgd(momentum=0.0)
        losses.append(run_batches(trainer, X, y, [np.arange(200)] * 5, 0.05).losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=8 * 2**-9)


def test_batch_of_one_sample_is_normalized_to_the_shift_and_leaves_the_statistics() -> None:
    net = Net([3, 4, 2], batch_norm=True, activation="identity", seed=0)
    history = net.fit(np.ones((1, 3)), [0], epochs=1, optimizer=SGD(1e-30))
    assert history.loss[0] == pytest.approx(np.log(2), rel=4 * EPSILON)  # all logits are 0
    np.testing.assert_array_equal(net.biases[0][2:], [[0] * 4, [1] * 4])


# The net.

N = 90
X, Y = samples(N, "float32", seed=5)


def new_net(**settings: Any) -> Net:
    return Net([SIZES[0], 16, 12, SIZES[-1]], seed=1, **({"batch_norm": True} | settings))


def assert_same_parameters(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_net_starts_with_scale_and_variance_of_one() -> None:
    net = new_net(batch_norm=[True, False])
    assert net.batch_norm == (True, False)
    assert [b.shape for b in net.biases] == [(4, 16), (12,), (5,)]
    np.testing.assert_array_equal(net.biases[0].mean(axis=1), [0, 1, 0, 1])
    assert net.n_parameters == new_net(batch_norm=False).n_parameters + 16
    assert "16 batch-normalized relu -> 12 relu" in repr(net)


def test_net_learns_what_badly_scaled_data_hide() -> None:
    scaled = X * np.logspace(-3, 3, SIZES[0], dtype=np.float32)
    net = new_net()
    net.fit(scaled, Y, epochs=60, batch_size=30, optimizer=Adam(0.01))
    assert net.evaluate(scaled, Y).accuracy > 0.9


def test_folded_net_predicts_the_same() -> None:
    net = new_net(batch_norm=[False, True])
    net.fit(X, Y, epochs=5, batch_size=30, optimizer=Adam(0.01))
    net.class_names = ["a", "b", "c", "d", "e"]
    folded = net.fold_batch_norm()
    assert (folded.batch_norm, folded.class_names) == ((False, False), net.class_names)
    assert [b.ndim for b in folded.biases] == [1, 1, 1]
    # Each of up to 37 products of a sum has been rounded elsewhere, in three layers.
    logits = net.logits(X)
    np.testing.assert_allclose(folded.logits(X), logits, rtol=0, atol=3 * 37 * EPSILON * np.abs(logits).max())


def test_saved_net_and_copies_have_the_statistics(tmp_path: Path) -> None:
    net = new_net()
    net.fit(X, Y, epochs=2, batch_size=30)
    net.save(tmp_path / "net.safetensors")
    for other in (Net.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert other.batch_norm == (True, True)
        assert_same_parameters(other, net)
        np.testing.assert_array_equal(other.logits(X), net.logits(X))


@pytest.mark.parametrize(
    "optimizer",
    [Adam(0.01), AdamW(0.01, weight_decay=0.1), Adam(0.01, max_norm=1.0, clip_norm=0.5, ema_decay=0.9)],
)
@pytest.mark.parametrize("dropout", [0.0, [0.2, 0.5, 0.5]])
def test_interrupted_fit_ends_with_the_bits_of_one_that_was_not(
    dropout: Any, optimizer: Adam, tmp_path: Path
) -> None:
    class Interrupt(Callback):
        every = 7

        def on_step(self, net: Net, fit: Any) -> None:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"epochs": 5, "batch_size": 20, "optimizer": optimizer}
    straight, net = new_net(dropout=dropout), new_net(dropout=dropout)
    stopping = [EarlyStopping(patience=50) for _ in range(3)]
    straight.fit(X, Y, validation_split=0.3, callbacks=[stopping[0]], **settings)
    path = tmp_path / "net.safetensors"
    with pytest.raises(KeyboardInterrupt):
        callbacks = [stopping[1], Interrupt()]
        net.fit(X, Y, validation_split=0.3, callbacks=callbacks, **settings)
    net.save(path, training_state=True)
    resumed = Net.load(path)
    resumed.fit(X, Y, callbacks=[stopping[2]], resume=True)
    assert_same_parameters(resumed, straight)


def test_threads_do_not_change_a_bit_of_a_net_with_dropout_too() -> None:
    nets = [new_net(dropout=0.5) for _ in range(3)]
    for net, threads in zip(nets, (1, 2, 7), strict=True):
        net.fit(X, Y, epochs=3, batch_size=40, threads=threads)
        assert_same_parameters(net, nets[0])


def test_loss_that_is_not_finite_leaves_the_statistics_alone() -> None:
    net = new_net()
    net.fit(X, Y, epochs=1)
    before = net.biases
    poisoned = X.copy()
    poisoned[3, 0] = np.inf
    with pytest.raises(ValueError, match="3"):
        net.fit(poisoned, Y, epochs=1, batch_size=N)
    np.testing.assert_array_equal(net.biases[0], before[0])


@pytest.mark.parametrize("value", ["yes", 1, None, [True], [True, "no"], [True] * 3])
def test_wrong_batch_norm_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="batch_norm"):
        new_net(batch_norm=value)


def test_wrong_statistics_are_refused(tmp_path: Path) -> None:
    net = new_net()
    weights, biases = net.weights, [b.copy() for b in net.biases]
    biases[1][3, 5] = -0.5
    with pytest.raises(ValueError, match="variance"):
        net.set_weights(weights, biases)
    with pytest.raises(ValueError, match="shape"):
        net.set_weights(weights, [b[0] if b.ndim == 2 else b for b in biases])
    net._network.assign((weights, biases))
    net.save(tmp_path / "net.safetensors")
    with pytest.raises(ModelFileError, match="variance"):
        Net.load(tmp_path / "net.safetensors")
