"""Distributions of the initial weights, and that nothing but the seed decides them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastmlp import Net, Normal
from fastmlp.initializers import NAMES, initial_parameters

SIZES = [300, 200, 50]
STANDARD_DEVIATION = {
    "he_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "he_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "glorot_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_uniform": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
}


def check_moments(sample: np.ndarray, mean: float, std: float, kurtosis: float) -> None:
    """Mean and standard deviation lie within 5 standard errors; for these seeds they always do."""
    n = sample.size
    assert abs(sample.mean(dtype=np.float64) - mean) < 5 * std / math.sqrt(n)
    error_of_std = std * math.sqrt((kurtosis - 1) / (4 * n))
    assert abs(sample.std(dtype=np.float64) - std) < 5 * error_of_std


@pytest.mark.parametrize("name", NAMES)
def test_named_initializer_has_the_papers_mean_and_variance_and_zero_biases(name: str) -> None:
    weights, biases = initial_parameters(SIZES, name, seed=3)
    kurtosis = 1.8 if name.endswith("uniform") else 3.0
    for layer, (fan_in, fan_out) in enumerate([(300, 200), (200, 50)]):
        std = STANDARD_DEVIATION[name](fan_in, fan_out)
        assert weights[layer].shape == (fan_in, fan_out)
        assert weights[layer].dtype == biases[layer].dtype == np.float32
        check_moments(weights[layer], 0.0, std, kurtosis)
        np.testing.assert_array_equal(biases[layer], np.zeros(fan_out, np.float32))
        if name.endswith("uniform"):
            half_width = math.sqrt(3) * std
            assert np.abs(weights[layer]).max() <= np.float32(half_width)
            assert np.abs(weights[layer]).max() > 0.999 * half_width


def test_normal_initializer_draws_weights_and_if_told_biases() -> None:
    weights, biases = initial_parameters(SIZES, Normal(0.5, 0.7, bias_too=True), seed=0)
    check_moments(weights[0], 0.5, 0.7, 3.0)
    check_moments(biases[0], 0.5, 0.7, 3.0)
    same_weights, no_biases = initial_parameters(SIZES, Normal(0.5, 0.7), seed=0)
    np.testing.assert_array_equal(same_weights[0], weights[0])
    assert not no_biases[0].any()


def test_normal_initializer_without_spread_is_constant() -> None:
    weights, _ = initial_parameters(SIZES, Normal(0.25, 0), seed=0)
    assert (weights[0] == 0.25).all()


def test_initial_numbers_differ_between_layers_and_between_weights_and_biases() -> None:
    weights, biases = initial_parameters([50, 50, 50], Normal(0, 1, bias_too=True), seed=0)
    drawn = [weights[0][0], weights[1][0], biases[0], biases[1]]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert not np.isin(one, other).any()


def test_seed_alone_decides_the_weights() -> None:
    one, same, other = (Net(SIZES, seed=seed) for seed in (5, np.uint8(5), 6))
    np.testing.assert_array_equal(one.weights[0], same.weights[0])
    assert not np.array_equal(one.weights[0], other.weights[0])
    # A layer's numbers do not depend on what other layers there are.
    np.testing.assert_array_equal(one.weights[0], Net([300, 200, 9, 9], seed=5).weights[0])


def test_seed_covers_64_bits() -> None:
    largest = Net([3, 3], seed=2**64 - 1)
    assert largest.seed == 2**64 - 1
    assert not np.array_equal(largest.weights[0], Net([3, 3], seed=2**32 - 1).weights[0])


def test_seed_none_is_drawn_and_recorded() -> None:
    net, other = Net([3, 3]), Net([3, 3])
    assert net.seed != other.seed
    np.testing.assert_array_equal(Net([3, 3], seed=net.seed).weights[0], net.weights[0])


@pytest.mark.parametrize(
    "settings", [(0.0, -1.0), (math.nan, 1.0), (0.0, math.inf), (1e38, 1.0), (0.0, 10**50)]
)
def test_normal_with_numbers_out_of_range_is_a_value_error(settings: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"mean|std"):
        Normal(*settings)


@pytest.mark.parametrize("settings", [("0", 1), (0, None), (0, 1, 1), (0, 1, "yes")])
def test_normal_with_wrong_types_is_a_type_error(settings: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match=r"mean|std|bias_too"):
        Normal(*settings)


@pytest.mark.parametrize(
    ("initializer", "error"), [("he", ValueError), (0.1, TypeError), (None, TypeError), (Normal, TypeError)]
)
def test_unknown_initializer_is_an_error_that_lists_the_known(
    initializer: object, error: type[Exception]
) -> None:
    with pytest.raises(
        error, match=r"he_normal, he_uniform, glorot_normal, glorot_uniform, or fastmlp.Normal"
    ):
        Net([2, 2], initializer=initializer)
