"""The accuracy of training while it goes on: the loss kernel counts what it predicts rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_networks import (
    every_instruction_set,
    network_like,
    random_inputs,
    random_net,
    random_targets,
    run_batches,
    sgd_trainer,
)
from fastmlp import SGD, Callback, Net, model_file
from reference import ReferenceNet, target_rows

RNG = np.random.default_rng(0)
X = RNG.random((43, 6), dtype=np.float32)
Y = np.arange(43) % 3
STILL = SGD(1e-30)  # changes no weight


@every_instruction_set
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("n_classes", [1, 2, 10, 16, 17, 33])
def test_right_samples_of_each_step_are_those_that_evaluate_finds(n_classes, kind, instruction_set):
    rng = np.random.default_rng(1)
    net = random_net(rng, [20, 9, n_classes], ["relu"])
    X, targets = random_inputs(rng, "float32", 50, 20), random_targets(rng, kind, 50, n_classes)
    if kind == "labels":  # more of them right than chance has
        targets = np.where(rng.random(50) < 0.5, net.forward(X).logits.argmax(axis=1), targets)
    batches = np.split(rng.permutation(50), [17, 18, 43])
    classes = target_rows(targets, n_classes).argmax(axis=1)
    for threads in (1, 3):
        network = network_like(net, instruction_set)
        predicted = network.evaluate(X, targets, 1)[1]
        result = run_batches(sgd_trainer(network), X, targets, batches, 1e-30, threads=threads)
        assert result.right.tolist() == [(predicted == classes)[batch].sum() for batch in batches]


@every_instruction_set
@pytest.mark.parametrize("bias", [-1.0, 1.0])  # padding, whose logits are 0, is or is not the largest
def test_first_of_equal_outputs_and_targets_counts(bias, instruction_set):
    net = ReferenceNet([np.zeros((2, 20), np.float32)], [np.full(20, bias, np.float32)], [])
    X = np.ones((4, 2), np.float32)
    result = run_batches(
        sgd_trainer(network_like(net, instruction_set)), X, np.array([0, 1, 0, 19]), [np.arange(4)], 1e-30
    )
    assert result.right.tolist() == [2]
    targets = np.zeros((4, 20), np.float32)
    targets[[0, 1], 0] = targets[[0, 1], 3] = 0.5  # equals, of which class 0 is the first
    targets[[2, 3], [3, 18]] = 1
    result = run_batches(sgd_trainer(network_like(net, instruction_set)), X, targets, [np.arange(4)], 1e-30)
    assert result.right.tolist() == [2]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_train_accuracy_while_nothing_is_learned_is_that_of_evaluate(precision):
    net = Net([6, 5, 3], seed=1, precision=precision)
    history = net.fit(X, Y, epochs=2, batch_size=10, optimizer=STILL)
    assert history.train_accuracy == [net.evaluate(X, Y).accuracy] * 2


def test_weighted_train_accuracy_is_that_of_evaluate():
    net = Net([6, 5, 3], seed=1)
    weights = RNG.random(43)
    history = net.fit(X, Y, epochs=1, batch_size=10, optimizer=STILL, sample_weight=weights)
    expected = net.evaluate(X, Y, sample_weight=weights).accuracy
    # Weights are divided by the largest and rounded to float32, and so are the sums of five steps.
    assert history.train_accuracy == [pytest.approx(expected, rel=4 * 2.0**-24)]


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_other_losses_have_no_train_accuracy(loss, tmp_path):
    net = Net([6, 5, 1], loss=loss, seed=1)
    assert net.fit(X, Y % 2, epochs=2).train_accuracy == []
    net.save(tmp_path / "net")
    assert Net.load(tmp_path / "net").history.train_accuracy == []


class Interrupt(Callback):
    """Press Ctrl-C, as it were, after some step."""

    every = 1

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, net: Net, fit: Any) -> None:
        if fit.step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [2, 5, 7])
def test_train_accuracy_after_a_resume_is_that_of_an_uninterrupted_fit(at, tmp_path):
    whole, part = Net([6, 5, 3], seed=1), Net([6, 5, 3], seed=1)
    whole.fit(X, Y, epochs=3, batch_size=10)
    with pytest.raises(KeyboardInterrupt):
        part.fit(X, Y, epochs=3, batch_size=10, callbacks=[Interrupt(at)])
    part.save(tmp_path / "net", training_state=True)
    loaded = Net.load(tmp_path / "net")
    loaded.fit(X, Y, resume=True)
    assert loaded.history.train_accuracy == whole.history.train_accuracy
    assert len(set(whole.history.train_accuracy)) > 1, "the test has nothing to compare"


def test_file_without_train_accuracy_is_resumed(tmp_path, monkeypatch):
    net = Net([6, 5, 3], seed=1)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=4, batch_size=10, callbacks=[Interrupt(7)])
    stored = model_file.from_bytes(model_file.to_bytes(net._stored(with_training=True)))
    columns = stored.history._to_arrays()
    older = {name: columns[name] for name in columns if name not in ("train_accuracy", "step_right")}
    monkeypatch.setattr(type(stored.history), "_to_arrays", lambda self: older)
    path = Path(tmp_path / "net")
    model_file.save(path, stored)
    monkeypatch.undo()
    loaded = Net.load(path)
    assert loaded.history.train_accuracy == []
    history = loaded.fit(X, Y, resume=True)
    assert np.isnan(history.train_accuracy).tolist() == [True, True, False, False]
    assert len(history._csv_lines(0)) == 4
