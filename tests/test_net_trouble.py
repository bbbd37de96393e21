"""What a net holds after trouble: Ctrl-C, errors in callbacks, infinite numbers, two fits at once."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    SGD,
    Adam,
    Callback,
    Net,
    NonFiniteInputError,
    NonFiniteLossError,
    _training,
    callbacks,
    schedules,
)

RNG = np.random.default_rng(0)
X = RNG.random((40, 6), dtype=np.float32)
Y = np.arange(40) % 3


def new_net(**settings: Any) -> Net:
    return Net([6, 5, 3], **({"seed": 1} | settings))


def assert_same_weights(one: Net, other: Net) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)


def assert_whole(net: Net, **settings: Any) -> int:
    """Hold the net against one that was asked for just the steps of its history; return their number."""
    n_steps = len(net.history.step_loss)
    twin = new_net(activation=net.activations, initializer=net.initializer)
    if n_steps:
        history = twin.fit(X, Y, **({"batch_size": 10} | settings), steps=n_steps)
        np.testing.assert_array_equal(history.step_loss, net.history.step_loss)
    assert_same_weights(net, twin)
    return n_steps


# Interruption.


class Interrupt(Callback):
    """Raise something from a method when it is called for the n-th time."""

    def __init__(self, method: str, n: int, action: Any) -> None:
        self.calls = 0
        self.ended = False
        setattr(self, method, self.count)
        self.n, self.action = n, action

    def count(self, net: Net, fit: Any) -> None:
        self.calls += 1
        if self.calls == self.n:
            self.action()

    def on_fit_end(self, net: Net, fit: Any) -> None:
        self.ended = True


def fail() -> None:
    raise ZeroDivisionError("from a callback")


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("action", [fail, press_ctrl_c])
@pytest.mark.parametrize(
    ("method", "n", "n_epochs"),
    [("on_fit_begin", 1, 0), ("on_interval", 1, 0), ("on_interval", 7, 1), ("on_epoch_end", 2, 2)],
)
def test_exception_in_a_callback_leaves_whole_steps_and_a_net_that_goes_on(
    action: Any,
    method: str,
    n: int,
    n_epochs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callbacks, "_SECONDS_BETWEEN_INTERVALS", 0.0)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)  # four calls for each epoch
    net = new_net()
    callback = Interrupt(method, n, action)
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
        net.fit(X, Y, epochs=5, batch_size=10, callbacks=[callback])
    assert callback.ended
    assert len(net.history.loss) == n_epochs
    assert_whole(net)
    n_begun = net.n_epochs
    net.fit(X, Y, epochs=2, batch_size=10)
    assert net.n_epochs == n_begun + 2


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2])
def test_ctrl_c_in_the_middle_of_a_call_loses_no_step(delay: float) -> None:
    many, labels = np.tile(X, (5000, 1)), np.tile(Y, 5000)  # a call takes 75 ms and does thousands of steps
    net = new_net()
    # It comes while the core is at work, most likely, so that Python raises it when the core's call returns,
    # before the result has a name. Whenever it comes, the promise is the same.
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    start = Interrupt("on_interval", 1, timer.start)
    with pytest.raises(KeyboardInterrupt):
        net.fit(many, labels, steps=10**12, batch_size=10, callbacks=[start])
    timer.join()
    n_steps = len(net.history.step_loss)
    twin = new_net()
    twin.fit(many, labels, steps=n_steps, batch_size=10)
    np.testing.assert_array_equal(twin.history.step_loss, net.history.step_loss)
    assert_same_weights(net, twin)
    net.fit(X, Y, steps=1)


def test_ctrl_c_while_a_result_is_recorded_loses_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    collect = _training.Training.collect
    calls = []

    def interrupted_collect(self: _training.Training) -> None:
        calls.append(self)
        if len(calls) == 3:
            press_ctrl_c()
        collect(self)

    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)  # a step each
    monkeypatch.setattr(_training.Training, "collect", interrupted_collect)
    net = new_net()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=9, batch_size=10)
    assert assert_whole(net) > 0


def test_all_callbacks_end_even_if_the_end_of_one_fails() -> None:
    class FailAtEnd(Callback):
        def on_fit_end(self, net: Net, fit: Any) -> None:
            raise ZeroDivisionError

    quiet = [Interrupt("on_epoch_end", 1, lambda: None) for _ in range(2)]
    net = new_net()
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, epochs=1, batch_size=10, callbacks=[quiet[0], FailAtEnd(), quiet[1]])
    assert [callback.ended for callback in quiet] == [True, True]
    assert_whole(net)


def test_callback_whose_begin_was_not_reached_does_not_end() -> None:
    second = Interrupt("on_interval", 1, fail)
    with pytest.raises(ZeroDivisionError):
        new_net().fit(X, Y, callbacks=[Interrupt("on_fit_begin", 1, fail), second])
    assert not second.ended


# Losses that are not finite.

# With the identity as its activation and this rate, the net's numbers grow until they overflow.
EXPLODING = {"optimizer": SGD(60.0), "batch_size": 10}


def explode(net: Net, **settings: Any) -> NonFiniteLossError:
    with pytest.raises(NonFiniteLossError) as caught:
        net.fit(X, Y, **(EXPLODING | {"steps": 10**6} | settings))
    return caught.value


def assert_exploded_properly(net: Net, error: NonFiniteLossError) -> None:
    n_steps = assert_whole(net, optimizer=SGD(60.0))
    # Of steps 1 to n - 1 the losses were finite, that of step n - 1 with the weights that the net now holds.
    assert error.step == n_steps + 2
    assert error.epoch == (error.step - 1) // 4 + 1
    assert error.learning_rate == 60.0
    assert f"step {error.step} (epoch {error.epoch}, learning rate 60)" in str(error)
    assert np.isfinite(net.logits(X)).all()
    # The weights after one more update are the ones that gave no finite loss.
    twin = new_net(activation="identity")
    with np.errstate(all="ignore"):
        history = twin.fit(X, Y, **EXPLODING, steps=n_steps + 1)
    np.testing.assert_array_equal(history.step_loss[:-1], net.history.step_loss)


@pytest.mark.parametrize("seconds_per_call", [0.0, 0.075])
@pytest.mark.parametrize(("snapshot_pause", "calls"), [(0, 1), (0, 3), (3, 1), (10**9, 1)])
def test_non_finite_loss_leaves_the_latest_weights_known_to_be_good(
    seconds_per_call: float, snapshot_pause: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", seconds_per_call)
    monkeypatch.setattr(_training, "_SNAPSHOT_PAUSE", snapshot_pause)
    monkeypatch.setattr(_training, "_CALLS_PER_SNAPSHOT", calls)
    net = new_net(activation="identity")
    error = explode(net)
    assert error.step > 8, "the test wants an explosion in a later epoch; change the rate"
    assert_exploded_properly(net, error)


def test_non_finite_loss_at_the_very_first_step_changes_nothing() -> None:
    net = new_net(activation="identity")
    weights = [w.copy() for w in net.weights]
    weights[0] *= np.float32(1e37)
    weights[1] *= np.float32(1e37)
    net.set_weights(weights, net.biases)
    error = explode(net)
    assert (error.step, error.epoch) == (1, 1)
    np.testing.assert_array_equal(net.weights[0], weights[0])
    assert len(net.history.step_loss) == 0


def test_non_finite_loss_at_the_first_step_of_a_further_fit_changes_nothing() -> None:
    net = new_net()
    net.fit(X, Y, steps=3, batch_size=10)
    with pytest.raises(NonFiniteLossError):
        net.fit(X * np.float32(3.4e38), Y, epochs=1)
    twin = new_net()
    twin.fit(X, Y, steps=3, batch_size=10)
    assert_same_weights(net, twin)


def test_update_that_makes_weights_infinite_is_found_even_if_it_is_the_last() -> None:
    net = new_net()
    with pytest.raises(NonFiniteLossError, match="A weight or a moment after step 1 ") as caught:
        net.fit(X, Y, steps=1, optimizer=SGD(1e300))
    assert caught.value.step == 1
    assert_same_weights(net, new_net())
    assert len(net.history.step_loss) == 0


def test_infinite_weight_that_the_loss_does_not_show_stops_the_next_step() -> None:
    # A first-layer weight overflows; tanh makes +-1 of it, so that logits and loss stay finite.
    net = Net([1, 1, 2], activation="tanh", seed=0)
    net.set_weights([[[1e-3]], [[10, -10]]], [[0], [0, 0]])
    weights = net.weights
    with pytest.raises(NonFiniteLossError) as caught:
        net.fit([[100.0]], [1], steps=3, optimizer=SGD(1e37))
    assert caught.value.step in (1, 2)
    np.testing.assert_array_equal(net.weights[0], weights[0])
    np.testing.assert_array_equal(net.weights[1], weights[1])


def test_update_that_makes_weights_infinite_is_found_before_they_are_validated() -> None:
    net = new_net()
    with pytest.raises(NonFiniteLossError, match="A weight or a moment after step 1 "):
        net.fit(X, Y, epochs=3, optimizer=SGD(1e300), validation_data=(X, Y))
    assert net.history.loss == net.history.validation_loss == []


@pytest.mark.parametrize("validation_data", [None, (X, Y)])
@pytest.mark.parametrize("step", [8, 9, 10])
def test_non_finite_loss_at_an_epochs_first_step_leaves_no_entry_of_an_undone_one(
    step: int, validation_data: Any, tmp_path: Path
) -> None:
    class Explode(schedules.Schedule):
        """Make the loss of the step after `step` (from 0) infinite."""

        def factors(self, steps: Any, span: Any) -> Any:
            return np.where(steps < step - 1, 1.0, 1e30)

    net = new_net(activation="identity")
    with pytest.raises(NonFiniteLossError) as caught:
        net.fit(
            X,
            Y,
            epochs=5,
            batch_size=10,
            optimizer=SGD(0.1),
            schedule=Explode(),
            validation_data=validation_data,
        )
    history = net.history
    assert (caught.value.step, len(history.step_loss)) == (step + 1, step - 1)
    assert history.n_steps == [4] * ((step - 1) // 4)
    for name in ("loss", "train_accuracy", "learning_rate", "seconds", "samples_per_second"):
        assert len(getattr(history, name)) == history.n_epochs
    assert len(history.validation_loss) == (history.n_epochs if validation_data else 0)
    net.save(tmp_path / "net")
    assert Net.load(tmp_path / "net").history.n_steps == history.n_steps


def test_net_can_be_trained_on_after_a_non_finite_loss() -> None:
    net = new_net(activation="identity")
    explode(net, optimizer=Adam(1e30))
    net.set_weights(new_net().weights, new_net().biases)
    history = net.fit(X, Y, epochs=3, optimizer=Adam(1e-3))
    assert np.isfinite(history.step_loss).all()


def test_weights_set_by_a_callback_are_not_undone_by_going_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_SECONDS_BETWEEN_INTERVALS", 0.0)
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)
    fatal = [w * np.float32(1e37) for w in new_net().weights], new_net().biases

    class SetFatalWeights(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            net.set_weights(*fatal)

    net = new_net(activation="identity")
    with pytest.raises(NonFiniteLossError) as caught:
        net.fit(X, Y, epochs=3, batch_size=10, callbacks=[SetFatalWeights()])
    assert caught.value.step == 5
    np.testing.assert_array_equal(net.weights[0], fatal[0][0])
    assert len(net.history.step_loss) == 4


def test_weights_set_by_a_handler_are_not_undone_by_going_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "_SECONDS_PER_CALL", 0.0)
    net = new_net(activation="identity")
    fatal = [w * np.float32(1e37) for w in net.weights], net.biases
    collect = _training.Training.collect

    def collect_and_be_interrupted(training: _training.Training) -> None:
        collect(training)
        if len(net.history.step_loss) == 4:
            net.set_weights(*fatal)

    monkeypatch.setattr(_training.Training, "collect", collect_and_be_interrupted)
    with pytest.raises(NonFiniteLossError) as caught:
        net.fit(X, Y, epochs=3, batch_size=10)
    assert caught.value.step == 5
    np.testing.assert_array_equal(net.weights[0], fatal[0][0])


def test_errors_survive_pickling() -> None:
    loss_error = explode(new_net(activation="identity"))
    copied = pickle.loads(pickle.dumps(loss_error))
    assert (str(copied), copied.step, copied.epoch) == (str(loss_error), loss_error.step, loss_error.epoch)
    with_notes = NonFiniteInputError("X[3, 1] is nan", row=3)
    with_notes.__notes__ = ["a note"]  # as add_note makes them, from Python 3.11 on
    input_error = pickle.loads(pickle.dumps(with_notes))
    assert input_error.__notes__ == ["a note"]
    assert (str(input_error), input_error.row) == ("X[3, 1] is nan", 3)


# Samples that are not finite.


@pytest.mark.parametrize("convert", [lambda X: X, lambda X: X.astype(np.float64), lambda X: X[:, ::1][::1]])
def test_non_finite_sample_stops_before_its_update_and_is_named(convert: Any) -> None:
    bad = X.copy()
    bad[23, 4] = np.inf
    net = new_net()
    with pytest.raises(NonFiniteInputError, match=r"X\[23, 4\] is inf") as caught:
        net.fit(convert(bad), Y, epochs=3, batch_size=10, validation_split=0.25)
    assert caught.value.row == 23
    n_steps = len(net.history.step_loss)
    assert n_steps < 3  # of the first epoch
    twin = new_net()
    if n_steps:
        twin.fit(X[:30], Y[:30], steps=n_steps, batch_size=10)
    assert_same_weights(net, twin)


def test_non_finite_validation_sample_is_named() -> None:
    bad = X.copy()
    bad[35, 0] = np.nan
    with pytest.raises(NonFiniteInputError, match=r"validation_data's X\[35, 0\] is nan"):
        new_net().fit(X, Y, epochs=1, validation_data=(bad, Y))
    with pytest.raises(NonFiniteInputError, match=r"X\[35, 0\] is nan") as caught:
        new_net().fit(bad, Y, epochs=1, validation_split=0.25)
    assert caught.value.row == 35


# Several threads, one net.


class Pause(Callback):
    """Hold a fit between two of its calls."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def on_interval(self, net: Net, fit: Any) -> None:
        self.reached.set()
        assert self.go_on.wait(60)


def test_second_fit_at_the_same_time_is_refused_and_the_first_goes_on() -> None:
    net, pause = new_net(), Pause()
    thread = threading.Thread(target=net.fit, args=(X, Y), kwargs={"steps": 9, "callbacks": [pause]})
    thread.start()
    assert pause.reached.wait(60)
    with pytest.raises(RuntimeError, match="This net is being fitted already"):
        net.fit(X, Y)
    pause.go_on.set()
    thread.join()
    assert_whole(net, batch_size=128)
    net.fit(X, Y, epochs=1)


def test_fit_from_a_callback_of_the_same_net_is_refused() -> None:
    class Nested(Callback):
        def on_epoch_end(self, net: Net, fit: Any) -> None:
            net.fit(X, Y)

    net = new_net()
    with pytest.raises(RuntimeError, match="This net is being fitted already"):
        net.fit(X, Y, epochs=2, callbacks=[Nested()])
    net.fit(X, Y, epochs=1)


def test_net_can_be_read_and_saved_while_it_is_fitted(tmp_path: Path) -> None:
    net = Net([6, 400, 400, 3], seed=1)
    stop = threading.Event()

    class StopWhenTold(Callback):
        def on_interval(self, net: Net, fit: Any) -> None:
            if stop.is_set():
                fit.stop()

    thread = threading.Thread(
        target=net.fit, args=(X, Y), kwargs={"steps": 10**9, "callbacks": [StopWhenTold()]}
    )
    thread.start()
    try:
        for _ in range(5):
            assert net.predict(X).shape == (40,)
            assert len(net.weights) == 3
            net.save(tmp_path / "net.safetensors")
            assert np.isfinite(Net.load(tmp_path / "net.safetensors").logits(X)).all()
    finally:
        stop.set()
        thread.join()


def test_callback_may_use_the_net_in_every_method(tmp_path: Path) -> None:
    used = []

    class Use(Callback):
        def use(self, net: Net, fit: Any) -> None:
            net.predict(X)
            net.evaluate(X, Y)
            net.save(tmp_path / "net.safetensors")
            assert len(net.history.step_loss) == fit.step
            used.append(fit.step)

        on_fit_begin = on_interval = on_epoch_end = on_fit_end = use

    net = new_net()
    net.fit(X, Y, steps=8, batch_size=10, callbacks=[Use()])
    assert used[0] == 0
    assert used[-1] == 8
    assert_whole(net)
