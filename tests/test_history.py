"""The record of a training run."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import History, Net
from fastmlp.history import COLUMNS


def losses(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_step_loss_grows_with_each_call_and_is_read_only() -> None:
    history = History()
    assert history.step_loss.shape == (0,)
    for first in range(0, 1000, 10):
        history._set_steps(first, np.arange(first, first + 10, dtype=np.float32))
    np.testing.assert_array_equal(history.step_loss, np.arange(1000, dtype=np.float32))
    assert history.step_loss.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        history.step_loss[0] = 0


def test_step_loss_recorded_twice_stands_once() -> None:
    history = History()
    history._set_steps(0, losses(3, 2))
    for _ in range(2):
        history._set_steps(2, losses(1))
    np.testing.assert_array_equal(history.step_loss, losses(3, 2, 1))


def test_step_loss_recorded_from_an_earlier_step_forgets_the_later_ones() -> None:
    history = History()
    history._set_steps(0, losses(3, 2, 1))
    history._set_steps(1, losses())
    np.testing.assert_array_equal(history.step_loss, losses(3))


def test_epoch_loss_weighs_a_smaller_last_batch_by_its_samples() -> None:
    history = History()
    history._set_steps(0, losses(9, 4, 1))  # the first belongs to an epoch before
    history._add_epochs(
        first_step=1,
        steps_per_epoch=2,
        offsets=np.array([0, 3, 5]),
        seconds_per_step=1.0,
        learning_rates=np.array([0.2, 0.1]),
        validation_loss=None,
        validation_accuracy=None,
    )
    assert history.loss == [pytest.approx((3 * 4 + 2 * 1) / 5)]
    assert history.n_steps == [2]
    assert history.samples_per_second == [2.5]
    assert history.train_accuracy == history.validation_loss == history.validation_accuracy == []


def add_epoch(history: History, n_steps: int = 2, **others: object) -> None:
    history._add_epochs(
        first_step=history.n_epochs * n_steps,
        steps_per_epoch=n_steps,
        offsets=np.arange(n_steps + 1) * 3,
        seconds_per_step=1.0,
        learning_rates=np.full(n_steps, 0.1),
        validation_loss=None,
        validation_accuracy=None,
        **others,
    )


def test_train_accuracy_is_the_fraction_of_all_samples_or_of_their_weight() -> None:
    history = History()
    history._set_steps(0, losses(1, 1), losses(3, 2))
    add_epoch(history)
    assert history.train_accuracy == [5 / 6]
    weights = np.array([1, 0.5, 0.5, 0.5, 0.5, 0], np.float32)
    history._set_steps(2, losses(1, 1), losses(1.5, 0.5))
    add_epoch(history, sample_weights=weights)
    assert history.train_accuracy == [5 / 6, 2 / 3]


def test_train_accuracy_of_epochs_whose_steps_are_not_known_is_nan() -> None:
    history = History()
    history._set_steps(0, losses(1, 1, 1))
    add_epoch(history)
    assert history.train_accuracy == []
    history._set_steps(3, losses(1, 1, 1), losses(3, 3, 0))  # half of the second epoch
    add_epoch(history)
    assert history.train_accuracy == []
    add_epoch(history)
    np.testing.assert_array_equal(history.train_accuracy, [np.nan, np.nan, 0.5])


def fitted(**settings: object) -> History:
    X = np.eye(8, dtype=np.float32)
    return Net([8, 4, 2], seed=1).fit(X, np.arange(8) % 2, epochs=3, batch_size=3, **settings)


def test_save_csv_writes_a_line_for_each_epoch_that_reads_back_exactly(tmp_path: Path) -> None:
    history = fitted(validation_split=0.25)
    history.save_csv(tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == ["epoch", *COLUMNS]
    for name in COLUMNS:
        assert [float(row[name]) for row in rows] == getattr(history, name)


def test_save_csv_without_validation_leaves_its_columns_empty(tmp_path: Path) -> None:
    history = fitted()
    history.save_csv(tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert {row["validation_loss"] for row in rows} == {""}
    assert all(math.isfinite(float(row["loss"])) for row in rows)


def test_save_csv_into_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.history\.csv"):
        History().save_csv(tmp_path / "missing" / "history.csv")


def test_repr_tells_the_last_numbers() -> None:
    assert repr(History()) == "<History: 0 epochs, 0 steps>"
    history = fitted(validation_split=0.25)
    assert repr(history).startswith("<History: 3 epochs, 6 steps, loss ")
    assert "validation accuracy" in repr(history)


def test_to_pandas_has_a_row_for_each_epoch() -> None:
    pd = pytest.importorskip("pandas")
    history = fitted(validation_split=0.25)
    frame = history.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert (frame.index.name, list(frame.index)) == ("epoch", [1, 2, 3])
    for name in COLUMNS:
        assert frame[name].tolist() == getattr(history, name)
    assert "validation_loss" not in fitted().to_pandas()
    assert History().to_pandas().empty


def test_to_pandas_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        fitted().to_pandas()
