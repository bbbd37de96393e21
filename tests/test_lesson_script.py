"""The script of the lesson, run as a reader would run it, on real MNIST."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "lesson.py"
DATA = os.environ.get("FASTMLP_DATA")


@pytest.mark.skipif(
    not DATA or not Path(DATA, "mnist").is_dir(),
    reason="FASTMLP_DATA names no folder with MNIST: the lesson's script was not run",
)
@pytest.mark.skipif(not SCRIPT.is_file(), reason="there is no examples/lesson.py beside the tests")
def test_lesson_script_with_few_steps_prints_and_draws_all_it_promises(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--steps", "20", "--pictures", str(tmp_path / "pictures")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MNIST: 55,000 images to train on" in done.stdout
    assert "step    0: loss" in done.stdout
    assert "One hidden layer, poor start:" in done.stdout
    assert "Two hidden layers, good start:" in done.stdout
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "digit.png",
        "digits.png",
        "digits_inverted.png",
        "learning_curves.png",
        "mistakes_of_the_deeper_net.png",
        "prediction_right.png",
        "prediction_wrong.png",
    ]
