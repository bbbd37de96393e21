"""Checkpoints, and that a fit that was interrupted anywhere ends with the bits of one that was not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    SGD,
    Adam,
    AdamW,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    History,
    ModelFileError,
    Net,
    NonFiniteLossError,
    _training,
    model_file,
    optimizers,
    schedules,
)
from fastmlp._run import Run, Settings, decoded_run, decoded_settings, encoded_run, encoded_settings
from fastmlp._samples import Samples
from fastmlp._shared_network import SharedNetwork

RNG = np.random.default_rng(0)
X = RNG.random((43, 6), dtype=np.float32)
Y = np.arange(43) % 3
HELD_OUT = RNG.random((30, 6), dtype=np.float32), np.arange(30) % 3
BATCH_SIZE = 10  # five steps an epoch, the last one of three samples


def new_net(**settings: Any) -> Net:
    return Net([6, 5, 3], seed=1, **settings)


def assert_same_net(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.n_epochs == other.n_epochs
    np.testing.assert_array_equal(one.history.step_loss, other.history.step_loss)
    for name in (
        "loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "n_steps",
        "notes",
    ):
        assert getattr(one.history, name) == getattr(other.history, name), name


class Interrupt(Callback):
    """Press Ctrl-C, as it were, after some step, or when the fit gets to some other place."""

    def __init__(self, at: int = -1, hook: str | None = None) -> None:
        self.at = at
        self.every = 1
        if hook is not None:
            setattr(self, hook, self.hook)

    def on_step(self, net: Net, fit: Any) -> None:
        if fit.step == self.at:
            raise KeyboardInterrupt

    def hook(self, net: Net, fit: Any) -> None:
        if fit.step >= -self.at:
            raise KeyboardInterrupt


def interrupted(net: Net, *observers: Callback, **settings: Any) -> Net:
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, callbacks=observers, **({"batch_size": BATCH_SIZE} | settings))
    assert net.can_resume
    return net


def reloaded(net: Net, folder: Path) -> Net:
    net.save(folder / "checkpoint", training_state=True)
    return Net.load(folder / "checkpoint")


CASES: dict[str, dict[str, Any]] = {
    "Adam": {"epochs": 3},
    "SGD": {"epochs": 3, "optimizer": SGD(0.1, momentum=0.9)},
    "plain SGD": {"epochs": 3, "optimizer": SGD(0.1)},
    "nesterov": {"epochs": 3, "optimizer": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01)},
    "AdamW": {"epochs": 3, "optimizer": AdamW(0.01, weight_decay=0.1)},
    "label smoothing": {"epochs": 3, "label_smoothing": 0.1},
    "weights": {
        "epochs": 3,
        "validation_split": 0.25,
        "sample_weight": np.arange(43) % 4,
        "class_weight": {1: 0.5},
    },
    "steps": {"steps": 13},
    "in order": {"epochs": 3, "shuffle": False},
    "one cycle": {"epochs": 3, "schedule": schedules.OneCycle()},
    "warm-up": {"epochs": 3, "schedule": schedules.Warmup(7, then=schedules.Exponential(0.5))},
    "validation_split": {"epochs": 3, "validation_split": 0.25},
    "plateau": {
        "epochs": 4,
        "optimizer": Adam(0.03),
        "validation_data": HELD_OUT,
        "schedule": schedules.ReduceOnPlateau(patience=1, min_delta=0.1),
    },
}


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_fit_interrupted_after_any_step_and_resumed_equals_one_that_was_not(
    settings: dict[str, Any], from_file: bool, tmp_path: Path
) -> None:
    straight = new_net()
    straight.fit(X, Y, **({"batch_size": BATCH_SIZE} | settings))
    for step in range(1, len(straight.history.step_loss) + 1):
        net = interrupted(new_net(), Interrupt(step), **settings)
        assert len(net.history.step_loss) == step
        if from_file:
            net = reloaded(net, tmp_path)
        data = {name: settings.get(name) for name in ("validation_data", "sample_weight", "class_weight")}
        history = net.fit(X, Y, **data, resume=True)
        assert history is net.history
        assert_same_net(net, straight)
        assert not net.can_resume


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_fit_interrupted_again_and_again_equals_one_that_was_not(precision: str, tmp_path: Path) -> None:
    straight, net = new_net(precision=precision), new_net(precision=precision)
    straight.fit(X, Y, epochs=3, batch_size=BATCH_SIZE)
    net = reloaded(interrupted(net, Interrupt(2), epochs=3), tmp_path)
    for step in (3, 5, 10, 14):
        net = reloaded(interrupted(net, Interrupt(step), resume=True), tmp_path)
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)


def test_net_trained_before_goes_on_with_the_epochs_of_its_life(tmp_path: Path) -> None:
    straight, net = new_net(), new_net()
    for one in (straight, net):
        one.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    net = reloaded(interrupted(net, Interrupt(7), epochs=2), tmp_path)
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)


def test_training_state_of_a_finished_fit_lets_a_further_one_keep_its_moments(tmp_path: Path) -> None:
    straight, halves = new_net(), new_net()
    straight.fit(X, Y, epochs=4, batch_size=BATCH_SIZE)
    halves.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    loaded = reloaded(halves, tmp_path)
    assert not loaded.can_resume
    loaded.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    np.testing.assert_array_equal(loaded.weights[0], straight.weights[0])


def test_training_state_of_a_net_never_trained_is_just_the_net(tmp_path: Path) -> None:
    loaded, net = reloaded(new_net(), tmp_path), new_net()
    for one in (loaded, net):
        one.fit(X, Y, epochs=2)
    assert_same_net(loaded, net)


def test_plain_fit_after_an_interruption_begins_a_new_one(tmp_path: Path) -> None:
    net = interrupted(new_net(), Interrupt(3), epochs=2)
    net.fit(X, Y, epochs=1, batch_size=BATCH_SIZE)
    assert len(net.history.step_loss) == 5
    assert not net.can_resume


# Early stopping.


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("from_file", [False, True])
def test_early_stopping_goes_on_where_it_was(from_file: bool, given: bool, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 9, "optimizer": Adam(0.05), "validation_data": HELD_OUT}
    straight, stopping = new_net(), EarlyStopping(patience=2)
    straight.fit(X, Y, batch_size=BATCH_SIZE, callbacks=[stopping], **settings)
    n_steps = len(straight.history.step_loss)
    assert n_steps < 45, "the test wants a fit that stops early; change the rate"
    for step in range(1, n_steps + 1):
        net = interrupted(new_net(), Interrupt(step), EarlyStopping(patience=2), **settings)
        if from_file:
            net = reloaded(net, tmp_path)
        again = [EarlyStopping(patience=2)] if given else []
        net.fit(X, Y, validation_data=HELD_OUT, callbacks=again, resume=True)
        assert_same_net(net, straight)
        if given:
            assert (again[0].best_epoch, again[0].best_value) == (stopping.best_epoch, stopping.best_value)


def test_interrupted_net_predicts_with_the_best_weights_and_goes_on_from_the_live_ones(
    tmp_path: Path,
) -> None:
    class Worse(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            fit.history.validation_loss[-1] = float(fit.epoch)

    settings: dict[str, Any] = {"epochs": 3, "validation_data": HELD_OUT}
    net = interrupted(new_net(), Worse(), EarlyStopping(patience=9), Interrupt(12), **settings)
    best = new_net()
    best.fit(X, Y, epochs=1, batch_size=BATCH_SIZE)
    loaded = reloaded(net, tmp_path)
    for one in (net, loaded):
        np.testing.assert_array_equal(one.logits(X), best.logits(X))
    for one in (net, loaded):
        one.fit(X, Y, validation_data=HELD_OUT, callbacks=[Worse()], resume=True)
        np.testing.assert_array_equal(one.logits(X), best.logits(X))
        one.fit(X, Y, epochs=1, batch_size=BATCH_SIZE)
    straight = new_net()
    straight.fit(X, Y, epochs=4, batch_size=BATCH_SIZE)
    np.testing.assert_array_equal(net.weights[0], straight.weights[0])
    np.testing.assert_array_equal(loaded.weights[0], straight.weights[0])


def test_early_stopping_after_an_infinite_loss_can_be_resumed(tmp_path: Path) -> None:
    class Infinite(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            if fit.epoch == 1:
                fit.history.validation_loss[-1] = np.inf

    settings: dict[str, Any] = {"epochs": 3, "validation_data": HELD_OUT}
    straight = new_net()
    straight.fit(X, Y, batch_size=BATCH_SIZE, callbacks=[Infinite(), EarlyStopping()], **settings)
    net = interrupted(new_net(), Infinite(), EarlyStopping(), Interrupt(7), **settings)
    net = reloaded(net, tmp_path)
    net.fit(X, Y, validation_data=HELD_OUT, resume=True)
    assert_same_net(net, straight)


def test_early_stopping_with_other_settings_than_before_is_refused() -> None:
    net = interrupted(new_net(), Interrupt(7), EarlyStopping(patience=2), epochs=2, validation_data=HELD_OUT)
    with pytest.raises(ValueError, match="EarlyStopping with patience=2, not 3; give it the same settings"):
        net.fit(X, Y, validation_data=HELD_OUT, callbacks=[EarlyStopping(patience=3)], resume=True)
    assert net.can_resume
    assert net.history.notes[0].startswith("The weights in use are those of epoch 1")
    net.fit(X, Y, validation_data=HELD_OUT, resume=True)


# The end of an epoch, which takes its time and calls the user's code.


class Count(Callback):
    """Count epochs' ends, over resumes."""

    def __init__(self) -> None:
        self.n = 0

    def on_epoch_end(self, net: Net, fit: Any) -> None:
        self.n += 1

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "squares": np.arange(self.n) ** 2}

    def restore(self, state: dict[str, Any]) -> None:
        self.n = state["n"]
        np.testing.assert_array_equal(state["squares"], np.arange(self.n) ** 2)


@pytest.mark.parametrize("from_file", [False, True])
def test_epochs_end_is_told_to_each_callback_exactly_once(from_file: bool, tmp_path: Path) -> None:
    net, first, last = new_net(), Count(), Count()
    interrupted(net, first, Interrupt(-10, "on_epoch_end"), last, epochs=4)
    assert (first.n, last.n) == (2, 1)
    if from_file:
        net = reloaded(net, tmp_path)
    first, last = Count(), Count()
    net.fit(X, Y, callbacks=[first, last], resume=True)
    assert (first.n, last.n) == (4, 4)


def test_interruption_while_an_epoch_is_validated_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"epochs": 2, "validation_data": HELD_OUT}
    straight, net = new_net(), new_net()
    straight.fit(X, Y, batch_size=BATCH_SIZE, **settings)

    def press_ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastmlp.net.loss_and_predicted", press_ctrl_c)
        interrupted(net, epochs=2, validation_data=HELD_OUT)
    assert (net.history.n_epochs, len(net.history.step_loss)) == (0, 5)
    net.fit(X, Y, validation_data=HELD_OUT, resume=True)
    assert_same_net(net, straight)


@pytest.mark.parametrize(
    ("begins_with_many", "steps_of_calls"),
    [(False, [1]), (False, [1, 4]), (False, [1, 4, 30]), (True, [60]), (True, [60, 190])],
)
def test_interruption_after_a_call_of_several_epochs_leaves_entries_of_all_whole_ones(
    begins_with_many: bool, steps_of_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = SharedNetwork.train
    done = []

    def interrupted_train(network: SharedNetwork, arguments: Any, results: Any) -> None:
        train(network, arguments, results)
        done.append(len(arguments["learning_rates"]))
        if len(done) == len(steps_of_calls):
            raise KeyboardInterrupt

    straight, net = new_net(), new_net()
    straight.fit(X, Y, batch_size=BATCH_SIZE, epochs=50)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 1e6)
    if not begins_with_many:
        monkeypatch.setattr(_training, "_CAUTIOUS_RATE", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(SharedNetwork, "train", interrupted_train)
        interrupted(net, epochs=50)
    assert done == steps_of_calls
    n_steps = len(net.history.step_loss)
    assert n_steps == sum(done)
    assert (net.history.n_epochs, net.n_epochs) == (n_steps // 5, -(-n_steps // 5))
    assert len(net.history.seconds) == net.history.n_epochs
    assert all(seconds > 0 for seconds in net.history.seconds)
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)


def test_entry_of_an_epoch_that_was_half_made_is_made_anew() -> None:
    straight, net = new_net(), interrupted(new_net(), Interrupt(5), epochs=2)
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    net.history.loss.append(7.0)  # as if Ctrl-C had come right then
    assert net.history.n_epochs == 0
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)


def test_stop_asked_for_in_an_epoch_that_was_then_interrupted_still_ends_the_fit() -> None:
    class Stop(Callback):
        every = 3

        def on_step(self, net: Net, fit: Any) -> None:
            fit.stop()

    straight, net = new_net(), new_net()
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE, callbacks=[Stop()])
    interrupted(net, Stop(), Interrupt(3), epochs=2)
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)
    assert net.history.n_steps == [3]


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 3}, "The fit to resume has epochs=2, not 3; leave epochs out"),
        ({"steps": 10}, "either epochs or steps|has steps=None, not 10"),
        ({"batch_size": 20}, "has batch_size=10, not 20"),
        ({"optimizer": Adam(0.5)}, "has optimizer=Adam"),
        ({"schedule": schedules.Cosine()}, "has schedule=Constant"),
        ({"shuffle": False}, "has shuffle=True, not False"),
        ({"validation_split": 0.1}, "has validation_split=0.0"),
        ({"X": X[:-1], "y": Y[:-1]}, "trains on 43 samples, not 42; pass the X and y that it began with"),
        ({"X": X[::-1]}, "began with other X, y or weights of samples or classes; pass the same again"),
        ({"y": Y[::-1]}, "began with other X, y or weights"),
        ({"X": X * np.float32(1.5)}, "began with other X, y or weights"),
        ({"y": np.eye(3)[Y]}, "began with other X, y or weights"),
        ({"validation_data": HELD_OUT}, "has no validation data; leave them out"),
        ({"resume": 1}, "resume must be True or False, not 1"),
    ],
)
def test_resume_with_other_settings_or_data_is_an_error_and_changes_nothing(
    arguments: dict[str, Any], message: str
) -> None:
    net = interrupted(new_net(), Interrupt(7), epochs=2)
    given = {"X": X, "y": Y, "resume": True} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(given.pop("X"), given.pop("y"), **given)
    straight = new_net()
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    net.fit(X, Y, epochs=2, batch_size=BATCH_SIZE, resume=True)  # what it began with may be given again
    assert_same_net(net, straight)


def test_resume_without_the_validation_data_is_an_error() -> None:
    net = interrupted(new_net(), Interrupt(7), epochs=2, validation_data=HELD_OUT)
    with pytest.raises(ValueError, match="has validation data; pass the same again"):
        net.fit(X, Y, resume=True)


def test_resume_with_other_validation_data_is_an_error() -> None:
    net = interrupted(new_net(), Interrupt(7), epochs=2, validation_data=HELD_OUT)
    with pytest.raises(ValueError, match="began with other validation data; pass the same again"):
        net.fit(X, Y, resume=True, validation_data=(X, Y))


def test_resume_knows_its_data_in_another_form(tmp_path: Path) -> None:
    net = interrupted(new_net(), Interrupt(7), epochs=2, validation_data=HELD_OUT)
    net.save(tmp_path / "net", training_state=True)
    loaded = Net.load(tmp_path / "net")
    with pytest.raises(ValueError, match="began with other X, y or weights"):
        loaded.fit(X[::-1], Y, resume=True, validation_data=HELD_OUT)
    loaded.fit(X.astype(np.float64).tolist(), Y.astype(np.uint8), resume=True, validation_data=HELD_OUT)
    straight = new_net()
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE, validation_data=HELD_OUT)
    assert_same_net(loaded, straight)


@pytest.mark.parametrize("name", ["sample_weight", "class_weight"])
def test_resume_with_other_weights_is_an_error(name: str) -> None:
    weights = {
        "sample_weight": (np.arange(43) + 1.0, np.arange(43) + 2.0),
        "class_weight": ({1: 2.0}, {1: 3.0}),
    }
    before, after = weights[name]
    net = interrupted(new_net(), Interrupt(7), epochs=2, **{name: before})
    with pytest.raises(ValueError, match="began with other X, y or weights"):
        net.fit(X, Y, resume=True, **{name: after})


def test_resume_with_other_rows_held_out_is_an_error() -> None:
    net = interrupted(new_net(), Interrupt(7), epochs=2, validation_split=0.3)
    other = X.copy()
    other[-1] += 1
    with pytest.raises(ValueError, match="began with other validation data"):
        net.fit(other, Y, resume=True)


def test_resume_with_numbers_to_predict_knows_them() -> None:
    targets = X[:, :3].copy()
    net = new_net(loss="squared_error")
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, targets, callbacks=[Interrupt(7)], batch_size=BATCH_SIZE, epochs=2)
    with pytest.raises(ValueError, match="began with other X, y or weights"):
        net.fit(X, targets + 1, resume=True)
    net.fit(np.asfortranarray(X.astype(">f4")), targets, resume=True)


def test_data_are_told_apart_by_some_rows_of_long_arrays_and_long_rows() -> None:
    for shape in ((1000, 3), (5, 50_000)):
        samples = RNG.random(shape, dtype=np.float32)
        others = samples.copy()
        others[[0, -1]] += 1
        checksums = [Samples(array, shape[1]).checksum(None) for array in (samples, samples.copy(), others)]
        assert checksums[0] == checksums[1] != checksums[2]


def test_resume_from_a_file_without_checksums_takes_the_data_on_trust(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"  # as earlier versions wrote it
    path.write_bytes(edited(checkpoint_of(), lambda header, stored: stored["run"].pop("checksums")))
    Net.load(path).fit(X[::-1], Y, resume=True)


def test_resume_without_a_callback_that_has_a_state_is_an_error() -> None:
    net = interrupted(new_net(), Interrupt(7), Count(), epochs=2)
    with pytest.raises(ValueError, match="The fit to resume has a callback Count; pass it again"):
        net.fit(X, Y, resume=True)


def test_resume_of_nothing_is_an_error(tmp_path: Path) -> None:
    net = new_net()
    with pytest.raises(ValueError, match="There is no fit to resume"):
        net.fit(X, Y, resume=True)
    net.fit(X, Y, epochs=1)
    with pytest.raises(ValueError, match="There is no fit to resume"):
        net.fit(X, Y, resume=True)
    interrupted(net, Interrupt(2), epochs=2)
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="file without its training state"):
        Net.load(tmp_path / "net").fit(X, Y, resume=True)


def test_fit_that_ended_in_infinity_is_not_resumed() -> None:
    net = new_net(activation="identity")
    with pytest.raises(NonFiniteLossError):
        net.fit(X, Y, steps=10**6, batch_size=BATCH_SIZE, optimizer=SGD(60.0))
    assert not net.can_resume


def test_training_state_is_not_saved_by_another_thread_than_that_which_fits(tmp_path: Path) -> None:
    caught = []

    def save(net: Net) -> None:
        try:
            net.save(tmp_path / "net", training_state=True)
        except RuntimeError as error:
            caught.append(str(error))

    class SaveElsewhere(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            thread = threading.Thread(target=save, args=(net,))
            thread.start()
            thread.join()

    net = new_net()
    net.fit(X, Y, epochs=1, callbacks=[SaveElsewhere()])
    assert len(caught) == 1
    assert "Give that fit a Checkpoint" in caught[0]
    save(net)
    assert len(caught) == 1


# Checkpoint.


class Peek(Checkpoint):
    """Remember of each checkpoint how many steps it has."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.steps: list[int] = []

    def _save(self, net: Net) -> None:
        super()._save(net)
        self.steps.append(len(Net.load(self.path).history.step_loss))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [5, 10, 12, 12]),
        ({"steps": 4}, [4, 8, 12, 12]),
        ({"steps": 7}, [7, 12]),
        ({"seconds": 1e6}, [12]),
        ({"seconds": 1e-9}, [*range(1, 13), 12]),
    ],
)
def test_checkpoint_is_saved_when_it_was_asked_for_and_at_the_end(
    settings: dict[str, Any], steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmlp.callbacks._SECONDS_BETWEEN_INTERVALS", 0.0)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)
    checkpoint = Peek(tmp_path / "checkpoint", **settings)
    new_net().fit(X, Y, steps=12, batch_size=BATCH_SIZE, callbacks=[checkpoint])
    assert checkpoint.steps == steps


def test_any_checkpoint_leads_to_the_same_end(tmp_path: Path) -> None:
    class Collect(Checkpoint):
        def _save(self, net: Net) -> None:
            super()._save(net)
            files.append(self.path.read_bytes())

    files: list[bytes] = []
    settings: dict[str, Any] = {"epochs": 9, "optimizer": Adam(0.05), "validation_data": HELD_OUT}
    straight = new_net()
    observers = [Collect(tmp_path / "checkpoint", steps=1), Count(), EarlyStopping(patience=2)]
    straight.fit(X, Y, batch_size=BATCH_SIZE, callbacks=observers, **settings)
    assert len(files) == len(straight.history.step_loss) + 1
    for data in files[:-1]:
        (tmp_path / "checkpoint").write_bytes(data)
        net, count = Net.load(tmp_path / "checkpoint"), Count()
        net.fit(X, Y, callbacks=[count], validation_data=HELD_OUT, resume=True)
        assert_same_net(net, straight)
        assert count.n == straight.history.n_epochs
    (tmp_path / "checkpoint").write_bytes(files[-1])
    assert_same_net(Net.load(tmp_path / "checkpoint"), straight)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": 1.5}, {"seconds": 0}, {"seconds": "1"}])
def test_checkpoint_bad_setting_is_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        Checkpoint("net", **settings)


def test_checkpoint_that_cannot_be_written_ends_the_fit_and_leaves_a_net_that_resumes(tmp_path: Path) -> None:
    net = new_net()
    with pytest.raises(OSError, match="directory"):
        net.fit(X, Y, epochs=2, batch_size=BATCH_SIZE, callbacks=[Checkpoint(tmp_path)])
    straight = new_net()
    straight.fit(X, Y, epochs=2, batch_size=BATCH_SIZE)
    net.fit(X, Y, resume=True)
    assert_same_net(net, straight)


def test_checkpoint_in_no_folder_is_an_error_before_anything_is_done(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("old")
    net = new_net()
    with pytest.raises(FileNotFoundError, match="missing"):
        net.fit(X, Y, callbacks=[CSVLogger(log), Checkpoint(tmp_path / "missing" / "net", seconds=3600)])
    assert len(net.history.step_loss) == 0
    assert log.read_text() == "old"


def test_checkpoints_last_file_has_all_notes(tmp_path: Path) -> None:
    constant = X.copy()
    constant[:, 2] = 5
    net, stopping = new_net(), EarlyStopping(patience=99, min_delta=99)  # the first epoch is the best
    observers = [Checkpoint(tmp_path / "checkpoint"), stopping]
    settings: dict[str, Any] = {"epochs": 50, "validation_data": HELD_OUT}
    net.fit(constant, Y, callbacks=observers, **settings)
    assert len(net.history.notes) > 1  # of the weights in use, and of the constant feature
    assert Net.load(tmp_path / "checkpoint").history.notes == net.history.notes


class Remember(Callback):
    """Have a state that the test chooses."""

    def __init__(self, state: Any = None) -> None:
        self.kept = state

    def state(self) -> Any:
        return self.kept

    def restore(self, state: dict[str, Any]) -> None:
        self.kept = state


def test_state_of_numpys_scalars_survives_a_file(tmp_path: Path) -> None:
    state = {"best": np.float32(0.5), "n": np.int64(3), "more": [np.bool_(True), {"x": np.float16(2)}]}
    net = reloaded(interrupted(new_net(), Remember(state), Interrupt(3), epochs=2), tmp_path)
    again = Remember()
    net.fit(X, Y, callbacks=[again], resume=True)
    assert again.kept == {"best": 0.5, "n": 3, "more": [True, {"x": 2.0}]}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": 1, "names": np.array(["x"])}, "Remember.state returned an array of <U1 for 'names'"),
        ({"a": 1, "z": 1j}, "Remember.state returned complex for 'z', which no file can hold"),
        ({"deep": [{"x": {1, 2}}]}, "Remember.state returned list for 'deep'"),
        ({"when": np.datetime64("2020-01-01")}, "returned datetime64 for 'when'"),
        ({"long": np.longdouble(1)}, "returned longdouble for 'long'"),
        ({(1, 2): 3}, "Remember.state returned a dict with the key tuple, not a string"),
        (None, "Remember.state returned None, but must return a dict"),
    ],
)
def test_state_that_no_file_can_hold_is_an_error_that_names_it(
    state: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"the last good one")
    with pytest.raises(TypeError, match=message):
        new_net().fit(X, Y, epochs=2, callbacks=[Checkpoint(path), Remember(state)])
    assert path.read_bytes() == b"the last good one"


def test_state_that_fails_when_a_fit_is_interrupted_leaves_a_net_that_can_be_used(tmp_path: Path) -> None:
    class Fail(Callback):
        def state(self) -> Any:
            raise ZeroDivisionError

    net, path = new_net(), tmp_path / "checkpoint"
    observers = [Fail(), EarlyStopping(monitor="loss"), Interrupt(7)]
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, epochs=3, batch_size=BATCH_SIZE, callbacks=observers)
    assert not net.can_resume  # exactly, as it was promised
    net.save(path, training_state=True)
    net.fit(X, Y, epochs=1)


class OwnSchedule(schedules.Schedule):
    """One that no file can hold."""

    def factors(self, steps: Any, span: schedules.Span) -> Any:
        return np.ones(len(steps))


@dataclass(frozen=True)
class OwnDataclass(OwnSchedule):
    """Neither can it hold one that looks like ours."""

    factor: float = 0.1


class OwnAdam(Adam):
    """Nor one that is ours and something more."""


OwnAdam.__name__ = "Adam"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"schedule": OwnSchedule()}, "OwnSchedule"),
        ({"schedule": OwnDataclass()}, "OwnDataclass"),
        ({"schedule": schedules.Warmup(3, then=OwnSchedule())}, "OwnSchedule"),
        ({"optimizer": OwnAdam()}, "OwnAdam"),
    ],
    ids=str,
)
def test_setting_that_no_file_can_hold_is_refused_before_training_and_before_a_file_is_touched(
    settings: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"the last good one")
    net = new_net()
    with pytest.raises(TypeError, match=f"{named} is not one of fastmlp's own optimizers, schedules"):
        net.fit(X, Y, epochs=2, callbacks=[Checkpoint(path)], **settings)
    assert net.n_epochs == 0

    interrupted(net, Interrupt(3), epochs=2, **settings)
    with pytest.raises(TypeError, match=named):
        net.save(path, training_state=True)
    assert path.read_bytes() == b"the last good one"
    net.fit(X, Y, resume=True)  # in this process
    net.save(path)
    np.testing.assert_array_equal(Net.load(path).weights[0], net.weights[0])


# The file.


def checkpoint_of(*observers: Callback, **settings: Any) -> bytes:
    net = interrupted(new_net(), Interrupt(7), *observers, **({"epochs": 2} | settings))
    return model_file.to_bytes(net._stored(with_training=True))


@pytest.mark.parametrize("optimizer", [Adam(0.01, 0.8, 0.99, 1e-7), SGD(0.1, 0.5)])
@pytest.mark.parametrize("schedule", [schedules.Warmup(3, then=schedules.Step((1, 2)))], ids=str)
def test_settings_survive_as_json(optimizer: Any, schedule: Any) -> None:
    settings = Settings(None, 7, 10, optimizer, schedule, 0.125, False)
    assert decoded_settings(encoded_settings(settings)) == settings


def test_every_kind_of_optimizer_can_be_in_a_checkpoint() -> None:
    kinds = [
        kind
        for kind in vars(optimizers).values()
        if isinstance(kind, type)
        and issubclass(kind, optimizers.Optimizer)
        and kind is not optimizers.Optimizer
    ]
    assert kinds
    for kind in kinds:
        assert decoded_settings(encoded_settings(kind())) == kind()


def edited(data: bytes, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> bytes:
    import json
    import struct

    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["fastmlp"])
    change(header, metadata)
    header["__metadata__"]["fastmlp"] = json.dumps(metadata)
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]


def nested(depth: int) -> dict[str, Any]:
    schedule: dict[str, Any] = {"kind": "Constant"}
    for _ in range(depth):
        schedule = {"kind": "Warmup", "steps": 1, "then": schedule}
    return schedule


@pytest.mark.parametrize(
    "change",
    [
        lambda header, stored: stored.pop("training"),
        lambda header, stored: stored.update(training=3),
        lambda header, stored: stored["training"].update(optimizer={"kind": "os.system"}),
        lambda header, stored: stored["training"].update(optimizer={"kind": "Constant"}),
        lambda header, stored: stored["training"].update(optimizer={"kind": ["Adam"]}),
        lambda header, stored: stored["training"].update(optimizer={"kind": "SGD"}),
        lambda header, stored: stored["training"].update(optimizer={"kind": "Adam", "beta_1": 2}),
        lambda header, stored: stored["training"].update(optimizer={"kind": "Adam", "more": 2}),
        lambda header, stored: stored["training"].update(optimizer="Adam"),
        lambda header, stored: stored["training"].update(beta_powers=[0.5]),
        lambda header, stored: stored["training"].update(beta_powers=[0.5, 1.5]),
        lambda header, stored: stored["training"].update(beta_powers=[0.5, "1"]),
        lambda header, stored: stored["training"].update(beta_powers=[0.5, float("nan")]),
        lambda header, stored: stored.update(run=3),
        lambda header, stored: stored["run"].update(settings={"kind": "Constant"}),
        lambda header, stored: stored["run"].update(settings=None),
        lambda header, stored: stored["run"]["settings"].update(batch_size=0),
        lambda header, stored: stored["run"]["settings"].update(epochs=1, steps=1),
        lambda header, stored: stored["run"]["settings"].update(schedule="Cosine"),
        lambda header, stored: stored["run"]["settings"].update(schedule=nested(2)),
        lambda header, stored: stored["run"]["settings"].update(schedule=nested(400)),
        lambda header, stored: stored["run"].update(n_samples=0),
        lambda header, stored: stored["run"].update(n_samples=2),
        lambda header, stored: stored["run"].update(n_samples=10**9),
        lambda header, stored: stored["run"].update(has_validation="no"),
        lambda header, stored: stored["run"].update(first_epoch=-1),
        lambda header, stored: stored["run"].update(checksums=None),
        lambda header, stored: stored["run"].update(checksums=[1]),
        lambda header, stored: stored["run"].update(checksums=[1, "2"]),
        lambda header, stored: stored["run"].update(checksums=[-1, None]),
        lambda header, stored: stored["run"].update(checksums=[2**32, None]),
        lambda header, stored: stored["run"].update(first_epoch=2**31),
        lambda header, stored: stored["run"].update(epoch_seconds=-1),
        lambda header, stored: stored["run"].update(stopped=None),
        lambda header, stored: stored["run"].update(callbacks=None),
        lambda header, stored: stored["run"].update(callbacks=[]),
        lambda header, stored: stored["run"].update(callbacks=[3, 4]),
        lambda header, stored: stored["run"]["callbacks"][1].update(kind=3),
        lambda header, stored: stored["run"]["callbacks"][1].update(n_epochs_told=-1),
        lambda header, stored: stored["run"]["callbacks"][1].update(state=[]),
        lambda header, stored: header.pop("training.first_moment.layers.1.bias"),
        lambda header, stored: header.update({"training.x": header.pop("callbacks.1.layers.0.bias")}),
        lambda header, stored: header.update(
            {
                f"training.third.layers.{i}": header.pop(f"training.first_moment.layers.{i}")
                for i in ("0.bias",)
            }
        ),
        lambda header, stored: header["training.first_moment.layers.0.bias"].update(dtype="I32"),
        lambda header, stored: header["callbacks.1.layers.0.bias"].update(dtype="BF16", shape=[10]),
        lambda header, stored: header.update({"callbacks.9.x": header.pop("callbacks.1.layers.0.bias")}),
        lambda header, stored: header.update({"callbacks.": header.pop("callbacks.1.layers.0.bias")}),
        lambda header, stored: header.update({"callbacks.²": header.pop("callbacks.1.layers.0.bias")}),
    ],
)
def test_checkpoint_that_is_not_one_is_refused_or_cannot_be_resumed(
    change: Callable[[dict[str, Any], dict[str, Any]], object], tmp_path: Path
) -> None:
    good = checkpoint_of(EarlyStopping(), validation_data=HELD_OUT)
    path = tmp_path / "checkpoint"
    path.write_bytes(edited(good, lambda header, stored: None))
    Net.load(path).fit(X, Y, validation_data=HELD_OUT, resume=True)

    path.write_bytes(edited(good, change))
    with pytest.raises(ValueError) as caught:  # a ModelFileError, or when it is resumed a ValueError
        Net.load(path).fit(X, Y, validation_data=HELD_OUT, resume=True)
    if isinstance(caught.value, ModelFileError):
        assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(patience=0),
        lambda state: state.update(patience="2"),
        lambda state: state.pop("monitor"),
        lambda state: state.update(best_value="low"),
        lambda state: state.pop("best_step"),
        lambda state: state.update(best_epoch=1.5),
        lambda state: state.clear(),
    ],
)
def test_state_of_early_stopping_that_is_none_is_refused(
    change: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    good = checkpoint_of(EarlyStopping(), validation_data=HELD_OUT)
    path = tmp_path / "checkpoint"
    path.write_bytes(edited(good, lambda header, stored: change(stored["run"]["callbacks"][1]["state"])))
    with pytest.raises(ValueError):
        Net.load(path).fit(X, Y, validation_data=HELD_OUT, resume=True)


def history_with(n_steps: list[int], n_losses: int) -> History:
    history = History(n_steps=n_steps, samples_per_second=[1.0] * len(n_steps))
    history._set_steps(0, np.ones(n_losses, np.float32))
    return history


@pytest.mark.parametrize(
    ("n_steps", "n_losses", "stopped", "is_sound"),
    [
        ([], 0, False, True),
        ([], 4, False, True),
        ([5], 5, False, True),
        ([5], 8, False, True),
        ([], 12, False, True),  # a call of several epochs that was interrupted twice
        ([5, 5, 2], 12, False, True),
        ([5, 5], 13, False, False),
        ([5, 5], 9, False, False),
        ([5, 4], 9, False, False),
        ([5, 4], 9, True, True),
        ([5, 4], 10, True, False),
        ([4, 5], 9, True, False),
        ([5, 5, 1], 11, True, True),
        ([5, 5, 3], 13, True, False),
        ([5, 0], 5, True, False),
        ([1, 1, 1], 3, False, False),
        ([5, 5, 2, 5], 17, False, False),
    ],
)
def test_history_that_cannot_be_that_of_its_run_is_refused(
    n_steps: list[int], n_losses: int, stopped: bool, is_sound: bool
) -> None:
    run = Run(Settings(steps=12, batch_size=10), 43, False, False, 0, stopped=stopped)
    stored, arrays = encoded_run(run)
    history = history_with(n_steps, n_losses)
    if is_sound:
        decoded_run(stored, arrays, history)
    else:
        with pytest.raises(ValueError, match="its history is not that of its run"):
            decoded_run(stored, arrays, history)


@pytest.mark.parametrize("batch_size", [1, 7, 43])
def test_checkpoint_with_another_batch_size_than_its_epochs_had_is_refused(
    batch_size: int, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(
        edited(
            checkpoint_of(), lambda header, stored: stored["run"]["settings"].update(batch_size=batch_size)
        )
    )
    with pytest.raises(ModelFileError, match="its history is not that of its run"):
        Net.load(path)


def test_best_weights_too_large_for_bfloat16_are_refused() -> None:
    net = new_net(precision="mixed_bfloat16")
    interrupted(net, Interrupt(7), EarlyStopping(), epochs=2, validation_data=HELD_OUT)
    assert net._run is not None
    net._run.records[1].state["layers.0.weight"][0, 0] = np.finfo(np.float32).max
    with pytest.raises(ValueError, match="too large for bfloat16"):
        net.fit(X, Y, validation_data=HELD_OUT, resume=True)


def test_checkpoint_holds_no_second_copy_of_weights_in_use() -> None:
    plain = new_net()
    interrupted(plain, Interrupt(7), epochs=2)
    size = len(model_file.to_bytes(plain._stored()))
    n_bytes = 4 * plain.n_parameters
    assert len(model_file.to_bytes(plain._stored(with_training=True))) - size < 2 * n_bytes + 2500


def test_resumed_fit_needs_weights_if_and_only_if_it_began_with_some() -> None:
    weighted = interrupted(new_net(), Interrupt(3), epochs=3, sample_weight=np.ones(43))
    with pytest.raises(ValueError, match="has weights of samples or classes; pass the same again"):
        weighted.fit(X, Y, resume=True)
    plain = interrupted(new_net(), Interrupt(3), epochs=3)
    with pytest.raises(ValueError, match="no weights of samples or classes; leave them out"):
        plain.fit(X, Y, class_weight="balanced", resume=True)
    with pytest.raises(ValueError, match=r"label_smoothing=0\.0, not 0\.1"):
        plain.fit(X, Y, label_smoothing=0.1, resume=True)


def test_interrupted_regression_resumed_equals_one_that_was_not(tmp_path: Path) -> None:
    numbers = RNG.normal(size=(43, 2))
    settings: dict[str, Any] = {"epochs": 3, "batch_size": BATCH_SIZE, "validation_split": 0.25}
    straight, net = (Net([6, 5, 2], loss="squared_error", seed=1) for _ in range(2))
    straight.fit(X, numbers, **settings)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, numbers, callbacks=[Interrupt(7)], **settings)
    net = reloaded(net, tmp_path)
    net.fit(X, numbers, resume=True)
    assert_same_net(net, straight)
    assert net.history.validation_accuracy == []


def test_plateau_of_an_accuracy_that_there_is_not_is_refused() -> None:
    schedule = schedules.ReduceOnPlateau(monitor="validation_accuracy")
    net = Net([6, 2], loss="squared_error", seed=1)
    with pytest.raises(ValueError, match="with squared_error there is none"):
        net.fit(X, X[:, :2], validation_split=0.5, schedule=schedule)


def test_model_of_format_version_1_is_read() -> None:
    net = Net.load(Path(__file__).parent / "data" / "format_version_1.safetensors")
    assert net.loss == "softmax_cross_entropy"
    assert (net.layer_sizes, net.activations, net.seed, net.n_epochs) == ((6, 5, 3), ("tanh",), 3, 2)
    assert net.class_names == ("a", "b", "c")
    assert net.history.loss == [1.171791672706604, 1.1537139415740967]
    # As the release that wrote the file printed them; a sum of five products on any instruction set.
    expected = [-1.3431178331375122, -0.4445812702178955, -0.7759241461753845]
    np.testing.assert_allclose(net.logits(np.ones((1, 6)))[0], expected, rtol=20 * 2.0**-24)
    assert not net.can_resume
    net.fit(X, Y, epochs=1)
