"""Memory: how much a fit takes, that none of it is lost, and what happens when there is not enough."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits address space")


# One thread is left to be forked, and memory that was freed goes back to the system.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def run(program: str) -> str:
    """Run a program in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


PEAK = """
import re
from pathlib import Path
import numpy as np
from fastmlp import Net

def status(key):
    return int(re.search(rf"{key}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

X = np.random.default_rng(0).integers(0, 256, (55_000, 28, 28), dtype=np.uint8)  # as much as MNIST
X[X < 200] = 0
y = np.arange(55_000) % 10
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = status("VmRSS")
"""


@pytest.mark.parametrize("arguments", ["", "precision='mixed_bfloat16'"])
def test_fit_of_mnist_peaks_at_most_60_mb_above_interpreter_and_data(arguments: str) -> None:
    program = f"""
    net = Net([784, 200, 10], seed=0, {arguments})
    net.fit(X, y, epochs=2, batch_size=1000, validation_data=(X[:5000], y[:5000]))
    net.evaluate(X[:10_000], y[:10_000])
    print(status("VmHWM") - before)
    """
    assert float(run(PEAK + textwrap.dedent(program))) <= 60


@pytest.mark.parametrize(("state", "times"), [(False, 2), (True, 3)])
def test_net_is_loaded_in_twice_its_file_and_thrice_with_the_state_of_training(
    state: bool, times: int
) -> None:
    # What is read, the net that is made of it, and a copy of the state that restoring goes through.
    program = f"""
    import tempfile
    net = Net([784, 3000, 2000, 10], seed=0)
    net.fit(X[:20], y[:20], steps=1)
    path = Path(tempfile.mkdtemp()) / "net.safetensors"
    net.save(path, training_state={state})
    del net
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    net = Net.load(path)
    print((status("VmHWM") - before) * 2**20 / path.stat().st_size)
    path.unlink()
    """
    assert float(run(PEAK + textwrap.dedent(program))) <= times + 0.2


@pytest.mark.parametrize(
    ("mode", "file_format", "option"),
    [
        ("I;16", "PNG", ""),
        ("F", "TIFF", ""),
        ("P", "PNG", "transparency=0"),
        ("RGBA", "PNG", ""),
        ("RGB", "JPEG", "progressive=True"),
    ],
)
def test_image_is_read_in_at_most_10_bytes_a_pixel(mode: str, file_format: str, option: str) -> None:
    # The image itself has up to four, a progressive JPEG six; the rest is made of it tile by tile.
    program = f"""
    import io
    from contextlib import suppress
    from PIL import Image
    from fastmlp import images
    file, side = io.BytesIO(), 5000
    Image.new({mode!r}, (side, side)).save(file, {file_format!r}, {option})
    file.seek(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    with suppress(ValueError):  # it is blank
        images.read(file)
    print((status("VmHWM") - before) * 2**20 / side**2)
    """
    assert float(run(PEAK + textwrap.dedent(program))) <= 10


# Each limit is tried in a child of its own, in which all memory is as it was in the parent.
SHORT_OF_MEMORY = """
import os, resource, sys, tempfile, threading
from pathlib import Path
import numpy as np
from fastmlp import Net, Adam

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (3000, 300), dtype=np.uint8)
y = rng.integers(0, 10, 3000)
net = Net([300, 1000, 500, 10], seed=0, precision=PRECISION)
path = Path(tempfile.mkdtemp()) / "net.safetensors"
net.save(path)
with_state = path.with_name("with-state.safetensors")
fitted = Net([300, 1000, 500, 10], seed=1)
fitted.fit(X, y, steps=1, threads=1)
fitted.save(with_state, training_state=True)
X_float64 = X / 255.0
UNLIMITED = resource.RLIM_INFINITY

def parameters():
    return np.concatenate([array.ravel() for array in net.weights + net.biases])

before = parameters()

def in_thread(function):
    caught = []
    def call():
        try:
            function()
        except BaseException as error:
            caught.append(error)
    try:
        thread = threading.Thread(target=call)
        thread.start()
    except RuntimeError:  # Python could not start it
        raise MemoryError from None
    thread.join()
    if caught:
        raise caught[0]

def child(extra):
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + extra, UNLIMITED))
    try:
        operation()
        ended = "done"
    except MemoryError:
        ended = "MemoryError"
    resource.setrlimit(resource.RLIMIT_AS, (UNLIMITED, UNLIMITED))
    unchanged = np.array_equal(parameters(), before)
    if ended == "MemoryError" and len(net.history.step_loss) == 0:
        assert unchanged, "the net has changed"
    net.fit(X[:200], y[:200], steps=1, threads=2)  # it can go on
    net.predict(X[:200], threads=2)
    return ended

def outcome(extra):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ended = child(extra)
        except BaseException as error:
            ended = f"{type(error).__name__}: {error}"
        os.write(writing, ended.encode()[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        ended = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return ended if status == 0 else f"the process ended with status {status}"

outcomes = {}
extra, n_done = 0, 0
while n_done < 3:
    outcomes[extra] = outcome(extra)
    n_done = n_done + 1 if outcomes[extra] == "done" else 0
    extra += next(step for end, step in STEPS if extra < end)
wrong = {extra: ended for extra, ended in outcomes.items() if ended not in ("done", "MemoryError")}
assert not wrong, wrong
print(list(outcomes.values()).count("MemoryError"))
"""

FIT = "net.fit(X, y, steps=2, batch_size=1000, threads=2)"
OPERATIONS = {
    "fit": FIT,
    "fit of converted samples": "net.fit(X_float64, y, steps=2, batch_size=1000, threads=2)",
    "fit with validation": "net.fit(X, y, epochs=1, batch_size=1500, threads=2, validation_split=0.1)",
    "fit in a thread of its own": f"in_thread(lambda: {FIT})",
    "predict_proba": "net.predict_proba(X, threads=2)",
    "evaluate": "net.evaluate(X, y, threads=2)",
    "set_weights": "net.set_weights(net.weights, net.biases)",
    "Net": "Net([300, 1000, 500, 10])",
    "save": "net.save(path)",
    "save with state": "fitted.save(path, training_state=True)",
    "load": "Net.load(path)",
    "load with state": "Net.load(with_state)",
}
# How far limits lie apart up to which number of bytes beyond what is in use.
COARSE = ((2**17, 2**16), (2**60, 2 * 2**20))
FINE = ((2**18, 2**14), (2**21, 2**17), (2**60, 700 * 2**10))


def assert_memory_error_below_some_limit(operation: str, precision: str, steps: object) -> None:
    settings = f"PRECISION = {precision!r}\nSTEPS = {steps}\noperation = lambda: {OPERATIONS[operation]}\n"
    assert int(run(settings + SHORT_OF_MEMORY)) > 0


@pytest.mark.parametrize("operation", OPERATIONS)
def test_memory_that_does_not_suffice_is_memory_error_and_the_net_untouched(operation: str) -> None:
    assert_memory_error_below_some_limit(operation, "float32", COARSE)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_memory_that_does_not_suffice_is_memory_error_at_every_limit(operation: str, precision: str) -> None:
    assert_memory_error_below_some_limit(operation, precision, FINE)


LIFE = """
import copy, os
from pathlib import Path
import numpy as np
from fastmlp import SGD, Adam, EarlyStopping, Net

X = np.random.default_rng(0).random((64, 10), dtype=np.float32)
y = np.arange(64) % 3
net = Net([10, 16, 3], seed=0)

def fits(count):
    global net
    for number in range(count):
        optimizer = SGD(0.01, momentum=0.9) if number % 3 == 0 else Adam()
        net.fit(X, y, steps=3, batch_size=20, optimizer=optimizer, threads=1 + number % 2)
        net.predict(X), net.predict_proba(X[:1]), net.evaluate(X, y)
        try:
            net.fit(X * np.inf, y, steps=1)
        except ValueError:
            pass
        if number % 10 == 0:
            net.fit(X.astype(float), y, epochs=2, validation_split=0.2, callbacks=[EarlyStopping(patience=1)])
            net = copy.deepcopy(net)
            net.save(path), Net.load(path)
            Net([10, 16, 3], precision="mixed_bfloat16").fit(X, y, steps=2)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

with np.errstate(invalid="ignore"):
    fits(FIRST)
    before = resident()
    fits(MORE)
print((resident() - before) / 2**20)
"""


@pytest.mark.slow
def test_ten_thousand_fits_leave_no_memory_behind(tmp_path: Path) -> None:
    settings = f"path = {str(tmp_path / 'net.safetensors')!r}\nFIRST, MORE = 1000, 10_000\n"
    assert float(run(settings + LIFE)) <= 1
