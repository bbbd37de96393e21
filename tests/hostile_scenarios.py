"""What others do in, and to, a process that uses fastmlp: threads, forks, pools, other libraries, shutdown.

``python tests/hostile_scenarios.py NAME REPEATS`` runs one scenario so often and prints how long it took; it
ends with an error if a result is wrong, and with all threads' tracebacks if a repeat takes two minutes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp import Net

LONGEST_REPEAT = 120  # seconds
LONGEST_CHILD = 60

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (400, 100), dtype=np.uint8)
y = rng.integers(0, 10, 400)


def new_net() -> Net:
    return Net([100, 60, 10], seed=0)


def fitted_weights(net: Net | None = None) -> NDArray[np.float32]:
    """Weights after three steps on two threads, the same in every process."""
    net = net or new_net()
    net.fit(X, y, steps=3, threads=2)
    return net.weights[0]


EXPECTED = fitted_weights(new_net())
EXPECTED_PREDICTION = new_net().predict(X)


def check() -> None:
    """Check that a net of one's own trains and predicts as it must."""
    np.testing.assert_array_equal(fitted_weights(), EXPECTED)
    np.testing.assert_array_equal(new_net().predict(X), EXPECTED_PREDICTION)


def in_threads(*works: Callable[[], object]) -> None:
    """Run all of them at once; the first exception of any is raised."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Working:
    """A thread that does something again and again while the block runs."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def _loop(self) -> None:
        while not self._ended.is_set():
            self._work()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()


def assert_child_succeeds(work: Callable[[], object]) -> None:
    """Fork, work in the child, and wait for it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LONGEST_CHILD)  # faulthandler's own thread is not in the child
            work()
            status = 0
        except BaseException as failure:
            sys.stderr.write(f"child: {failure!r}\n")
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the child ended with {status}"


def work_in_pool(_: int) -> tuple[bytes, bytes]:
    return fitted_weights().tobytes(), new_net().predict(X).tobytes()


def predict_in_pool(net: Net) -> bytes:
    return net.predict(X).tobytes()


# What stays in one process.


def sixteen_threads_predict_while_others_train() -> None:
    net = new_net()

    def predict() -> None:
        np.testing.assert_array_equal(net.predict(X), EXPECTED_PREDICTION)

    in_threads(*[predict] * 16, *[check] * 4)


def threads_share_one_net_that_is_fitted() -> None:
    net = new_net()
    in_threads(lambda: fitted_weights(net), *[lambda: net.predict(X), lambda: pickle.dumps(net)] * 4)
    np.testing.assert_array_equal(net.weights[0], EXPECTED)


def two_fits_of_one_net() -> None:
    net = new_net()
    n_refused = 0

    def fit() -> None:
        nonlocal n_refused
        try:
            fitted_weights(net)
        except RuntimeError:
            n_refused += 1

    in_threads(fit, fit, fit)
    assert n_refused < 3


_in_openmp: list[Callable[[Callable[[], object]], None]] = []


def inside_an_openmp_region_of_another_library() -> None:
    if not _in_openmp:
        _in_openmp.append(openmp_library())
    _in_openmp[0](lambda: np.testing.assert_array_equal(new_net().predict(X), EXPECTED_PREDICTION))
    _in_openmp[0](fit_by_default)


def fit_by_default() -> None:
    net = new_net()
    net.fit(X, y, steps=3)
    np.testing.assert_array_equal(net.weights[0], EXPECTED)


def openmp_library() -> Callable[[Callable[[], object]], None]:
    """Compile and load a library that calls back from an OpenMP region of four threads."""
    source = "void in_region(void (*work)(void)) {\n#pragma omp parallel num_threads(4)\n  work();\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "region.so"
        command = ["gcc", "-fopenmp", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=source.encode(), check=True)
        region = ctypes.CDLL(str(library))
    kind = ctypes.CFUNCTYPE(None)

    def run(work: Callable[[], object]) -> None:
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        region.in_region(kind(guarded))
        if failures:
            raise failures[0]

    return run


# What starts other processes.


def fork_after_use() -> None:
    check()
    assert_child_succeeds(check)
    check()


def fork_while_another_thread_fits_the_same_net() -> None:
    net = new_net()

    def use() -> None:
        assert np.isfinite(net.weights[0]).all()
        net.predict(X)
        net.fit(X, y, steps=3, threads=2)
        pickle.dumps(net)
        check()

    with Working(lambda: net.fit(X, y, epochs=20, threads=2)):
        time.sleep(0.01)
        assert_child_succeeds(use)


def fork_while_other_threads_predict_with_the_same_net() -> None:
    net = new_net()
    net.fit(X, y, steps=1)
    with Working(lambda: net.predict(X)), Working(lambda: net.predict(X)), Working(lambda: net.weights):
        assert_child_succeeds(lambda: (net.fit(X, y, steps=3, threads=2), net.predict(X)))


def pool(method: str) -> None:
    net = new_net()
    check()
    context = multiprocessing.get_context(method)
    with context.Pool(2) as workers:
        worked = workers.map_async(work_in_pool, range(4))
        predicted = workers.map_async(predict_in_pool, [net] * 4)
        check()
        assert set(worked.get(LONGEST_CHILD)) == {(EXPECTED.tobytes(), EXPECTED_PREDICTION.tobytes())}
        assert set(predicted.get(LONGEST_CHILD)) == {EXPECTED_PREDICTION.tobytes()}


def pool_by_fork() -> None:
    pool("fork")


def pool_by_forkserver() -> None:
    pool("forkserver")


def pool_by_spawn() -> None:
    pool("spawn")


def load_batches(net: Net, seed: int, batches: multiprocessing.Queue[object]) -> None:
    order = np.random.default_rng(seed)
    for _ in range(5):
        chosen = order.choice(len(X), 100)
        batches.put((chosen, net.predict(X[chosen])))
    fitted_weights()
    batches.put(None)


def workers_load_batches_that_the_parent_fits() -> None:
    context = multiprocessing.get_context("fork")
    net = new_net()
    net.fit(X, y, steps=1, threads=2)
    batches = context.Queue()
    workers = [context.Process(target=load_batches, args=[net, seed, batches]) for seed in range(2)]
    for worker in workers:
        worker.start()
    n_ended = 0
    while n_ended < len(workers):
        batch = batches.get(timeout=LONGEST_CHILD)
        if batch is None:
            n_ended += 1
        else:
            chosen, _ = batch
            net.fit(X[chosen], y[chosen], steps=1, threads=2)
    for worker in workers:
        worker.join(LONGEST_CHILD)
        assert worker.exitcode == 0


def joblib_workers() -> None:
    joblib = importlib.import_module("joblib")
    expected = {(EXPECTED.tobytes(), EXPECTED_PREDICTION.tobytes())}
    for backend in ("loky", "multiprocessing", "threading"):
        results = joblib.Parallel(n_jobs=2, backend=backend)(
            joblib.delayed(work_in_pool)(i) for i in range(4)
        )
        assert set(results) == expected
    check()


def loky_workers() -> None:
    loky = importlib.import_module("loky")
    executor = loky.get_reusable_executor(max_workers=2, kill_workers=True)
    assert len(set(executor.map(work_in_pool, range(4)))) == 1
    executor.shutdown(kill_workers=True)


def run_program(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=LONGEST_REPEAT,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
    return done.stdout.strip()


USE_TORCH = "import torch; assert (torch.ones(300, 300) @ torch.ones(300, 300)).sum() == 300**3"
USE_SCIKIT_LEARN = """
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.datasets import make_classification
HistGradientBoostingClassifier(max_iter=2).fit(*make_classification(2000, random_state=0))
"""


def beside(other: str) -> None:
    ours = "import hostile_scenarios; hostile_scenarios.check()\n"
    assert run_program(f"{other}\n{ours}{other}\n{ours}print('done')") == "done"
    assert run_program(f"{ours}{other}\n{ours}print('done')") == "done"


def torch_before_and_after() -> None:
    beside(USE_TORCH)


def scikit_learn_before_and_after() -> None:
    beside(USE_SCIKIT_LEARN)


def interpreter_ends_while_threads_train_and_predict() -> None:
    program = """
import threading, time
from hostile_scenarios import new_net, X, y
net, other = new_net(), new_net()
def predict():
    while True:
        other.predict(X)
threading.Thread(target=lambda: net.fit(X, y, epochs=10**6, threads=2), daemon=True).start()
threading.Thread(target=predict, daemon=True).start()
time.sleep(0.05)
print("done")
"""
    assert run_program(program) == "done"


IN_ONE_PROCESS = (
    sixteen_threads_predict_while_others_train,
    threads_share_one_net_that_is_fitted,
    two_fits_of_one_net,
    inside_an_openmp_region_of_another_library,
)
IN_SEVERAL = (
    fork_after_use,
    fork_while_another_thread_fits_the_same_net,
    fork_while_other_threads_predict_with_the_same_net,
    pool_by_fork,
    pool_by_forkserver,
    pool_by_spawn,
    workers_load_batches_that_the_parent_fits,
    joblib_workers,
    loky_workers,
    torch_before_and_after,
    scikit_learn_before_and_after,
    interpreter_ends_while_threads_train_and_predict,
)
NEEDS_PACKAGE = {
    joblib_workers: "joblib",
    loky_workers: "loky",
    torch_before_and_after: "torch",
    scikit_learn_before_and_after: "sklearn",
}
NEEDS_PROGRAM = {inside_an_openmp_region_of_another_library: "gcc"}


def lacking(scenario: Callable[[], None]) -> str | None:
    """Name the package or program that a scenario needs and that is not here."""
    package, program = NEEDS_PACKAGE.get(scenario), NEEDS_PROGRAM.get(scenario)
    if package is not None and importlib.util.find_spec(package) is None:
        return package
    if program is not None and shutil.which(program) is None:
        return program
    return None


def main() -> None:
    scenario = next(s for s in IN_ONE_PROCESS + IN_SEVERAL if s.__name__ == sys.argv[1])
    repeats = int(sys.argv[2])
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about threads and fork
    started = time.perf_counter()
    for _ in range(repeats):
        faulthandler.dump_traceback_later(LONGEST_REPEAT, exit=True)
        scenario()
        faulthandler.cancel_dump_traceback_later()
    print(f"{scenario.__name__}: {repeats} repeats in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
