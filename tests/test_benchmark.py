"""`fastmlp benchmark`: that it compares the same training, and what its user sees. No time decides a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drawn_digits import write_dataset
from fastmlp import Adam, Net, benchmark, cli, datasets
from fastmlp._numpy_net import NumPyNet

SMALL = ["--layers", "16", "--batch-size", "25", "--steps", "7", "--rounds", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("benchmark") / "digits")


def test_numpy_net_trains_as_net_does(folder: Path) -> None:
    data = datasets.load(folder)
    n = len(data.train) // 30 * 30
    images, labels = data.train.images.reshape(len(data.train), -1)[:n], data.train.labels[:n]
    net = Net([784, 24, 16, 10], seed=0)
    peer = NumPyNet(net.layer_sizes, batch_size=30)
    peer.start(net.weights, net.biases)
    losses = peer.train(images, labels, benchmark.order_of_fit(n, 30, 20), learning_rate=1e-3)
    history = net.fit(images, labels, steps=20, batch_size=30, optimizer=Adam(1e-3))
    # A rounding is 6e-8 of a number; sums of 784 products and twenty steps of Adam, whose first ones have the
    # size of the learning rate whatever the gradient, make less than a thousand of that.
    np.testing.assert_allclose(losses, history.step_loss, rtol=6e-5)
    for mine, its in zip(net.weights, peer.weights, strict=True):
        np.testing.assert_allclose(its, mine, atol=1e-4)  # a tenth of a step


def test_numpy_net_started_again_repeats_itself(folder: Path) -> None:
    data = datasets.load(folder)
    images, labels = data.train.images.reshape(len(data.train), -1), data.train.labels
    net = Net([784, 10], seed=0)
    peer = NumPyNet(net.layer_sizes, batch_size=20)
    runs = []
    for _ in range(2):
        peer.start(net.weights, net.biases)
        runs.append(peer.train(images, labels, benchmark.order_of_fit(120, 20, 9), learning_rate=1e-3))
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_order_of_fit_goes_through_all_samples_in_each_epoch(steps: int) -> None:
    order = benchmark.order_of_fit(50, 10, steps)
    assert order.shape == (steps, 10)
    for epoch in range(steps // 5):
        assert sorted(order[5 * epoch : 5 * epoch + 5].ravel()) == list(range(50))


def test_flops_per_step_counts_no_gradient_of_the_input() -> None:
    assert benchmark.flops_per_step((3, 5, 2), batch_size=7) == 2 * 7 * (2 * 15 + 3 * 10)


def test_compare_gives_as_many_rounds_as_asked_for_and_equal_accuracies(folder: Path) -> None:
    comparison = benchmark.compare(
        datasets.load(folder), hidden=[16], batch_size=25, steps=7, rounds=3, threads=1
    )
    assert len(comparison.ratios) == 3
    assert all(ratio > 0 for ratio in comparison.ratios)
    assert comparison.n_checked == 7
    assert 0 <= comparison.largest_deviation < 1e-3
    assert comparison.fastmlp.test.accuracy == comparison.numpy.test.accuracy


def test_compare_of_nets_that_differ_names_the_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "order_of_fit", lambda n, size, steps: np.zeros((steps, size), np.int64))
    with pytest.raises(benchmark.BenchmarkError, match=r"The loss of step \d is .* please report"):
        benchmark.compare(datasets.load(folder), hidden=[16], batch_size=25, steps=3, rounds=1, threads=1)


def test_numpy_process_that_ends_is_an_error_in_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: benchmark._NumPyProcess) -> None:
        self._process.kill()
        self._ask("train")

    monkeypatch.setattr(benchmark._NumPyProcess, "train", killed)
    with pytest.raises(benchmark.BenchmarkError, match=r"ended before its time \(exit code -9\)"):
        benchmark.compare(datasets.load(folder), hidden=[16], batch_size=25, steps=3, rounds=1, threads=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 139}, "batch_size must be a whole number from 1 to 138, not 139"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"rounds": 0}, "rounds must be a whole number"),
        ({"precision": "float16"}, "precision"),
        ({"threads": 0}, "threads"),
    ],
)
def test_compare_with_a_wrong_setting_is_refused_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, object], message: str
) -> None:
    monkeypatch.setattr(benchmark, "_NumPyProcess", lambda *_: pytest.fail("work was begun"))
    settings = {"batch_size": 25, "steps": 3, "rounds": 1} | setting
    with pytest.raises(ValueError, match=message):
        benchmark.compare(datasets.load(folder), **settings)


def run(*arguments: str | Path) -> int:
    return cli.main(["benchmark", *map(str, arguments)])


def test_command_prints_both_and_their_ratio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", folder, *SMALL) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["Data", "Task", "Machine", "Agree", "784-16-10"]
    assert "2 rounds of 7 steps with Adam, batches of 25" in lines[1]
    assert "1 thread (--threads)" in lines[2]
    assert "the losses of the first 7 steps" in lines[3]
    assert lines[5].startswith("fastmlp, float32")
    assert lines[6].startswith(f"NumPy {np.__version__}, float32")
    assert lines[7].startswith("fastmlp is ")


def test_command_quiet_prints_results_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", folder, *SMALL, "--quiet", "--precision", "mixed_bfloat16") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["784-16-10", "fastmlp,", "NumPy", "fastmlp"]
    assert "mixed_bfloat16" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--batch-size", "139"], "138"),
        (["--batch-size", "0"], "--batch-size"),
        (["--layers", "foo"], "foo"),
        (["--threads", "0"], "--threads"),
        (["--precision", "float16"], "--precision"),
        (["--dataset", "no-such-data"], "no-such-data"),
    ],
)
def test_command_with_wrong_arguments_prints_one_line_and_exits_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run("--dataset", folder, "--quiet", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert named in err


def test_command_whose_nets_differ_exits_1_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmark._TOLERANCES, "float32", -1.0)
    assert run("--dataset", folder, *SMALL, "--quiet") == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: The loss of step ")
    assert err.count("\n") == 1


def test_command_interrupted_exits_130_with_one_line(folder: Path) -> None:
    endless = ["--layers", "16", "--batch-size", "25", "--steps", "3", "--rounds", "100000", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "benchmark", "--dataset", str(folder), *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert any(line.startswith("Machine") for line in process.stdout)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1.5)  # into the rounds, which take hours
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to NumPy's process too
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.strip() == "Interrupted."
