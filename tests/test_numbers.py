"""Numbers at the ends of their range: infinite, huge, tiny, very many; the caller's floating-point state."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_networks import every_instruction_set
from fastmlp import (
    SGD,
    Adam,
    ModelFileError,
    Net,
    NonFiniteInputError,
    NonFiniteLossError,
    NonFiniteOutputError,
)
from fastmlp._shared_network import same_parameters
from fastmlp.optimizers import Optimizer

# The caller's floating-point state.

IS_X86_64_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
# MXCSR: rounding upwards, denormal operands taken for 0; all exceptions masked. Nothing of ours leaves it so.
STRANGE = 0x1F80 | 0x4000 | 0x0040
CONTROL_BITS = 0xFFC0  # the others say which exceptions there were


class FloatingPointState:
    """Read and set MXCSR through libm's fenv_t, which holds it behind 28 bytes of the x87's state."""

    def __init__(self) -> None:
        self._libm = ctypes.CDLL("libm.so.6")

    def _environment(self) -> Any:
        environment = (ctypes.c_uint32 * 8)()
        self._libm.fegetenv(environment)
        return environment

    @property
    def control(self) -> int:
        return int(self._environment()[7]) & CONTROL_BITS

    @control.setter
    def control(self, bits: int) -> None:
        environment = self._environment()
        environment[7] = bits
        self._libm.fesetenv(environment)


def on_every_thread_of_a_team(function: Callable[[], None], threads: int) -> int:
    """Call a function on the threads that g++'s OpenMP keeps for this one; return how many there were."""
    maps = Path("/proc/self/maps").read_text().split()
    names = {word for word in maps if "libgomp" in word}
    if not names:
        pytest.skip("the core does not use g++'s OpenMP")
    gomp = ctypes.CDLL(names.pop())
    called_on = set()

    def call(_: object) -> None:
        called_on.add(threading.get_native_id())
        function()

    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(call)
    gomp.GOMP_parallel(body, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    return len(called_on)


@pytest.fixture
def state() -> Iterator[FloatingPointState]:
    if not IS_X86_64_LINUX:
        pytest.skip("reads MXCSR where glibc keeps it")
    state = FloatingPointState()
    before = state.control
    yield state
    state.control = before
    assert state.control == before


def work(net: Net, X: np.ndarray, y: np.ndarray, threads: int) -> list[np.ndarray]:
    net.fit(X, y, steps=300, batch_size=100, threads=threads, validation_split=0.2)
    return [*net.weights, net.predict_proba(X, threads=threads), net.predict_proba(X[:1]), net.logits(X)]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_floating_point_state_of_every_thread_is_as_it_was_and_changes_no_bit(
    precision: str, dtype: str, state: FloatingPointState
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (500, 40)).astype(dtype), rng.integers(0, 3, 500)
    if dtype != "uint8":
        X /= 255
    threads = 3
    expected = work(Net([40, 30, 3], precision=precision, seed=0), X, y, threads)

    assert on_every_thread_of_a_team(lambda: setattr(state, "control", STRANGE), threads) == threads
    try:
        found = work(Net([40, 30, 3], precision=precision, seed=0), X, y, threads)
    finally:
        states = []
        on_every_thread_of_a_team(lambda: states.append(state.control), threads)
        on_every_thread_of_a_team(lambda: setattr(state, "control", 0x1F80), threads)
    assert states == [STRANGE & CONTROL_BITS] * threads
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_denormals_of_the_caller_stay_denormals() -> None:
    tiny, half = np.full(64, 1e-40, np.float32), np.float32(0.5)
    seen = []

    def watch() -> None:
        before = tiny * half
        net = Net([64, 20, 3], seed=0)
        net.fit(np.broadcast_to(tiny, (30, 64)), np.arange(30) % 3, epochs=2, threads=2)
        net.predict(tiny[np.newaxis])
        seen.append((before > 0).all() and np.array_equal(before, tiny * half))

    watch()
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [True, True]


# Numbers that a float32 or a bfloat16 cannot hold.

BFLOAT16_OVERFLOW = np.float32(2.0**128 - 2.0**119)  # halfway from the largest bfloat16 to 2^128
LARGEST_THAT_FITS = np.nextafter(BFLOAT16_OVERFLOW, np.float32(0))


def samples_with(value: float, *, dense: bool, dtype: str = "float32") -> np.ndarray:
    X = np.ones((50, 21), dtype) if dense else np.zeros((50, 21), dtype)
    X[37, 19] = value
    return X


def blind_net(precision: str) -> Net:
    """Make a net that gives feature 19 no weight, so that nothing overflows but what is looked at."""
    net = Net([21, 5, 3], precision=precision, seed=0)
    weights = net.weights[0].copy()
    weights[19] = 0
    net.set_weights([weights, net.weights[1]], net.biases)
    return net


USES: dict[str, Callable[[Net, np.ndarray], object]] = {
    "fit": lambda net, X: net.fit(X, np.arange(50) % 3, epochs=1, batch_size=16, optimizer=SGD(1e-30)),
    "predict": lambda net, X: net.predict(X),
    "predict_proba": lambda net, X: net.predict_proba(X),
    "predict_proba of few": lambda net, X: net.predict_proba(X[36:39]),
    "evaluate": lambda net, X: net.evaluate(X, np.arange(50) % 3),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("value", [BFLOAT16_OVERFLOW, -BFLOAT16_OVERFLOW, np.finfo(np.float32).max])
@every_instruction_set
def test_feature_too_large_for_bfloat16_is_an_error_that_names_it(
    instruction_set: str, value: np.float32, dense: bool, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMLP_ISA", instruction_set)
    net = blind_net("mixed_bfloat16")
    assert net.instruction_set == instruction_set
    where = r"X\[1, 19\]" if use.endswith("few") else r"X\[37, 19\]"
    with pytest.raises(NonFiniteInputError, match=f"{where} is .* too large for bfloat16"):
        USES[use](net, samples_with(value, dense=dense))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dense", [True, False])
@every_instruction_set
def test_largest_features_that_fit_are_used(
    instruction_set: str, dense: bool, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMLP_ISA", instruction_set)
    for precision, value in (("mixed_bfloat16", LARGEST_THAT_FITS), ("float32", np.finfo(np.float32).max)):
        for sign in (1, -1):
            USES[use](blind_net(precision), samples_with(sign * value, dense=dense))


def test_double_too_large_for_float32_is_an_error_that_names_it() -> None:
    X = samples_with(1e39, dense=False, dtype="float64")
    for use in (name for name in USES if not name.endswith("few")):
        with pytest.raises(NonFiniteInputError, match=r"X\[37, 19\] is 1e\+39, too large for float32"):
            USES[use](blind_net("float32"), X)


def test_weights_too_large_for_bfloat16_are_refused_and_the_largest_that_fit_are_not() -> None:
    net = Net([2, 2], precision="mixed_bfloat16", seed=0)
    before = net.weights[0]
    with pytest.raises(ValueError, match=r"weights\[0\] holds values too large for bfloat16"):
        net.set_weights([[[0, BFLOAT16_OVERFLOW], [0, 0]]], [[0, 0]])
    assert np.array_equal(net.weights[0], before)
    net.set_weights([[[0, LARGEST_THAT_FITS], [0, 0]]], [[0, BFLOAT16_OVERFLOW]])  # biases are not rounded
    assert net.weights[0][0, 1] == LARGEST_THAT_FITS
    Net([2, 2], seed=0).set_weights([[[0, np.finfo(np.float32).max], [0, 0]]], [[0, 0]])


def test_model_file_with_a_weight_too_large_for_bfloat16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    net = Net([2, 2], precision="mixed_bfloat16", seed=0)
    net.set_weights([[[0, LARGEST_THAT_FITS], [0, 0]]], [[0, 0]])
    net.save(path)
    Net.load(path)
    path.write_bytes(path.read_bytes().replace(LARGEST_THAT_FITS.tobytes(), BFLOAT16_OVERFLOW.tobytes()))
    with pytest.raises(ModelFileError, match="not numbers as mixed_bfloat16"):
        Net.load(path)


@every_instruction_set
def test_update_to_a_weight_too_large_for_bfloat16_is_undone(
    instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMLP_ISA", instruction_set)
    net = Net([2, 1], precision="mixed_bfloat16", loss="squared_error", seed=0)
    net.set_weights([[[0], [0]]], [[0]])
    # The gradient of the first weight is -2, so one step takes it to 2 * 1.699e38.
    with pytest.raises(NonFiniteLossError, match="after step 1 "):
        net.fit([[1.0, 0.0]], [1.0], steps=1, optimizer=SGD(1.699e38))
    assert not net.weights[0].any()


# Overflow on the way.


@pytest.mark.parametrize("size", [1e20, 1e21, 1e23, 1e25])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@every_instruction_set
def test_second_moment_that_overflows_is_an_error_and_no_standstill(
    instruction_set: str, precision: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTMLP_ISA", instruction_set)
    net = Net([4, 3], precision=precision, seed=0)
    weights = [net.weights[0] / np.float32(size)]
    net.set_weights(weights, net.biases)
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32) * np.float32(size)
    with pytest.raises(NonFiniteLossError, match=r"A weight or a moment after step 1 .*similar sizes"):
        net.fit(X, np.arange(30) % 3, steps=1, optimizer=Adam())
    assert np.array_equal(net.weights[0], weights[0])


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("few", [True, False])
def test_outputs_that_overflow_are_an_error_that_names_the_row(loss: str, few: bool) -> None:
    net = Net([2, 3, 3], loss=loss, seed=0)
    net.set_weights([np.full((2, 3), 1e20), np.full((3, 3), 1e19)], [np.zeros(3), np.zeros(3)])
    X = np.zeros((5 if few else 500, 2), np.float32)
    X[[3, 4]] = 1
    predictions = [net.predict, net.logits]
    if loss != "squared_error":
        predictions.append(net.predict_proba)
    for predict in predictions:
        with pytest.raises(NonFiniteOutputError, match=r"for X\[3\] are not all finite") as caught:
            predict(X)
        assert caught.value.row == 3
        predict(X[:3])


def test_output_that_overflows_in_a_later_chunk_is_named_by_its_row_in_all() -> None:
    net = Net([2, 3, 3], seed=0)
    net.set_weights([np.full((2, 3), 1e20), np.full((3, 3), 1e19)], [np.zeros(3), np.zeros(3)])
    X = np.zeros((300, 2), np.float64)
    X[[250, 270]] = 1
    net._network.n_parameters = 10**7  # so that a chunk has 100 rows
    with pytest.raises(NonFiniteOutputError, match=r"for X\[250\] "):
        net.predict(X)


LEARNING_RATES = [5e-324, 1e-300, 1e-46, 1e-40, 1e-20, 1e10, 1e20, 1e30, 1e38, 1e39, 1e200, 1e308]


@pytest.mark.parametrize("learning_rate", LEARNING_RATES)
@pytest.mark.parametrize("kind", [Adam, SGD])
def test_extreme_learning_rate_trains_or_is_an_error_and_the_weights_stay_finite(
    kind: type[Optimizer], learning_rate: float
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 8), dtype=np.float32), rng.integers(0, 3, 60)
    for precision in ("float32", "mixed_bfloat16"):
        net = Net([8, 16, 3], precision=precision, seed=0)
        before = net.weights
        try:
            net.fit(X, y, epochs=3, batch_size=20, optimizer=kind(learning_rate=learning_rate))  # type: ignore[call-arg]
        except NonFiniteLossError as error:
            assert error.learning_rate == learning_rate
            assert learning_rate > 1
        assert all(np.isfinite(array).all() for array in (*net.weights, *net.biases))
        assert np.isfinite(net.history.step_loss).all()
        if learning_rate < 1e-30:
            assert all(map(np.array_equal, net.weights, before))


# Sums of very many numbers.

TEN_MILLION = 10_000_000


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_of_ten_million_equal_losses_is_exact(weighted: bool) -> None:
    net = Net([1, 2], seed=0)
    net.set_weights([[[0, 0]]], [[0.3, 1.0]])
    X, y = np.zeros((TEN_MILLION, 1), np.uint8), np.zeros(TEN_MILLION, np.int64)
    weights = np.broadcast_to(0.1, TEN_MILLION) if weighted else None
    exact = np.log1p(np.exp(0.7))
    assert net.evaluate(X, y, sample_weight=weights).loss == pytest.approx(exact, abs=1e-6)

    # A learning rate that changes nothing; one large batch, and many.
    settings = {"optimizer": SGD(1e-40), "shuffle": False, "sample_weight": weights}
    history = net.fit(
        X[:1_000_000], y[:1_000_000], steps=1, batch_size=1_000_000, **{**settings, "sample_weight": None}
    )
    assert history.step_loss[0] == pytest.approx(exact, abs=1e-6)
    history = net.fit(X, y, epochs=1, batch_size=400_000, **settings)
    assert history.loss[0] == pytest.approx(exact, abs=1e-6)


# Whether parameters are the same.


def test_parameters_that_differ_in_the_sign_of_a_zero_are_not_the_same() -> None:
    weights, biases = [np.array([[0.0, 1.0]], np.float32)], [np.zeros(2, np.float32)]
    assert same_parameters((weights, biases), [weights[0].copy(), biases[0].copy()])
    assert not same_parameters((weights, biases), [np.array([[-0.0, 1.0]], np.float32), biases[0]])
    assert not same_parameters((weights, biases), [weights[0], -biases[0]])
