"""What `import fastmlp` loads, and what works without anything but NumPy."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HEAVY = ("matplotlib", "PIL", "tqdm", "pooch", "click", "requests", "safetensors")

BLOCK = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ImportError(f"{{name}} is blocked in this test")

sys.meta_path.insert(0, Blocker())
"""


def run_python(code: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_none_of_the_heavy_packages(tmp_path: Path) -> None:
    code = f"import sys, fastmlp; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


def test_import_loads_schedules_with_the_first_one_only(tmp_path: Path) -> None:
    code = "import sys, fastmlp; print({'fastmlp.schedules', 'decimal'} & sys.modules.keys())"
    assert run_python(code, tmp_path).strip() == "set()"


def test_import_starts_no_thread(tmp_path: Path) -> None:
    code = """
import os, numpy
before = len(os.listdir("/proc/self/task"))
import fastmlp
print(len(os.listdir("/proc/self/task")) - before)
"""
    if not Path("/proc/self/task").exists():
        pytest.skip("there is no /proc/self/task here")
    assert run_python(code, tmp_path).strip() == "0"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has its GIL")
def test_import_leaves_the_gil_off(tmp_path: Path) -> None:
    assert run_python("import sys, fastmlp; print(sys._is_gil_enabled())", tmp_path).strip() == "False"


def test_net_works_from_fit_to_load_when_the_heavy_packages_are_blocked(tmp_path: Path) -> None:
    code = (
        BLOCK
        + """
import numpy as np
from fastmlp import Net, EarlyStopping, Progress

X = np.random.default_rng(0).random((40, 6), dtype=np.float32)
y = (X[:, 0] > 0.5).astype(int)
net = Net([6, 8, 2], seed=0)
history = net.fit(X, y, epochs=3, progress=True, validation_split=0.2, callbacks=[EarlyStopping()])
net.evaluate(X, y)
net.save("net.safetensors")
assert (Net.load("net.safetensors").predict(X) == net.predict(X)).all()
history.save_csv("history.csv")
print("done")
"""
    )
    assert run_python(code, tmp_path).strip() == "done"


def test_lazy_names_are_listed_and_found(tmp_path: Path) -> None:
    code = """
import fastmlp
missing = set(fastmlp.__all__) - set(dir(fastmlp))
assert not missing, missing
assert fastmlp.idx.read.__module__ == "fastmlp.idx"
assert fastmlp.__version__.count(".") >= 2
try:
    fastmlp.no_such_thing
except AttributeError as error:
    print(error)
"""
    assert run_python(code, tmp_path).strip() == "module 'fastmlp' has no attribute 'no_such_thing'"
