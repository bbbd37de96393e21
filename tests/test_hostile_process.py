"""The extension as a guest in a process: other threads, forks, limits, environment variables, shutdown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack

import numpy as np
import pytest

from fastmlp import Net, _core, _threads

# Enough work for seconds of training, in which other threads get their turn.
DATA = """
import os, threading, time
import numpy as np
from fastmlp import Net, _core
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (4000, 300), dtype=np.uint8)
y = rng.integers(0, 10, 4000)
net = Net([300, 100, 10], seed=0)
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program after DATA, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", DATA + textwrap.dedent(program)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,  # beside busy programs it may take a hundred times as long
        check=False,
    )


def assert_prints(expected: str, program: str, **environment: str) -> None:
    done = run(program, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


def test_instruction_set_forced_by_the_environment_is_used() -> None:
    name = _core.supported_instruction_sets()[0]
    assert_prints(name, "print(net.instruction_set)", FASTMLP_ISA=name)


@pytest.mark.parametrize("name", ["no-such-set", "avx512", "neon"])
def test_instruction_set_that_is_lacking_is_an_error(name: str) -> None:
    if name in _core.supported_instruction_sets():
        pytest.skip(f"this machine has {name}")
    done = run("", FASTMLP_ISA=name)
    assert done.returncode != 0
    assert "RuntimeError: FASTMLP_ISA asks for" in done.stderr


def test_openmp_that_gives_fewer_threads_than_asked_for_is_an_error() -> None:
    done = run("net.fit(X, y, steps=1, threads=4)", OMP_THREAD_LIMIT="2")
    assert "RuntimeError: OpenMP gives only 2 of the 4 threads asked for" in done.stderr


def test_openmp_that_may_choose_the_number_of_threads_does_not() -> None:
    program = "net.fit(X, y, steps=2, threads=3); print(net._last_run.team_size)"
    assert_prints("3", program, OMP_DYNAMIC="true")


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space, as Linux can")
def test_threads_that_cannot_be_started_are_an_exception() -> None:
    program = """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
    before = net.weights[0]
    try:
        net.fit(X, y, steps=1, threads=1000)
    except (RuntimeError, MemoryError):
        print(np.array_equal(before, net.weights[0]))
    """
    assert_prints("True", program, OMP_STACKSIZE="64M", GOMP_STACKSIZE="65536")


# Each of them makes g++'s OpenMP end the other threads.
SMALLER_TEAMS = {
    "fastmlp's": "net.fit(X, y, steps=1, threads=2)",
    "another library's": """
    import ctypes, time
    nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
    ctypes.CDLL("libgomp.so.1").GOMP_parallel(nothing, None, 2, 0)
    time.sleep(0.5)  # until they have ended
    """,
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space, as Linux can")
@pytest.mark.parametrize("whose", SMALLER_TEAMS)
def test_threads_that_cannot_be_started_again_after_a_smaller_team_are_an_exception(whose: str) -> None:
    program = f"""
    import re, resource
    from pathlib import Path
    net.fit(X, y, steps=1, threads=16)
    {SMALLER_TEAMS[whose].strip()}
    in_use = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**23, in_use + 2**23))
    before = net.weights[0]
    try:
        net.fit(X, y, steps=1, threads=16)
    except (RuntimeError, MemoryError):
        print(np.array_equal(before, net.weights[0]))
    """
    assert_prints("True", program)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_after_use_leaves_parent_and_child_at_work() -> None:
    program = """
    import warnings
    warnings.simplefilter("ignore")  # of Python, about threads and fork
    net.fit(X, y, steps=3, threads=2)
    child = os.fork()
    if child == 0:
        net.fit(X, y, steps=3, threads=2)
        net.predict(X)
        os._exit(7)
    net.fit(X, y, steps=3, threads=2)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert_prints("7", program)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot choose processors here")
def test_fit_on_one_processor_takes_one_thread() -> None:
    program = """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    net.fit(X, y, steps=2, batch_size=4000)
    print(net._last_run.team_size)
    """
    assert_prints("1", program)


def test_fit_under_a_limit_of_threadpoolctl_takes_no_more_threads() -> None:
    pytest.importorskip("threadpoolctl")
    program = """
    from threadpoolctl import threadpool_limits
    with threadpool_limits(1):
        net.fit(X, y, steps=2, batch_size=4000)
    print(net._last_run.team_size)
    """
    assert_prints("1", program)


def test_labels_changed_by_another_thread_do_no_harm() -> None:
    program = """
    def spoil():
        while fitting.is_set():
            y[:] = 2**40
            y[:] = 1
    fitting = threading.Event()
    fitting.set()
    other = threading.Thread(target=spoil)
    other.start()
    for _ in range(30):
        try:
            net.fit(X, y, steps=5, batch_size=500)
        except ValueError:
            pass
    fitting.clear()
    other.join()
    print("alive")
    """
    assert_prints("alive", program)


def test_optimizer_set_by_another_thread_in_mid_run_does_no_harm() -> None:
    program = """
    network = _core.Network([300, 100, 10], ["relu"])
    trainer = _core.Trainer(network)
    def change():
        while running.is_set():
            trainer.set_sgd(momentum=0.5)
            trainer.set_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    running = threading.Event()
    running.set()
    other = threading.Thread(target=change)
    other.start()
    order, offsets = np.arange(4000), np.arange(0, 4001, 100)
    for _ in range(20):
        trainer.run(X, y, order, offsets, np.full(40, 1e-3), 2, True)
    running.clear()
    other.join()
    print("alive")
    """
    assert_prints("alive", program)


def test_interpreter_that_ends_in_mid_fit_ends_quietly() -> None:
    program = """
    threading.Thread(target=lambda: net.fit(X, y, epochs=100_000), daemon=True).start()
    time.sleep(0.5)
    print("done")
    """
    assert_prints("done", program)


# A handler runs in the middle of a fit, most likely when a call of the core has just returned.
WITH_HANDLER = """
import signal, tempfile
from pathlib import Path
n_handled = 0
def handle_during_fit(handler, **settings):
    def count_and_handle(*_):
        global n_handled
        handler()
        n_handled += 1
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.signal(signal.SIGALRM, count_and_handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while n_handled < 4:
        net.fit(X, y, epochs=20, batch_size=500, threads=2, **settings)
    signal.setitimer(signal.ITIMER_REAL, 0)
path = Path(tempfile.mkdtemp()) / "net"
"""
# Another thread, which waits for its turn while the handler wants one.
READER = """
from contextlib import contextmanager
@contextmanager
def threading_reader():
    ended = threading.Event()
    def read():
        while not ended.is_set():
            net.weights
    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
"""
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")


@needs_timer
def test_signal_handler_that_reads_and_saves_during_a_fit_sees_whole_steps() -> None:
    program = """
    from fastmlp import SGD
    features = np.random.default_rng(0).random((30_000, 300))  # converted, and predicted in several chunks
    def handler():
        weights, biases = net.weights, net.biases
        net.save(path)
        saved = Net.load(path)
        for mine, others in zip(weights + biases, saved.weights + saved.biases):
            assert np.array_equal(mine, others)
        assert np.array_equal(net.predict(features), saved.predict(features))
        try:
            net.save(path, training_state=True)
        except RuntimeError as error:
            assert "by the callbacks of that fit alone" in str(error)
        else:
            raise AssertionError("steps and history may be some steps apart")
    with threading_reader():
        handle_during_fit(handler)
    twin = Net([300, 100, 10], seed=0)
    while twin.n_epochs < net.n_epochs:
        twin.fit(X, y, epochs=20, batch_size=500, threads=2)
    print(np.array_equal(net.weights[0], twin.weights[0]))
    """
    assert_prints("True", WITH_HANDLER + READER + textwrap.dedent(program))


@needs_timer
def test_signal_handler_that_sets_weights_during_a_fit_is_obeyed() -> None:
    program = """
    from fastmlp import SGD
    zeros = [np.zeros_like(weight) for weight in net.weights]
    biases = net.biases
    n_refused = 0
    def handler():
        global n_refused
        try:
            net.set_weights(zeros, biases)
        except RuntimeError:  # in the middle of the beginning of a fit
            n_refused += 1
    with threading_reader():
        handle_during_fit(handler, optimizer=SGD(1e-30))
    print(n_refused < 4, max(np.abs(weight).max() for weight in net.weights) < 1e-20)
    """
    assert_prints("True True", WITH_HANDLER + READER + textwrap.dedent(program))


def test_del_that_the_garbage_collector_runs_may_use_a_net() -> None:
    program = """
    import gc
    net = Net([4] + [3] * 200 + [2], seed=0)
    n_deleted = 0
    class Owner:
        def __init__(self):
            self.cycle = self
        def __del__(self):
            global n_deleted
            net.weights
            net.predict(np.zeros((1, 4)))
            n_deleted += 1
    gc.set_threshold(50)
    for _ in range(100_000):  # free-threaded CPython collects when there is a quarter of what lives
        Owner()
        net.weights
        if n_deleted > 20:
            break
    print(n_deleted > 0)
    """
    assert_prints("True", program)


def test_trainer_of_no_network_is_refused() -> None:
    with pytest.raises(TypeError):
        _core.Trainer(None)  # type: ignore[arg-type]


def test_fit_beside_threads_that_predict_without_end_is_not_starved() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (2000, 300), dtype=np.uint8)
    y = rng.integers(0, 10, 2000)
    net = Net([300, 100, 10], seed=0)
    stop = threading.Event()

    def predict() -> None:
        while not stop.is_set():
            net.predict(X)

    readers = [threading.Thread(target=predict) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        # Without its turn, the fit would not end before the readers do: after 60 s.
        timer = threading.Timer(60, stop.set)
        timer.start()
        net.fit(X, y, epochs=1, batch_size=100)
        assert not stop.is_set()
    finally:
        stop.set()
        timer.cancel()
        for reader in readers:
            reader.join()


def test_fit_beside_busy_processes_has_the_same_weights() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (2000, 300), dtype=np.uint8)
    y = rng.integers(0, 10, len(X))
    alone, beside = (Net([300, 100, 10], seed=0) for _ in range(2))
    alone.fit(X, y, epochs=4, batch_size=20, threads=1)

    with ExitStack() as busy:
        for _ in range(2 * _threads._n_processors()):  # so that there is one to run whenever a thread yields
            process = busy.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            busy.callback(process.kill)
        beside.fit(X, y, epochs=4, batch_size=20, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(alone.weights, beside.weights, strict=True))
