"""fastmlp and NumPy train the same net, turn and turn about: what ``fastmlp benchmark`` prints."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._numpy_net import NumPyNet
from fastmlp._random import PURPOSE_SHUFFLE
from fastmlp._threads import MAX_THREADS, thread_count
from fastmlp.datasets import Dataset
from fastmlp.metrics import Evaluation
from fastmlp.net import Net
from fastmlp.optimizers import Adam

_Array = NDArray[np.float32]

_SEED: Final = 0
_LEARNING_RATE: Final = 1e-3
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_PAUSE_SECONDS: Final = 0.2  # threads of OpenMP and BLAS wait actively for a while after their work

# How far the losses of the first steps may differ, in parts of the first step's loss. In 20 steps float32's
# roundings (2^-24) were found to make up to 1e-6 of it, bfloat16's of operands (2^-9) up to 2e-2: in nets of
# four layers, with batches of 1 to 1,000. Both grow from step to step.
_CHECKED_STEPS: Final = 10
_TOLERANCES: Final[Mapping[str, float]] = {"float32": 1e-3, "mixed_bfloat16": 0.1}


class BenchmarkError(RuntimeError):
    """There is nothing to compare: the two did not train the same net, or NumPy's process has ended."""


@dataclass(frozen=True)
class Trained:
    """What one of the two has reached: the seconds of each round, and how good the trained net is."""

    seconds: list[float]
    test: Evaluation


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`.

    Attributes
    ----------
    fastmlp, numpy : Trained
        Rounds are in the same order in both.
    largest_deviation : float
        Of the losses of the first steps, in parts of the first step's loss.
    n_checked : int
        How many steps these were.
    """

    layer_sizes: tuple[int, ...]
    batch_size: int
    steps: int
    fastmlp: Trained
    numpy: Trained
    largest_deviation: float
    n_checked: int

    @property
    def ratios(self) -> list[float]:
        """NumPy's time / fastmlp's, round by round."""
        return [its / mine for its, mine in zip(self.numpy.seconds, self.fastmlp.seconds, strict=True)]

    def ms_per_step(self, trained: Trained) -> float:
        """Return the median over all rounds."""
        return 1e3 * median(trained.seconds) / self.steps

    def gflops(self, trained: Trained) -> float:
        """Return 10^9 operations of matrix products per second, in the median round; zeros count as work."""
        return flops_per_step(self.layer_sizes, self.batch_size) * self.steps / median(trained.seconds) * 1e-9


def compare(
    data: Dataset,
    *,
    hidden: Sequence[int] = (200,),
    batch_size: int = 1000,
    steps: int = 110,
    rounds: int = 7,
    precision: str = "float32",
    threads: int | None = None,
) -> Comparison:
    """Train the same net with fastmlp and with NumPy, verify that it is the same, and time both.

    Both start from the same weights and see the same batches, in ReLU nets trained by Adam with a learning
    rate of 0.001. NumPy has a process of its own, with as many threads, that waits while fastmlp trains, and
    the other way round. fastmlp's time is that of the whole of `Net.fit`; NumPy's that of its steps, with the
    order of samples ready made.

    Parameters
    ----------
    data : Dataset
        What to train and to test on.
    hidden : sequence of int, default (200,)
        Units of each hidden layer.
    batch_size : int, default 1000
        From 1 to the number of training images; those that do not fill a batch are left out.
    steps : int, default 110
        In each round.
    rounds : int, default 7
        How often each of the two trains from the start.
    precision : {"float32", "mixed_bfloat16"}, default "float32"
        fastmlp's; NumPy has float32 only.
    threads : int, optional
        Exactly as many in both; by default at most as many as `Net.fit` would use.

    Returns
    -------
    Comparison
        Times, ratios and accuracies.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or value.
    BenchmarkError
        If the losses of the first steps differ, or NumPy's process has ended.
    MemoryError
        If memory is short.

    Notes
    -----
    The process is started by multiprocessing's "spawn": a script that calls this guards its main part with
    ``if __name__ == "__main__":``.

    Examples
    --------
    >>> from fastmlp import datasets
    >>> print(median(compare(datasets.mnist()).ratios))  # doctest: +SKIP
    6.1
    """
    batch_size = _validation.whole_number(batch_size, "batch_size", maximum=len(data.train))
    steps = _validation.whole_number(steps, "steps", maximum=2**31)
    rounds = _validation.whole_number(rounds, "rounds", maximum=2**31)
    numpy_threads = thread_count(_validation.threads(threads, MAX_THREADS)).n_threads
    n_samples = len(data.train) // batch_size * batch_size
    task = _Task(
        (int(np.prod(data.train.images.shape[1:])), *hidden, len(data.class_names)),
        batch_size,
        images=data.train.images.reshape(len(data.train), -1)[:n_samples],
        labels=data.train.labels[:n_samples],
        order=order_of_fit(n_samples, batch_size, steps),
    )
    fastmlp = _FastMlp(task, precision, threads)
    test = data.test.images, data.test.labels
    with _NumPyProcess(task, fastmlp.net.weights, fastmlp.net.biases, numpy_threads) as numpy:
        n_checked = min(_CHECKED_STEPS, steps)
        deviation = _largest_deviation(fastmlp.train()[1], numpy.train()[1], n_checked, precision)
        seconds: dict[object, list[float]] = {fastmlp: [], numpy: []}
        for number in range(rounds):
            turns = (fastmlp, numpy) if number % 2 == 0 else (numpy, fastmlp)
            for trainer in turns:
                time.sleep(_PAUSE_SECONDS)
                seconds[trainer].append(trainer.train()[0])
        net = fastmlp.net
        mine = Trained(seconds[fastmlp], net.evaluate(*test, threads=threads))
        net.set_weights(*numpy.parameters())
        its = Trained(seconds[numpy], net.evaluate(*test, threads=threads))
    return Comparison(task.layer_sizes, batch_size, steps, mine, its, deviation, n_checked)


def order_of_fit(n_samples: int, batch_size: int, steps: int, seed: int = _SEED) -> NDArray[np.int64]:
    """Return the samples of each step of the first fit of ``Net(..., seed=seed)``, (steps, batch_size).

    n_samples is a multiple of batch_size.
    """
    epochs = -(-steps * batch_size // n_samples)
    shuffles = _core.philox_permutation(seed, PURPOSE_SHUFFLE, 0, n_samples, epochs)
    return shuffles[: steps * batch_size].reshape(steps, batch_size)


def flops_per_step(layer_sizes: Sequence[int], batch_size: int) -> int:
    """Return the floating-point operations of one step's matrix products, zeros and all.

    Every weight takes part in three products (output, its own gradient, its input's gradient), with one
    multiplication and one addition per sample; those of the first layer in two, as nobody needs the gradient
    of pixels.
    """
    weights = [n_inputs * n_outputs for n_inputs, n_outputs in itertools.pairwise(layer_sizes)]
    return 2 * batch_size * (3 * sum(weights) - weights[0])


def _largest_deviation(mine: Sequence[float], its: Sequence[float], n_checked: int, precision: str) -> float:
    first = float(its[0])
    deviations = [abs(float(a) - float(b)) / first for a, b in zip(mine, its, strict=True)][:n_checked]
    worst = int(np.argmax(deviations))
    if not deviations[worst] <= _TOLERANCES[precision]:
        raise BenchmarkError(
            f"The loss of step {worst + 1} is {mine[worst]:.7g} in fastmlp and {its[worst]:.7g} in NumPy. "
            "They do not train the same net, so there is nothing to compare; please report this."
        )
    return deviations[worst]


@dataclass(frozen=True, eq=False)
class _Task:
    """What both train on."""

    layer_sizes: tuple[int, ...]
    batch_size: int
    images: NDArray[np.uint8]  # (n, n_features)
    labels: NDArray[np.uint8]
    order: NDArray[np.int64]  # (steps, batch_size): what fit draws from _SEED


class _FastMlp:
    def __init__(self, task: _Task, precision: str, threads: int | None) -> None:
        self._task = task
        self._precision = precision
        self._threads = threads
        self.net = self._new_net()

    def _new_net(self) -> Net:
        return Net(self._task.layer_sizes, precision=self._precision, seed=_SEED)

    def train(self) -> tuple[float, list[float]]:
        """Train from the start; return the seconds and the loss of each step."""
        self.net = self._new_net()
        start = time.perf_counter()
        history = self.net.fit(
            self._task.images,
            self._task.labels,
            steps=len(self._task.order),
            batch_size=self._task.batch_size,
            optimizer=Adam(_LEARNING_RATE),
            threads=self._threads,
        )
        return time.perf_counter() - start, list(history.step_loss)


class _NumPyProcess:
    """A process that trains a `NumPyNet`; leaving the context ends it."""

    def __init__(self, task: _Task, weights: list[_Array], biases: list[_Array], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end,), daemon=True)
        # It inherits both: the size of its thread pool, and that Ctrl-C is for this process to handle.
        with _environment(dict.fromkeys(_THREAD_VARIABLES, str(threads))), _ctrl_c_ignored():
            self._process.start()
        its_end.close()
        self._start = task, weights, biases

    def __enter__(self) -> _NumPyProcess:
        self._ask("prepare", *self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def train(self) -> tuple[float, list[float]]:
        """Train from the start; return the seconds and the loss of each step."""
        seconds, losses = self._ask("train")
        return seconds, losses

    def parameters(self) -> tuple[list[_Array], list[_Array]]:
        weights, biases = self._ask("parameters")
        return weights, biases

    def _ask(self, *request: object) -> Any:
        try:
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise BenchmarkError(
                f"NumPy's process ended before its time (exit code {self._process.exitcode})."
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Server:
    """What NumPy's process can be asked for."""

    def prepare(self, task: _Task, weights: list[_Array], biases: list[_Array]) -> None:
        self._net = NumPyNet(task.layer_sizes, task.batch_size)
        self._task, self._start = task, (weights, biases)

    def train(self) -> tuple[float, list[float]]:
        task = self._task
        self._net.start(*self._start)
        start = time.perf_counter()
        losses = self._net.train(task.images, task.labels, task.order, _LEARNING_RATE)
        return time.perf_counter() - start, losses.tolist()

    def parameters(self) -> tuple[list[_Array], list[_Array]]:
        return self._net.weights, self._net.biases


def _serve(connection: Connection) -> None:
    """Answer requests until nobody asks any more; an error is an answer."""
    server = _Server()
    with contextlib.suppress(EOFError):
        while True:
            request, *arguments = connection.recv()
            try:
                answer = getattr(server, request)(*arguments)
            except Exception as error:
                answer = error
            connection.send(answer)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may do this
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
