"""Schedules: each against its definition in plain float64, and that no rate depends on anything but steps."""

from __future__ import annotations

import decimal
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmlp import Adam, History, Net, _core, schedules
from fastmlp._random import PURPOSE_SHUFFLE
from fastmlp.schedules import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Span,
    Step,
    Warmup,
)

RNG = np.random.default_rng(0)
X = RNG.random((40, 6), dtype=np.float32)
Y = np.arange(40) % 3
HELD_OUT = RNG.random((30, 6), dtype=np.float32), np.arange(30) % 3

# A factor is a product of at most 2 log2(n) powers, each off by one rounding more than the one before: for
# n up to 1000 steps that is below 1000 roundings of 1.1e-16.
TOLERANCE = 1000 * 2.0**-53


def factors_of(schedule: Schedule, n_steps: int, steps_per_epoch: int, history: History | None = None):
    span = Span(n_steps, steps_per_epoch, history or History())
    return schedule.factors(np.arange(n_steps), span)


# Values.


def test_constant_is_one() -> None:
    np.testing.assert_array_equal(factors_of(Constant(), 5, 2), np.ones(5))


@pytest.mark.parametrize("epochs", [1, 3, (2,), (1, 4, 5)])
def test_step_multiplies_after_the_epochs_it_names(epochs: int | tuple[int, ...]) -> None:
    found = factors_of(Step(epochs, factor=0.3), 8 * 7, 7)
    for step, factor in enumerate(found):
        done = step // 7
        n_changes = done // epochs if isinstance(epochs, int) else sum(e <= done for e in epochs)
        assert factor == pytest.approx(0.3**n_changes, rel=TOLERANCE)
    assert len(set(found)) > 1


def test_exponential_multiplies_each_step_alike_and_an_epoch_by_the_factor() -> None:
    found = factors_of(Exponential(0.8), 1000, 7)
    np.testing.assert_allclose(found, [0.8 ** (step / 7) for step in range(1000)], rtol=TOLERANCE)
    np.testing.assert_allclose(found[::7], [0.8**epoch for epoch in range(143)], rtol=TOLERANCE)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 1000])
def test_cosine_is_half_a_wave_over_the_whole_fit(n_steps: int) -> None:
    found = factors_of(Cosine(final=0.1), n_steps, 7)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * t / n_steps)) / 2 for t in range(n_steps)]
    np.testing.assert_allclose(found, expected, atol=4 * 2.0**-53)
    assert found[0] == 1


def test_half_wave_of_the_taylor_series_is_exact_to_its_last_bits() -> None:
    x = np.linspace(0, 1, 10_001)
    expected = [math.cos(math.pi / 2 * float(value)) ** 2 for value in x]
    np.testing.assert_allclose(schedules._half_wave(x), expected, atol=3 * 2.0**-53)
    assert schedules._half_wave(np.array([0.0, 0.5, 1.0])).tolist() == [1, 0.5, 0]


def test_one_cycle_rises_in_a_line_and_falls_in_half_a_wave() -> None:
    found = factors_of(OneCycle(rise=0.25, start=0.2, final=0.01), 100, 7)
    rising = [0.2 + 0.8 * step / 25 for step in range(25)]
    falling = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 75)) / 2 for step in range(75)]
    np.testing.assert_allclose(found, [*rising, *falling], atol=4 * 2.0**-53)
    assert found.max() == 1


def test_exponential_does_not_depend_on_the_callers_decimal_context() -> None:
    expected = factors_of(Exponential(0.8), 20, 7)
    with decimal.localcontext() as context:
        context.prec, context.rounding, context.Emin = 3, decimal.ROUND_UP, -1
        context.traps[decimal.FloatOperation] = context.traps[decimal.Inexact] = True
        np.testing.assert_array_equal(factors_of(Exponential(0.8), 20, 7), expected)
    with decimal.localcontext(decimal.DefaultContext):  # Python's own, on which bits of earlier fits depend
        assert expected[1] == float(decimal.Decimal.from_float(0.8) ** (decimal.Decimal(1) / 7))


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_one_cycle_of_few_steps_stays_between_its_ends(n_steps: int) -> None:
    found = factors_of(OneCycle(), n_steps, 7)
    assert ((found > 0) & (found <= 1)).all()


def test_warmup_rises_in_a_line_and_begins_the_other_schedule_afterwards() -> None:
    found = factors_of(Warmup(10, then=Cosine()), 110, 7)
    np.testing.assert_allclose(found[:10], [(step + 1) / 10 for step in range(10)], rtol=2.0**-52)
    np.testing.assert_array_equal(found[10:], factors_of(Cosine(), 100, 7))


@pytest.mark.parametrize(("n_rising", "first"), [(6, 2), (7, 3), (9, 3), (1, 1)])
def test_plateau_behind_a_warmup_waits_for_epochs_that_began_after_it(n_rising: int, first: int) -> None:
    schedule = Warmup(n_rising, then=ReduceOnPlateau(patience=2))
    for n_epochs in range(3, 9):
        history = History(validation_loss=[3.0] * n_epochs)
        steps = 3 * n_epochs + np.arange(3)
        found = schedule.factors(steps, Span(27, 3, history))
        # The first of the epochs that count is the best; the rate changes after every second one since.
        n_changes = max(0, n_epochs - first - 1) // 2
        expected = [(step + 1) / n_rising if step < n_rising else 0.1**n_changes for step in steps]
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


def test_schedule_behind_a_warmup_sees_a_fit_that_begins_after_it() -> None:
    seen = []

    class Look(Schedule):
        def factors(self, steps: Any, span: Span) -> Any:
            seen.append((int(steps[0]), span.n_steps, span.history.loss, span.history.step_loss.tolist()))
            return np.ones(len(steps))

    history = new_net().fit(X, Y, epochs=4, batch_size=10, schedule=Warmup(6, then=Look()))
    losses = history.step_loss.tolist()
    assert seen[2:] == [(2, 10, [], []), (6, 10, history.loss[2:3], losses[8:12])]


def test_warmup_longer_than_the_fit_is_only_a_part_of_its_rise() -> None:
    np.testing.assert_allclose(factors_of(Warmup(10, then=Cosine()), 3, 7), [0.1, 0.2, 0.3], rtol=2.0**-52)


@pytest.mark.parametrize(
    ("values", "n_changes"),
    [
        ([], 0),
        ([3], 0),
        ([3, 3], 0),
        ([3, 3, 3], 1),  # two epochs without a better one
        ([3, 3, 3, 3], 1),
        ([3, 3, 3, 3, 3], 2),
        ([3, 4, 2, 2.5, 1, 1, 1], 1),
        ([3, 4, 4, 2, 2, 2], 2),
        ([math.nan, math.nan], 1),
        ([math.inf, math.inf], 1),
        ([math.inf, 3, math.inf, 2], 0),
        ([math.nan, 3, math.nan, 2], 0),
    ],
)
def test_reduce_on_plateau_counts_epochs_without_a_better_number(values: list, n_changes: int) -> None:
    history = History(validation_loss=values)
    found = ReduceOnPlateau(patience=2).factors(np.arange(3), Span(10, 3, history))
    np.testing.assert_allclose(found, [0.1**n_changes] * 3, rtol=TOLERANCE)


def test_reduce_on_plateau_watches_accuracy_upwards_and_wants_min_delta() -> None:
    history = History(validation_accuracy=[0.5, 0.55, 0.61])
    for min_delta, n_changes in ((0.0, 0), (0.1, 0), (0.12, 1)):
        schedule = ReduceOnPlateau(2, 0.5, "validation_accuracy", min_delta)
        assert schedule.factors(np.arange(1), Span(9, 1, history)) == 0.5**n_changes


@pytest.mark.parametrize("base", [0.1, 0.5, 0.999])
def test_powers_are_those_of_exact_arithmetic_to_within_rounding(base: float) -> None:
    exponents = np.array([0, 1, 2, 3, 10, 97, 200])
    exact = [float(Fraction(base) ** int(exponent)) for exponent in exponents]
    np.testing.assert_allclose(schedules._powers(base, exponents), exact, rtol=400 * 2.0**-53)


ALL = [
    Constant(),
    Step(2),
    Step((1, 3), factor=0.5),
    Exponential(0.7),
    Cosine(),
    OneCycle(),
    Warmup(5, then=Exponential(0.5)),
    ReduceOnPlateau(1, monitor="loss"),
]


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_factor_of_a_step_does_not_depend_on_the_steps_asked_for_with_it(schedule: Schedule) -> None:
    span = Span(60, 10, History(loss=[3.0, 3.0]))
    together = schedule.factors(np.arange(20, 30), span)
    alone = [schedule.factors(np.array([step]), span)[0] for step in range(20, 30)]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.float64
    assert schedule.factors(np.arange(0), span).shape == (0,)


def test_every_schedule_is_tested_here() -> None:
    assert {type(schedule) for schedule in ALL} == set(schedules.KINDS)


# Settings.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Step(0), ValueError, "epochs must be a whole number from 1 to"),
        (lambda: Step(2**63), ValueError, "epochs must be a whole number from 1 to"),
        (lambda: Step((1, 10**400)), ValueError, r"epochs\[1\] must be a whole number from 1 to"),
        (lambda: Step("30"), TypeError, "epochs must be a whole number"),
        (lambda: Step(1.5), TypeError, "epochs"),
        (lambda: Step(()), ValueError, r"epochs must be one or more rising numbers, not \(\)"),
        (lambda: Step((3, 3)), ValueError, "rising"),
        (lambda: Step((3, 0)), ValueError, r"epochs\[1\]"),
        (lambda: Step(1, factor=1), ValueError, "factor must be greater than 0 and less than 1, not 1"),
        (lambda: Exponential(0), ValueError, "factor must be greater than 0"),
        (lambda: Exponential("0.9"), TypeError, "factor must be a real number"),
        (lambda: Cosine(1.0), ValueError, "final must be at least 0 and less than 1"),
        (lambda: OneCycle(rise=0), ValueError, "rise must be greater than 0"),
        (lambda: OneCycle(start=-0.1), ValueError, "start must be at least 0"),
        (lambda: OneCycle(final=math.nan), ValueError, "final must be finite"),
        (lambda: ReduceOnPlateau(0), ValueError, "patience"),
        (lambda: ReduceOnPlateau(monitor="accuracy"), ValueError, "monitor must be one of"),
        (lambda: ReduceOnPlateau(min_delta=-1), ValueError, "min_delta must be at least 0"),
        (lambda: Warmup(0), ValueError, "steps must be a whole number from 1 to"),
        (lambda: Warmup(2**63), ValueError, "steps must be a whole number from 1 to"),
        (lambda: Warmup(5, then=Cosine), TypeError, "then is the class Cosine; pass an instance"),
        (lambda: Warmup(5, then=Warmup(5)), ValueError, "then must not be a Warmup"),
    ],
)
def test_bad_setting_is_an_error_that_names_it(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_schedules_are_plain_settings_that_compare_and_hash() -> None:
    assert Step([1, 2]) == Step((1, 2))
    assert repr(Warmup(5, then=Cosine())) == "Warmup(steps=5, then=Cosine(final=0.0))"
    assert len({Cosine(), Cosine(), Cosine(0.1)}) == 2


# In a fit.


def new_net() -> Net:
    return Net([6, 5, 3], seed=1)


def test_fit_multiplies_the_optimizers_rate_step_by_step() -> None:
    scheduled = new_net()
    history = scheduled.fit(
        X, Y, epochs=3, batch_size=10, optimizer=Adam(0.01), schedule=Warmup(6, then=Step(1, factor=0.5))
    )
    by_hand = new_net()
    factors = [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1, 0.5, 0.5]
    for epoch in range(3):
        order = _core.philox_permutation(1, PURPOSE_SHUFFLE, epoch, 40)
        for step in range(4):
            rows = order[10 * step : 10 * step + 10]
            rate = 0.01 * factors[4 * epoch + step]
            by_hand.fit(X[rows], Y[rows], epochs=1, batch_size=10, shuffle=False, optimizer=Adam(rate))
    for a, b in zip(scheduled.weights, by_hand.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert history.learning_rate == [0.01 * (4 / 6), 0.01, 0.005]


def test_fit_reduces_on_a_plateau_after_the_epochs_end() -> None:
    settings: dict[str, Any] = {"epochs": 5, "batch_size": 10, "validation_data": HELD_OUT}
    plateau = ReduceOnPlateau(patience=1, min_delta=100.0)  # nothing is ever better by so much
    history = new_net().fit(X, Y, optimizer=Adam(1.0), schedule=plateau, **settings)
    np.testing.assert_allclose(history.learning_rate, [1, 1, 0.1, 0.01, 0.001], rtol=TOLERANCE)


@pytest.mark.parametrize("schedule", [ReduceOnPlateau(), Warmup(5, then=ReduceOnPlateau())])
def test_plateau_of_a_validation_number_without_validation_is_an_error(schedule: Schedule) -> None:
    net = new_net()
    with pytest.raises(ValueError, match="ReduceOnPlateau watches validation_loss, but there are no valid"):
        net.fit(X, Y, schedule=schedule)
    assert net.n_epochs == 0


def test_fit_refuses_what_is_no_schedule() -> None:
    with pytest.raises(TypeError, match="schedule must be an instance such as"):
        new_net().fit(X, Y, schedule="cosine")


class Own(Schedule):
    """A user's own schedule, which returns what the test wants."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def factors(self, steps: Any, span: Span) -> Any:
        return self.made(len(steps))


@pytest.mark.parametrize("make", [np.ones, lambda n: np.ones(n, int), lambda n: [1.0] * n])
def test_fit_takes_a_schedule_of_the_users_own(make: Any) -> None:
    history = new_net().fit(X, Y, epochs=2, optimizer=Adam(0.5), schedule=Own(make))
    assert history.learning_rate == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda n: np.ones(1), ValueError, r"Own.factors returned the shape \(1,\), but must return \(4,\)"),
        (lambda n: 1.0, ValueError, r"Own.factors returned the shape \(\)"),
        (lambda n: None, TypeError, "Own.factors must be an array of real numbers, not NoneType"),
        (lambda n: np.ones(n, complex), TypeError, "not an array of complex128"),
        (lambda n: np.full(n, math.nan), ValueError, "returned nan for a step"),
        (lambda n: -np.ones(n), ValueError, "returned -1.0 for a step, but a factor must be a finite number"),
    ],
)
def test_fit_with_factors_that_are_none_is_an_error_before_any_step(
    make: Any, error: type[Exception], message: str
) -> None:
    net = new_net()
    with pytest.raises(error, match=message):
        net.fit(X, Y, batch_size=10, schedule=Own(make))
    assert len(net.history.step_loss) == 0


def test_fits_of_constant_rate_are_as_ever_with_the_schedule_given() -> None:
    plain, given = new_net(), new_net()
    plain.fit(X, Y, epochs=3)
    given.fit(X, Y, epochs=3, schedule=Constant())
    np.testing.assert_array_equal(plain.weights[0], given.weights[0])
