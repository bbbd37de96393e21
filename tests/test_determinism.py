"""Same seed, same bits: for any number of threads, on every fused set, however a run is cut into calls."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_networks import (
    FUSED_SETS,
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
from fastmlp import SGD, Adam, Net, _core

THREADS = (1, 2, 3, 7)
PRECISIONS = {"float32": False, "mixed_bfloat16": True}

# Layer sizes, batch size and number of samples. The first are too small to give seven threads work in each
# phase.
SMALL = {
    "tiny": ([5, 3, 2], 1, 9),
    "odd": ([37, 23, 11, 3], 13, 61),
    "one_class": ([17, 33, 1], 7, 20),
}
LARGE = {
    "lesson": ([784, 200, 10], 500, 1100),
    "odd_and_deep": ([333, 257, 129, 65, 7], 203, 450),
    "wide": ([1531, 701, 5], 97, 240),
    "many_classes": ([45, 300, 601], 150, 333),
    "narrow": ([30, 200, 10], 128, 300),
}

every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def make_case(shape, dtype, *, mixed, activation="relu"):
    """Make a net, inputs, targets, and the batches of one epoch; the last batch is what is left."""
    sizes, batch_size, n = shape
    rng = np.random.default_rng(1)
    net = random_net(rng, sizes, [activation] * (len(sizes) - 2), mixed_bfloat16=mixed)
    X, labels = random_inputs(rng, dtype, n, sizes[0]), random_targets(rng, "labels", n, sizes[-1])
    batches = np.split(rng.permutation(n), range(batch_size, n, batch_size))
    return net, X, labels, batches


def bits(arrays):
    return [array.tobytes() for array in arrays]


def trained_bits(network, n_layers, results):
    """All that a run computed: losses and parameters."""
    return bits([*(result.losses for result in results), *parameters_of(network, n_layers)])


@every_instruction_set
@every_precision
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [*SMALL, *LARGE])
def test_training_with_any_number_of_threads_gives_the_same_bits(shape, dtype, precision, instruction_set):
    net, X, labels, batches = make_case((SMALL | LARGE)[shape], dtype, mixed=PRECISIONS[precision])
    expected = None
    for threads in THREADS:
        network = network_like(net, instruction_set)
        result = run_batches(adam_trainer(network), X, labels, batches, 0.01, threads=threads)

        assert result.stopped == ""
        assert result.team_size == threads, "fewer threads ran than were asked for"
        assert len(result.tasks_per_thread) == threads
        if shape in LARGE:
            assert min(result.tasks_per_thread) > 0, "a thread had no work"
        actual = trained_bits(network, net.n_layers, [result])
        expected = expected or actual
        assert actual == expected


@every_instruction_set
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "identity", "leaky_relu", "gelu"])
def test_training_with_every_activation_and_sgd_gives_the_same_bits(activation, instruction_set):
    net, X, labels, batches = make_case(LARGE["odd_and_deep"], "float32", mixed=False, activation=activation)
    results = []
    for threads in THREADS:
        network = network_like(net, instruction_set)
        result = run_batches(sgd_trainer(network, 0.9), X, labels, batches, 0.01, threads=threads)
        assert result.team_size == threads
        assert min(result.tasks_per_thread) > 0
        results.append(trained_bits(network, net.n_layers, [result]))
    assert results == results[:1] * len(THREADS)


@contextlib.contextmanager
def caches_taken_for_far(far):
    _core.assume_far(far)
    try:
        yield
    finally:
        _core.assume_far(None)


def test_one_thread_does_a_small_step_where_the_others_are_far(monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "4")  # at most
    rng = np.random.default_rng(1)
    X, y = rng.random((800, 30), np.float32), np.arange(800) % 2

    def trained(far, threads=None):
        net = Net([30, 100, 2], seed=0)
        with caches_taken_for_far(far):
            for _ in range(50):  # each time the others leave
                net.fit(X, y, steps=1, batch_size=800, threads=threads)
        return net._last_run.team_size, bits(net.weights)

    team_size, expected = trained(far=False)
    assert team_size == 4
    assert trained(far=True) == (1, expected)
    assert trained(far=True, threads=4) == (4, expected)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("dtype", ["uint8", "float32", "partly sparse"])
@pytest.mark.parametrize("shape", LARGE)
def test_threads_whose_caches_are_far_give_the_same_bits(shape, dtype, precision, instruction_set):
    net, X, labels, batches = make_case(
        LARGE[shape], dtype.replace("partly sparse", "float32"), mixed=PRECISIONS[precision]
    )
    if dtype == "partly sparse":
        X[: len(X) // 2] *= X[: len(X) // 2] > 2
    results = []
    for far, threads in ((False, 1), (False, 2), (True, 2), (True, 3)):
        network = network_like(net, instruction_set)
        with caches_taken_for_far(far):
            result = run_batches(adam_trainer(network), X, labels, batches, 0.01, threads=threads)
        assert result.team_size == threads
        results.append(trained_bits(network, net.n_layers, [result]))
    assert results == results[:1] * len(results)


@every_precision
@pytest.mark.parametrize(
    "optimizer", [Adam(), Adam(ema_decay=0.9), Adam(clip_norm=0.1, max_norm=1), SGD(momentum=0.9)]
)
def test_net_of_threads_whose_caches_are_far_has_the_same_bits(optimizer, precision):
    rng = np.random.default_rng(5)
    X, y = rng.integers(0, 256, (400, 300), dtype=np.uint8), rng.integers(0, 9, 400)
    trained = []
    for far, threads in ((False, 1), (True, 2)):
        settings = {"precision": precision, "dropout": (0.1, 0.2, 0.3), "batch_norm": True}
        net = Net([300, 70, 50, 9], seed=3, **settings)
        with caches_taken_for_far(far):
            net.fit(X, y, epochs=2, batch_size=150, optimizer=optimizer, threads=threads)
        trained.append(bits([*net.weights, *net.biases, net.history.step_loss]))
    assert trained[0] == trained[1]


LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error")


@every_instruction_set
@pytest.mark.parametrize("loss", LOSSES)
def test_training_with_every_loss_and_weights_gives_the_same_bits(loss, instruction_set):
    expected = None
    for threads in THREADS:
        actual = outcome_of_loss(loss, instruction_set, threads)
        expected = expected or actual
        assert actual == expected


@pytest.mark.parametrize("pair", list(itertools.combinations(FUSED_SETS, 2)), ids="-".join)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_on_sets_with_fused_multiply_add_gives_the_same_bits(loss, pair):
    missing = [name for name in pair if name not in INSTRUCTION_SETS]
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}: {' and '.join(pair)} were not compared")
    assert outcome_of_loss(loss, pair[0], 2) == outcome_of_loss(loss, pair[1], 3)


def outcome_of_loss(loss, instruction_set, threads):
    """Return all that training with weights and smoothed labels and evaluating afterwards compute."""
    net, X, labels, batches = make_case(LARGE["many_classes"], "float32", mixed=False, activation="tanh")
    net.loss = loss
    rng = np.random.default_rng(6)
    targets = random_targets(rng, loss, len(X), net.weights[-1].shape[1]) if loss != LOSSES[0] else labels
    how = {
        "weights": rng.random(len(X), np.float32),
        "label_smoothing": 0.1 if loss != "squared_error" else 0.0,
    }
    network = network_like(net, instruction_set)
    result = run_batches(adam_trainer(network), X, targets, batches, 0.01, threads=threads, **how)
    assert result.team_size == threads
    total, outputs = network.evaluate_outputs(X, targets, threads, how["weights"])
    found = bits([outputs, network.sigmoid(X, threads)])
    return trained_bits(network, net.n_layers, [result]), found, total


@pytest.mark.parametrize("pair", list(itertools.combinations(FUSED_SETS, 2)), ids="-".join)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity", "leaky_relu", "gelu"])
@pytest.mark.parametrize("shape", [*SMALL, *LARGE])
def test_training_on_sets_with_fused_multiply_add_gives_the_same_bits(shape, activation, pair):
    missing = [name for name in pair if name not in INSTRUCTION_SETS]
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}: {' and '.join(pair)} were not compared")
    results = []
    for name, threads in zip(pair, (2, 3), strict=True):
        net, X, labels, batches = make_case(
            (SMALL | LARGE)[shape], "uint8", mixed=False, activation=activation
        )
        network = network_like(net, name)
        result = run_batches(adam_trainer(network), X, labels, batches, 0.01, threads=threads)
        assert result.team_size == threads
        logits, p = network.forward(X, net.n_layers, 1), network.softmax(X, 1)
        loss, predictions = network.evaluate(X, labels, 1)
        results.append((trained_bits(network, net.n_layers, [result]), bits([logits, p, predictions]), loss))
    assert results[0] == results[1]


def partly_sparse_batches(dtype, *, n=400, n_features=301, batch_size=131):
    """Make inputs and batches whose first half has no zeros, and the second nine of them in ten.

    The core lists the non-zeros of some parts of such a batch and packs others densely; which, depends on how
    the threads share its rows.
    """
    rng = np.random.default_rng(7)
    X = rng.integers(1, 256, (n, n_features)) if dtype == "uint8" else rng.normal(size=(n, n_features))
    X[n // 2 :] *= rng.random((n - n // 2, n_features)) < 0.1
    half = batch_size // 2
    batches = [
        np.concatenate([rng.integers(0, n // 2, half), rng.integers(n // 2, n, batch_size - half)])
        for _ in range(4)
    ]
    return X.astype(dtype), batches


@every_precision
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_training_on_batches_partly_sparse_gives_the_same_bits_for_all_threads_and_fused_sets(
    dtype, precision
):
    mixed = PRECISIONS[precision]
    X, batches = partly_sparse_batches(dtype)
    rng = np.random.default_rng(8)
    net = random_net(rng, [301, 67, 35, 9], ["relu", "gelu"], mixed_bfloat16=mixed)
    labels = rng.integers(0, 9, len(X))
    results = {}
    for name in INSTRUCTION_SETS:
        of_threads = []
        for threads in THREADS:
            network = network_like(net, name)
            result = run_batches(adam_trainer(network), X, labels, batches, 0.01, threads=threads)
            assert result.stopped == ""
            assert result.team_size == threads
            of_threads.append(trained_bits(network, 3, [result]))
        assert of_threads == of_threads[:1] * len(THREADS), name
        results[name] = of_threads[0]
    if not mixed:
        fused = [results[name] for name in FUSED_SETS if name in results]
        assert fused == fused[:1] * len(fused)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("make_trainer", [adam_trainer, lambda network: sgd_trainer(network, 0.9)])
def test_training_cut_into_any_calls_gives_the_same_bits(make_trainer, precision, instruction_set):
    sizes, n = [45, 33, 17, 5], 200
    rng = np.random.default_rng(2)
    net = random_net(rng, sizes, ["relu", "gelu"], mixed_bfloat16=PRECISIONS[precision])
    X, labels = random_inputs(rng, "uint8", n, sizes[0]), rng.integers(0, 5, n)
    batches = [rng.permutation(n)[: 20 + step] for step in range(20)]
    rates = list(np.geomspace(0.05, 0.001, 20))
    expected = None
    # One call of 20 steps, 20 calls of one, 7 + 13, and the last as several trainers' worth of threads.
    for cuts, threads in (([], 1), (range(1, 20), 1), ([7], 1), ([7], 3), (range(1, 20), 2)):
        network = network_like(net, instruction_set)
        trainer = make_trainer(network)
        results = [
            run_batches(trainer, X, labels, batches[start:end], rates[start:end], threads=threads)
            for start, end in itertools.pairwise([0, *cuts, 20])
        ]
        losses = np.concatenate([result.losses for result in results])
        actual = bits([losses, *parameters_of(network, 3)])
        expected = expected or actual
        assert actual == expected


@every_instruction_set
@every_precision
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_prediction_with_any_number_of_threads_gives_the_same_bits(dtype, precision, instruction_set):
    net, X, labels, _ = make_case(LARGE["odd_and_deep"], dtype, mixed=PRECISIONS[precision])
    network = network_like(net, instruction_set)
    results = []
    for threads in THREADS:
        loss, predictions = network.evaluate(X, labels, threads)
        outputs = [network.forward(X, layer + 1, threads) for layer in range(net.n_layers)]
        results.append((bits([*outputs, network.softmax(X, threads), predictions]), loss))
    assert results == results[:1] * len(THREADS)


@every_instruction_set
@every_precision
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_prediction_of_a_sample_has_the_same_bits_alone_and_in_company(dtype, precision, instruction_set):
    net, X, _, _ = make_case(SMALL["odd"], dtype, mixed=PRECISIONS[precision])
    network = network_like(net, instruction_set)
    together = network.forward(X, net.n_layers, 1)
    for size in (1, 5, 6, 7, 17):
        parts = [network.forward(X[at : at + size], net.n_layers, 1) for at in range(0, len(X), size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


@every_instruction_set
def test_training_sees_the_loss_that_evaluate_reports(instruction_set):
    # Both sum the same losses in float64; the step's is their mean, rounded to float32.
    net, X, labels, _ = make_case(LARGE["odd_and_deep"], "uint8", mixed=False)
    network = network_like(net, instruction_set)
    loss, _ = network.evaluate(X, labels, 0)
    result = run_batches(sgd_trainer(network), X, labels, [np.arange(len(X))], 0.0)
    assert result.losses[0] == np.float32(loss / len(X))


# Through the public face.


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", [Adam(), SGD(0.05, momentum=0.9)], ids=["adam", "sgd"])
def test_fit_with_any_number_of_threads_gives_the_same_bits(optimizer, precision):
    rng = np.random.default_rng(3)
    X, y = random_inputs(rng, "uint8", 700, 150), rng.integers(0, 10, 700)
    results = []
    for threads in THREADS:
        net = Net([150, 131, 67, 10], activation=["relu", "gelu"], precision=precision, seed=5)
        history = net.fit(X, y, epochs=2, batch_size=96, optimizer=optimizer, threads=threads, progress=False)
        probabilities = net.predict_proba(X)
        results.append(bits([*net.weights, *net.biases, np.array(history.step_loss), probabilities]))
    assert results == results[:1] * len(THREADS)


def test_fit_with_the_same_seed_gives_the_same_bits_and_with_another_other_ones():
    rng = np.random.default_rng(4)
    X, y = random_inputs(rng, "float32", 300, 20), rng.integers(0, 3, 300)

    def fitted(seed):
        net = Net([20, 15, 3], seed=seed)
        net.fit(X, y, epochs=3, batch_size=32, progress=False)
        return bits([*net.weights, *net.biases])

    assert fitted(1) == fitted(1)
    assert fitted(1) != fitted(2)


def test_fit_of_epochs_at_once_and_in_turn_gives_the_same_bits():
    rng = np.random.default_rng(5)
    X, y = random_inputs(rng, "float32", 300, 20), rng.integers(0, 3, 300)
    at_once, in_turn = Net([20, 15, 3], seed=1), Net([20, 15, 3], seed=1)
    at_once.fit(X, y, epochs=5, batch_size=32, progress=False)
    for epochs in (1, 3, 1):
        in_turn.fit(X, y, epochs=epochs, batch_size=32, progress=False)
    assert bits([*at_once.weights, *at_once.biases]) == bits([*in_turn.weights, *in_turn.biases])


# Random numbers: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).


def philox4x32_10(counter, key):
    """Run ten rounds of Philox on four counter and two key words, as section 3.3 of the paper has them."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product_0, product_1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (product_1 >> 32) ^ c1 ^ k0,
            product_1 & 0xFFFFFFFF,
            (product_0 >> 32) ^ c3 ^ k1,
            product_0 & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def uniform_of(words):
    """Return the centre of that one of 2^53 equal cells of (0, 1) which the first 64 bits name."""
    return min(((words[1] << 32 | words[0]) >> 11) + 0.5, 2**53 - 1) / 2**53


ALL_ONES = 0xFFFFFFFF
# The known answers that come with the authors' library Random123 (kat_vectors).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL_ONES,) * 4, (ALL_ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_of_this_file_gives_the_known_answers(counter, key, expected):
    assert philox4x32_10(counter, key) == expected


def test_philox_uniform_gives_the_first_known_answer():
    # Its counter and key are zero: element 0 of seed, purpose and stream 0.
    assert _core.philox_uniform(0, 0, 0, 1)[0] == uniform_of(KNOWN_ANSWERS[0][2])


@settings(derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    purpose=st.integers(0, 2**32 - 1),
    stream=st.integers(0, 2**32 - 1),
)
def test_philox_uniform_is_philox_of_its_address(seed, purpose, stream):
    # The known answers' other counters have indices beyond what can be generated; their seeds, purposes and
    # streams are among these.
    actual = _core.philox_uniform(seed, purpose, stream, 40)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    expected = [uniform_of(philox4x32_10((i, 0, stream, purpose), key)) for i in range(40)]
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("generate", [_core.philox_uniform, _core.philox_normal])
def test_random_numbers_depend_on_their_index_alone(generate):
    long = generate(7, 1, 2, 1000)
    for n in (0, 1, 17, 999):
        np.testing.assert_array_equal(generate(7, 1, 2, n), long[:n])


@pytest.mark.parametrize("generate", [_core.philox_uniform, _core.philox_normal, _core.philox_permutation])
def test_random_numbers_of_other_seeds_purposes_and_streams_are_others(generate):
    sequences = [
        generate(seed, purpose, stream, 50).tobytes()
        for seed, purpose, stream in [(1, 1, 1), (2, 1, 1), (1 + 2**32, 1, 1), (1, 2, 1), (1, 1, 2)]
    ]
    assert len(set(sequences)) == len(sequences)


def test_philox_uniform_is_uniform_inside_the_open_interval():
    n, cells = 100_000, 100
    u = _core.philox_uniform(3, 1, 0, n)
    assert 0 < u.min() < u.max() < 1
    assert chi_square(np.histogram(u, cells, (0, 1))[0]) < chi_square_limit(cells - 1)


def test_philox_normal_is_the_inverse_distribution_function_of_philox_uniform():
    # AS 241 is right to about 1e-16, and both sides are rounded some ten times.
    u, normal = _core.philox_uniform(5, 2, 3, 20_000), _core.philox_normal(5, 2, 3, 20_000)
    inverse = np.array([statistics.NormalDist().inv_cdf(p) for p in u])
    np.testing.assert_allclose(normal, inverse, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize(
    ("scaled", "plain"),
    [(_core.scaled_uniform, _core.philox_uniform), (_core.scaled_normal, _core.philox_normal)],
)
def test_scaled_numbers_are_those_that_numpy_makes_of_the_plain_ones(scaled, plain, n):
    expected = (0.3 * plain(5, 2, 3, n) - 0.1).astype(np.float32)
    assert scaled(5, 2, 3, n, 0.3, -0.1).tobytes() == expected.tobytes()


def test_philox_normal_has_the_moments_of_the_normal_distribution():
    n = 200_000
    x = _core.philox_normal(11, 1, 0, n)
    # The mean of x^k has the variance (E x^2k - (E x^k)^2) / n; five standard deviations are allowed, with a
    # fixed seed.
    for k, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**k).mean() - moment) < 5 * math.sqrt(variance / n)


@settings(derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**32 - 1), n=st.integers(0, 3000))
def test_philox_permutation_is_a_permutation(seed, stream, n):
    permutation = _core.philox_permutation(seed, 3, stream, n)
    assert permutation.dtype == np.int64
    np.testing.assert_array_equal(np.sort(permutation), np.arange(n))
    np.testing.assert_array_equal(permutation, _core.philox_permutation(seed, 3, stream, n))


@pytest.mark.parametrize("n", [0, 70, 8000])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n_streams", [0, 1, 3])
def test_permutations_of_several_streams_are_theirs_one_after_the_other(n_streams, threads, n):
    together = _core.philox_permutation(1, 3, 7, n, n_streams, threads)
    apart = [_core.philox_permutation(1, 3, 7 + i, n) for i in range(n_streams)]
    np.testing.assert_array_equal(together, np.array(apart, np.int64).ravel())


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2).sum() / expected


def chi_square_limit(degrees_of_freedom):
    """About the 1 - 3e-7 quantile, by Wilson & Hilferty (1931): five standard deviations."""
    spread = 2 / (9 * degrees_of_freedom)
    return degrees_of_freedom * (1 - spread + 5 * math.sqrt(spread)) ** 3


def test_philox_permutation_puts_every_element_everywhere_equally_often():
    n, draws = 12, 20_000
    permutations = np.array([_core.philox_permutation(1, 3, stream, n) for stream in range(draws)])
    for position in range(n):
        counts = np.bincount(permutations[:, position], minlength=n)
        assert chi_square(counts) < chi_square_limit(n - 1)


def test_philox_permutation_makes_all_orders_of_four_equally_often():
    permutations = np.array([_core.philox_permutation(2, 3, stream, 4) for stream in range(24_000)])
    counts = np.unique(permutations @ 4 ** np.arange(4), return_counts=True)[1]
    assert counts.size == math.factorial(4)
    assert chi_square(counts) < chi_square_limit(23)
