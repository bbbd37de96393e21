"""Every entry point of the core, with arrays that it must refuse or may use, but never overrun."""

from __future__ import annotations

import inspect
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from core_networks import INSTRUCTION_SETS
from fastmlp import _core

Array = NDArray[np.generic]

# What the core may raise: see _core.pyi. MemoryError is for sizes that no machine has.
DOCUMENTED = (ValueError, TypeError, MemoryError, IndexError, OverflowError, _core.NonFiniteOutput)

N, FEATURES, CLASSES = 6, 5, 3
SET = INSTRUCTION_SETS[-1]


def network() -> _core.Network:
    net = _core.Network([FEATURES, 4, CLASSES], ["relu"])
    rng = np.random.default_rng(0)
    shapes = (FEATURES, 4), (4, CLASSES)
    net.set_parameters(
        [rng.normal(size=shape).astype(np.float32) for shape in shapes],
        [np.zeros(shape[1], np.float32) for shape in shapes],
    )
    return net


def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {
        "X": rng.normal(size=(N, FEATURES)).astype(np.float32),
        "targets": np.arange(N) % CLASSES,
        "order": np.arange(N),
        "offsets": np.array([0, 2, N]),
        "learning_rates": np.full(2, 0.01),
        "sample_weights": np.ones(N, np.float32),
        "ids": np.arange(N),
        "pixels": rng.integers(0, 256, (N, FEATURES)).astype(np.uint8),
        "image": rng.integers(0, 256, (4, 7)).astype(np.uint8),
        "images": rng.integers(0, 256, (3, 4, 7)).astype(np.uint8),
        "matrix": rng.normal(size=(N, FEATURES)).astype(np.float32),
        "line": np.ones((1, FEATURES), np.float32),
        "probabilities": np.full((N, FEATURES), 0.2, np.float32),
        "labels": np.arange(N) % FEATURES,
        "vector": np.ones(32, np.float32),
        "taps": np.array([1, 2, 1], np.int16),
        "coefficients": np.array([1, 0, 0, 0, 1, 0], np.float32),
        "weights": np.ones((FEATURES, 4), np.float32),
        "biases": np.ones(4, np.float32),
    }


def train(X, targets, order, offsets, learning_rates, sample_weights) -> None:  # type: ignore[no-untyped-def]
    _core.Trainer(network()).run(X, targets, order, offsets, learning_rates, 2, False, sample_weights)


def train_augmented(pixels, targets, order, offsets, learning_rates, ids) -> None:  # type: ignore[no-untyped-def]
    settings = {"seed": 0, "shift": 1, "rotation": 5, "scale": 0.1, "shear": 1, "alpha": 2, "sigma": 1}
    augmentation = _core.Augmentation(1, FEATURES, **settings)
    how = {"augmentation": augmentation, "ids": ids}
    _core.Trainer(network()).run(pixels, targets, order, offsets, learning_rates, 1, False, **how)


def augment(images) -> None:  # type: ignore[no-untyped-def]
    settings = {"seed": 0, "shift": 1, "rotation": 5, "scale": 0.1, "shear": 1, "alpha": 2, "sigma": 1}
    _core.Augmentation(4, 7, **settings).apply(images, 0, 2)


def restore(weights, biases) -> None:  # type: ignore[no-untyped-def]
    trainer = _core.Trainer(network())
    stored = trainer.snapshot().arrays
    stored["parameters"][:2] = [weights, biases]
    trainer.restore(trainer.state_of(stored, (1.0, 1.0)))


K = _core.kernels
# Each call by name; its parameters are the names of `arrays`.
CALLS: dict[str, Callable[..., object]] = {
    "run": train,
    "run_augmented": train_augmented,
    "state_of": restore,
    "apply": augment,
    "set_parameters": lambda weights, biases: network().set_parameters(
        [weights, np.ones((4, CLASSES), np.float32)], [biases, np.ones(CLASSES, np.float32)]
    ),
    "forward": lambda X: network().forward(X, 2, 2),
    "active_units": lambda X: network().active_units(X, 1, 2),
    "softmax": lambda X: network().softmax(X, 2),
    "softmax_of_few": lambda X: network().softmax_of_few(X),
    "sigmoid": lambda X: network().sigmoid(X, 2),
    "evaluate": lambda X, targets, sample_weights: network().evaluate(X, targets, 2, sample_weights),
    "evaluate_outputs": lambda X, targets, sample_weights: network().evaluate_outputs(
        X, targets, 2, sample_weights
    ),
    "kernels.multiply": lambda matrix, weights: K.multiply(SET, matrix, weights),
    "kernels.multiply_listed": lambda matrix, weights: K.multiply_listed(SET, matrix, weights),
    "kernels.multiply_transposed": lambda matrix, X: K.multiply_transposed(SET, matrix, X),
    "kernels.multiply_transposed_listed": lambda matrix, X: K.multiply_transposed_listed(SET, matrix, X, 2),
    "kernels.multiply_by_transposed": lambda matrix, X: K.multiply_by_transposed(SET, matrix, X),
    "kernels.sum_rows": lambda matrix: K.sum_rows(SET, matrix),
    "kernels.pack_uint8": lambda pixels, order: K.pack_uint8(SET, pixels, order),
    "kernels.pack_float": lambda matrix: K.pack_float(SET, matrix, True),
    "kernels.count_nonzeros": lambda matrix: (
        K.count_nonzeros(SET, matrix),
        K.count_nonzeros(SET, matrix, 4),
    ),
    "kernels.write_operand": lambda matrix: K.write_operand(SET, matrix),
    "kernels.bias_activation": lambda matrix, line: K.bias_activation(SET, "gelu", matrix, line, 1.0, False),
    "kernels.activation_backward": lambda matrix, X: K.activation_backward(SET, "relu", matrix, X, False),
    "kernels.softmax": lambda matrix: K.softmax(SET, matrix),
    "kernels.sigmoid": lambda matrix: K.sigmoid(SET, matrix),
    "kernels.softmax_cross_entropy": lambda matrix, labels, sample_weights: K.softmax_cross_entropy(
        SET, matrix, labels, 1.0, False, sample_weights
    ),
    "kernels.sigmoid_cross_entropy": lambda matrix, probabilities: K.sigmoid_cross_entropy(
        SET, matrix, probabilities, 1.0, False
    ),
    "kernels.squared_error": lambda matrix, probabilities: K.squared_error(
        SET, matrix, probabilities, 1.0, False
    ),
    "kernels.average": lambda matrix: K.average(SET, matrix, matrix, 0.5),
    "kernels.add_squares": lambda matrix: K.add_squares(SET, matrix),
    "kernels.scale_columns": lambda matrix, line: K.scale_columns(SET, matrix, line),
    "kernels.adam": lambda vector: K.adam(SET, vector, vector, vector, vector, 1, 0.1, 0.9, 0.999, 1e-8),
    "kernels.sgd": lambda vector: K.sgd(SET, vector, vector, vector, 0.1, 0.9),
    "kernels.random_fields": lambda taps: K.random_fields(SET, 0, 1, 2, 0, 1.0, taps, 4, 7),
    "kernels.resample": lambda image, coefficients: K.resample(SET, image, coefficients),
}
if K.has_grouped_product(SET):
    CALLS["kernels.multiply_grouped"] = lambda matrix, weights: K.multiply_grouped(SET, matrix, weights, 2)
if K.has_pair_products(SET):
    CALLS |= {
        "kernels.pair": lambda matrix: K.pair(SET, matrix),
        "kernels.pack_uint8_pairs": lambda pixels, order: K.pack_uint8_pairs(SET, pixels, order),
        "kernels.pack_float_pairs": lambda matrix, order: K.pack_float_pairs(SET, matrix, order),
        "kernels.multiply_in_pairs": lambda matrix, weights: K.multiply(SET, matrix, weights, pairs=True),
    }

DTYPES = "?bBhHiIlLefdgFDGSUVOmM"


def variants(array: Array) -> Iterator[tuple[str, object]]:
    """Yield the array in every guise: of other types, layouts and sizes, some with the same numbers in it."""
    for code in DTYPES:
        dtype = np.dtype(code if code not in "SUV" else code + "4")
        if dtype.kind in "mM":
            dtype = np.dtype(dtype.char + "8[s]")
        yield f"dtype {dtype}", np.zeros(array.shape, dtype)
    yield "swapped", array.astype(array.dtype.newbyteorder())
    yield "structured", np.zeros(array.shape, [("a", array.dtype)])
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    yield "strided", wide[..., ::2]
    yield "reversed", array[::-1]
    yield "Fortran", np.asfortranarray(array)
    yield "transposed", array.T
    yield "broadcast", np.broadcast_to(array[:1], array.shape)
    raw = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = np.frombuffer(raw.data[1:], array.dtype).reshape(array.shape)
    misaligned[...] = array
    yield "misaligned", misaligned
    fixed = array.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "subclass", array.view(np.matrix) if array.ndim == 2 else np.ma.masked_array(array)
    yield "scalar", np.zeros((), array.dtype)
    yield "list", array.tolist()
    yield "None", None
    yield "more dimensions", array[np.newaxis]
    for dim in range(array.ndim):
        for size in (0, 1, array.shape[dim] - 1, array.shape[dim] + 1):
            shape = (*array.shape[:dim], size, *array.shape[dim + 1 :])
            yield f"{size} in dimension {dim}", np.zeros(shape, array.dtype)
    yield "empty", np.zeros((0,) * array.ndim, array.dtype)
    if array.ndim > 1:  # no memory behind it: only its size is huge
        yield "huge and empty", np.zeros((0, 2**40, *(1,) * (array.ndim - 2)), array.dtype)
        yield "endless and empty", np.zeros((2**60, 0, *(1,) * (array.ndim - 2)), array.dtype)
    yield "huge", np.lib.stride_tricks.as_strided(array, (2**40, *array.shape[1:]), (0, *array.strides[1:]))
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        for value in (info.min, info.max, info.max // 2 + 1, 2 % info.max, len(array)):
            changed = array.copy()
            changed.flat[-1] = np.array(value).astype(array.dtype)
            yield f"last element {value}", changed
    else:
        for value in (np.nan, np.inf, -np.inf, np.finfo(array.dtype).max, 1e-40, -0.0):
            yield f"all {value}", np.full_like(array, value)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")  # NumPy's, about matrix and about casts
def test_core_with_hostile_arrays_raises_only_what_is_documented(name: str) -> None:
    call = CALLS[name]
    parameters = list(inspect.signature(call).parameters)
    good = arrays()
    call(*(good[parameter] for parameter in parameters))  # the call itself is a valid one
    for parameter in parameters:
        for guise, hostile in variants(arrays()[parameter]):
            given = {**{other: good[other] for other in parameters}, parameter: hostile}
            try:
                call(*given.values())
            except DOCUMENTED:
                continue
            except Exception as error:
                pytest.fail(f"{name}: {parameter}, {guise}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("name", CALLS)
def test_core_with_overlapping_arrays_takes_or_refuses_them(name: str) -> None:
    """Any two arguments that share memory, as far as one element type lets them."""
    call = CALLS[name]
    parameters = list(inspect.signature(call).parameters)
    for one, other in itertools.combinations(parameters, 2):
        given = {parameter: arrays()[parameter] for parameter in parameters}
        memory = np.zeros(given[one].nbytes + given[other].nbytes, np.uint8)
        for parameter in (one, other):
            array = given[parameter]
            given[parameter] = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
        try:
            call(*given.values())
        except DOCUMENTED:
            continue


def run(net: _core.Network, given: dict[str, Array], threads: int = 1, required: bool = False) -> None:
    names = ("X", "targets", "order", "offsets", "learning_rates")
    _core.Trainer(net).run(*(given[name] for name in names), threads, required)


@pytest.mark.parametrize("value", [-1, CLASSES, 2**62, -(2**63)])
@pytest.mark.parametrize("what", ["targets", "order", "offsets"])
def test_run_with_an_index_out_of_range_is_refused_before_any_step(what: str, value: int) -> None:
    given = arrays()
    given[what][-1] = value if what == "targets" or value != CLASSES else N + 1
    net = network()
    before = net.weights(0)
    with pytest.raises(ValueError):
        run(net, given)
    assert np.array_equal(net.weights(0), before)


def test_run_looks_at_the_labels_of_its_samples_alone() -> None:
    given = arrays() | {"order": np.array([0, 2, 2, 0]), "offsets": np.array([0, 1, 4])}
    weights = []
    for label in (0, 2**62):
        given["targets"][-1] = label
        net = network()
        run(net, given)
        weights.append(net.weights(0))
    assert np.array_equal(*weights)


def test_labels_that_another_thread_changes_while_they_are_trained_on_lead_nowhere() -> None:
    # More classes than one panel has: a label is then an address.
    n_classes, n_steps = 20, 2000
    net = _core.Network([FEATURES, n_classes], [])
    net.set_parameters([np.ones((FEATURES, n_classes), np.float32)], [np.zeros(n_classes, np.float32)])
    given = arrays() | {
        "order": np.arange(n_steps) % N,
        "offsets": np.arange(n_steps + 1),
        "learning_rates": np.full(n_steps, 0.01),
    }
    n_done = 0

    def train_again_and_again() -> None:
        nonlocal n_done
        for _ in range(100):
            with suppress(ValueError):  # of no class from the beginning
                run(net, given)
                n_done += 1

    thread = threading.Thread(target=train_again_and_again)
    thread.start()
    while thread.is_alive():
        given["targets"][:] = 2**61
        time.sleep(1e-4)
        given["targets"][:] = 1
        time.sleep(1e-4)
    assert n_done


@pytest.mark.parametrize("n", [0, 1, N - 1, N + 1])
def test_run_with_another_number_of_labels_than_samples_is_refused(n: int) -> None:
    given = arrays() | {"targets": np.zeros(n, np.int64)}
    with pytest.raises(ValueError, match="differ in length"):
        run(network(), given)


@pytest.mark.parametrize("threads", [-1, 1025, 10**6, 2**62])
@pytest.mark.parametrize("required", [False, True])
def test_run_with_a_bad_number_of_threads_is_refused_before_memory_is_taken(
    threads: int, required: bool
) -> None:
    given = arrays()
    with pytest.raises(ValueError, match="threads must be 0 to 1024"):
        run(network(), given, threads, required)


@pytest.mark.parametrize(
    "use",
    [
        lambda: _core.Network.__new__(_core.Network).weights(0),
        lambda: _core.Network.__new__(_core.Network).softmax_of_few(arrays()["X"]),
        lambda: _core.Trainer.__new__(_core.Trainer).snapshot(),
        lambda: _core.Augmentation.__new__(_core.Augmentation).apply(arrays()["images"], 0, 1),
        lambda: _core.TrainerState.__new__(_core.TrainerState).arrays,
        lambda: _core.RunResult.__new__(_core.RunResult).losses,
    ],
)
def test_object_made_without_its_constructor_is_refused(use: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="made without calling its class"):
        use()


def test_core_sizes_beyond_memory_are_refused() -> None:
    for n in (2**61, 2**63, 2**64 - 1):
        with pytest.raises(DOCUMENTED):
            _core.philox_permutation(0, 0, 0, n)
    for stream, n_streams, n in ((0, 2, 2**63), (0, 2**32 - 1, 2**60), (1, 2**32, 1), (2**32 - 1, 2, 1)):
        with pytest.raises(DOCUMENTED):
            _core.philox_permutation(0, 0, stream, n, n_streams)
    for sizes in ([2**62, 2], [2, 2**62], [2**32, 2**32], [2**64 - 1, 1], [0, 1], [1]):
        with pytest.raises(DOCUMENTED):
            _core.Network(sizes, [])


@pytest.mark.parametrize("n_parts", [0, 1025, 2**62])
def test_lists_in_a_bad_number_of_parts_are_refused(n_parts: int) -> None:
    matrix, weights = arrays()["matrix"], arrays()["weights"]
    with pytest.raises(ValueError):
        K.multiply_transposed_listed(SET, matrix, matrix, n_parts)
    with pytest.raises(ValueError):
        K.multiply_grouped(SET, matrix, weights, n_parts)


def test_every_entry_point_that_takes_an_array_is_tried() -> None:
    bound = {
        *(f"kernels.{name}" for name in dir(K) if not name.startswith("_")),
        *(n for cls in (_core.Network, _core.Trainer, _core.Augmentation) for n in dir(cls) if n[0] != "_"),
    }
    without_arrays = {"kernels.has_pair_products", "kernels.has_grouped_product", "instruction_set"}
    without_arrays |= {"weights", "biases", "is_finite"}
    without_arrays |= {"set_adam", "set_sgd", "set_dropout", "restart_average", "snapshot", "restore"}
    if not K.has_grouped_product(SET):
        without_arrays |= {"kernels.multiply_grouped"}
    if not K.has_pair_products(SET):
        without_arrays |= {"kernels.pair", "kernels.pack_uint8_pairs", "kernels.pack_float_pairs"}
    assert bound - without_arrays <= CALLS.keys()
