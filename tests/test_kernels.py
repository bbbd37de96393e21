"""Every kernel on every instruction set of this machine, against the float64 oracle, at tile sizes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from core_networks import INSTRUCTION_SETS, every_instruction_set, random_targets
from error_bounds import (
    ACTIVATION_RELATIVE,
    EPSILON,
    GELU_DERIVATIVE_ABSOLUTE,
    GELU_PER_Z,
    TINY,
    UNIT_ROUNDOFF,
    gamma,
    output_bounds,
    sigmoid_bounds,
    smoothed_bound,
    softmax_bounds,
    squared_error_bound,
)
from fastmlp import _core
from reference import (
    ACTIVATIONS,
    LOSSES,
    ReferenceAdam,
    ReferenceSGD,
    cross_entropy,
    round_to_bfloat16,
    sigmoid,
    sigmoid_cross_entropy,
    smoothed,
    softmax,
    target_rows,
)

kernels = _core.kernels

# Tiles have 1 to 8 rows and 1 to 7 panels of 16 columns, blocks 96 rows and a depth of 128 or 256 words: one
# less, as many, one more, some odd numbers, and none.
ROWS = (0, 1, 2, 3, 5, 6, 7, 8, 9, 13, 16, 17, 95, 96, 97)
COLUMNS = (0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 97, 129)
DEPTHS = (0, 1, 2, 15, 16, 17, 33, 127, 128, 129, 255, 256, 257, 515, 1027)
CLASSES = (1, 2, 3, 10, 15, 16, 17, 31, 32, 33, 100)

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)

# Each product as the shapes of its operands, given (rows, columns, depth), and what it means.
PRODUCTS = {
    "multiply": (lambda m, n, k: ((m, k), (k, n)), lambda a, b: a @ b),
    "multiply_transposed": (lambda m, n, k: ((k, m), (k, n)), lambda a, b: a.T @ b),
    "multiply_by_transposed": (lambda m, n, k: ((m, k), (n, k)), lambda a, b: a @ b.T),
}
every_product = pytest.mark.parametrize("product", PRODUCTS)
every_listed_product = pytest.mark.parametrize("product", ["multiply", "multiply_transposed"])


def listed_products(product, instruction_set, pairs):
    """Return the kernels that make this product from lists, as names and options."""
    by_groups = [{"n_parts": 1}, {"n_parts": 5}]
    if product == "multiply_transposed":
        return [("multiply_transposed_listed", {"pairs": pairs, **options}) for options in by_groups]
    if product != "multiply":
        return []
    grouped = not pairs and kernels.has_grouped_product(instruction_set)
    return [
        ("multiply_listed", {"pairs": pairs}),
        *(("multiply_grouped", options) for options in by_groups if grouped),
    ]


# Words are floats on every set, and pairs of bfloat16 on some.
WITH_PAIRS = [name for name in INSTRUCTION_SETS if kernels.has_pair_products(name)]
every_kind_of_words = pytest.mark.parametrize(
    ("instruction_set", "pairs"),
    [
        pytest.param(
            name,
            pairs,
            id=f"{name}-{'pairs' if pairs else 'floats'}",
            marks=pytest.mark.skipif(name not in INSTRUCTION_SETS, reason=f"this machine lacks {name}"),
        )
        for name in _core.compiled_instruction_sets()
        for pairs in ((False, True) if name.endswith("_bf16") else (False,))
    ],
)
every_set_with_pairs = pytest.mark.parametrize(
    "instruction_set",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(name not in INSTRUCTION_SETS, reason=f"this machine lacks {name}")
        )
        for name in _core.compiled_instruction_sets()
        if name.endswith("_bf16")
    ],
)


def numbers(rng, shape, pairs):
    """Draw float32 numbers; those of pairs are bfloat16."""
    a = rng.normal(size=shape)
    return (round_to_bfloat16(a) if pairs else a).astype(np.float32)


def paired(a):
    """Round a to bfloat16, and add a zero column and a zero row where there is an odd number of them."""
    rounded = round_to_bfloat16(a)
    return np.pad(rounded, ((0, 0), (0, a.shape[1] % 2))), np.pad(rounded, ((0, a.shape[0] % 2), (0, 0)))


def assert_relative(actual, expected, *, relative, absolute=0.0):
    np.testing.assert_array_less(np.abs(actual - expected), relative * np.abs(expected) + absolute + TINY)


def test_pair_products_are_those_of_the_sets_named_after_them():
    assert [name for name in INSTRUCTION_SETS if name.endswith("_bf16")] == WITH_PAIRS
    a = np.ones((1, 1), np.float32)
    for name in set(INSTRUCTION_SETS) - set(WITH_PAIRS):
        with pytest.raises(ValueError, match="no products of bfloat16 pairs"):
            kernels.multiply(name, a, a, pairs=True)


@every_kind_of_words
@every_product
def test_product_of_small_integers_at_all_sizes_is_exact(product, instruction_set, pairs):
    # float32 holds these sums exactly, and bfloat16 the integers, whatever their order: one element too many
    # or too few shows.
    numbers = np.random.default_rng(1).integers(-8, 9, 2**18).astype(np.float32)
    shapes_of, expected = PRODUCTS[product]
    for size in itertools.product(ROWS, COLUMNS, DEPTHS):
        a, b = (numbers[i : i + math.prod(shape)].reshape(shape) for i, shape in enumerate(shapes_of(*size)))
        actual = getattr(kernels, product)(instruction_set, a, b, pairs=pairs)
        assert np.array_equal(actual, expected(a, b)), size
        for listed, options in listed_products(product, instruction_set, pairs):
            actual = getattr(kernels, listed)(instruction_set, a, b, **options)
            assert np.array_equal(actual, expected(a, b)), (size, options)


@every_instruction_set
@every_product
def test_product_is_one_chain_of_multiply_adds_in_rising_order(product, instruction_set):
    # The promise that makes all sets with fused multiply-add agree in every bit. Multiples of 2^-11 have
    # products that float32 holds, and sums that float64 holds: rounding each of those sums to float32 is
    # what a fused multiply-add does, and what multiplying and adding does as well.
    rng = np.random.default_rng(2)
    shapes_of, _ = PRODUCTS[product]
    for rows, columns, depth in ((13, 49, 1000), (6, 16, 257), (97, 33, 300)):
        shapes = shapes_of(rows, columns, depth)
        a, b = (rng.integers(-(2**10), 2**11, shape).astype(np.float32) / 2**11 for shape in shapes)
        left = a if product != "multiply_transposed" else a.T
        right = b if product != "multiply_by_transposed" else b.T
        chain = np.zeros((rows, columns), np.float32)
        for k in range(depth):
            chain = (chain + np.outer(left[:, k], right[k]).astype(np.float64)).astype(np.float32)
        assert not np.array_equal(chain, left.astype(np.float64) @ right)  # roundings did happen
        np.testing.assert_array_equal(getattr(kernels, product)(instruction_set, a, b), chain)


@every_set_with_pairs
@every_product
def test_product_of_pairs_rounds_each_pair_twice(product, instruction_set):
    # A product of two bfloat16 has 16 bits: float32 holds it. What is rounded for a pair is its sum and the
    # running sum; by up to 2^-24 of it on x86 (to nearest), 2^-23 on aarch64 (to odd).
    rng = np.random.default_rng(14)
    shapes_of, exact = PRODUCTS[product]
    u = EPSILON if instruction_set == "neon_bf16" else UNIT_ROUNDOFF
    for rows, columns, depth in itertools.product((1, 7, 97), (1, 17, 113), DEPTHS):
        a, b = (rng.normal(size=shape).astype(np.float32) for shape in shapes_of(rows, columns, depth))
        actual = getattr(kernels, product)(instruction_set, a, b, pairs=True)
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
        roundings = 2 * ((depth + 1) // 2)
        bound = roundings * u / (1 - roundings * u) * exact(np.abs(a), np.abs(b)) + depth * TINY
        assert (np.abs(actual - exact(a, b)) <= bound).all(), (rows, columns, depth)


@every_set_with_pairs
@every_product
def test_product_of_pairs_takes_denormals_for_zero(product, instruction_set):
    shapes_of, _ = PRODUCTS[product]
    for depth in (1, 2, 17):
        a, b = (np.ones(shape, np.float32) for shape in shapes_of(3, 19, depth))
        for denormal, other in ((a, b), (b, a)):
            denormal[:], other[:] = 2.0**-127, 2.0**100
            listed = listed_products(product, instruction_set, pairs=True)
            for name, options in ((product, {"pairs": True}), *listed):
                actual = getattr(kernels, name)(instruction_set, a, b, **options)
                np.testing.assert_array_equal(actual, 0)


@every_kind_of_words
@every_listed_product
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_listed_product_has_the_bits_of_the_dense_one(density, product, instruction_set, pairs):
    # Adding the product of a zero changes no bit. Zeros come in columns of the left operand, as in pictures,
    # and singly; -0 counts as one, and so does what is denormal.
    rng = np.random.default_rng(13)
    shapes_of, _ = PRODUCTS[product]
    dense = getattr(kernels, product)
    for size in itertools.product((0, 1, 3, 4, 5, 6, 11, 16, 17, 96), (0, 1, 16, 49, 113), DEPTHS):
        a, b = (numbers(rng, shape, pairs) for shape in shapes_of(*size))
        features = a if product == "multiply" else a.T
        features[:, rng.random(features.shape[1]) >= density] = rng.choice(np.array([0, -0.0], np.float32))
        a[rng.random(a.shape) < 0.1] = 0
        a[rng.random(a.shape) < 0.1] = 2.0**-130
        whole = dense(instruction_set, a, b, pairs=pairs)
        for listed, options in listed_products(product, instruction_set, pairs):
            actual = getattr(kernels, listed)(instruction_set, a, b, **options)
            assert actual.tobytes() == whole.tobytes(), (size, options)


@every_instruction_set
def test_sum_of_rows_at_all_sizes_is_one_chain_in_rising_order(instruction_set):
    rng = np.random.default_rng(3)
    for rows, columns in itertools.product((*ROWS, 300), COLUMNS):
        a = rng.normal(size=(rows, columns)).astype(np.float32)
        chain = np.zeros(columns, np.float32)
        for row in a:
            chain = chain + row
        np.testing.assert_array_equal(kernels.sum_rows(instruction_set, a), chain[np.newaxis])


@every_set_with_pairs
def test_sum_of_rows_in_pairs_has_the_bits_of_that_of_the_rounded_floats(instruction_set):
    rng = np.random.default_rng(3)
    for rows, columns in itertools.product((*ROWS, 300), COLUMNS):
        a = rng.normal(size=(rows, columns)).astype(np.float32)
        rounded = round_to_bfloat16(a).astype(np.float32)
        of_pairs = kernels.sum_rows(instruction_set, a, pairs=True)
        assert of_pairs.tobytes() == kernels.sum_rows(instruction_set, rounded).tobytes(), (rows, columns)


@every_instruction_set
def test_pack_uint8_of_all_sizes_picks_rows_in_any_order(instruction_set):
    rng = np.random.default_rng(4)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        a = rng.integers(0, 256, (max(rows, 1), columns), dtype=np.uint8)
        index = rng.integers(0, len(a), rows)
        np.testing.assert_array_equal(kernels.pack_uint8(instruction_set, a, index), a[index])


@every_instruction_set
def test_pack_float_of_all_sizes_keeps_or_rounds_every_element(instruction_set):
    rng = np.random.default_rng(5)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        a = rng.normal(size=(rows, columns)).astype(np.float32)
        packed, finite = kernels.pack_float(instruction_set, a, False)
        assert finite
        np.testing.assert_array_equal(packed, a)
        rounded, finite = kernels.pack_float(instruction_set, a, True)
        assert finite
        np.testing.assert_array_equal(rounded, round_to_bfloat16(a))


@every_set_with_pairs
def test_packing_pairs_of_all_sizes_picks_rows_in_any_order_and_rounds(instruction_set):
    rng = np.random.default_rng(15)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        pixels = rng.integers(0, 256, (max(rows, 1), columns), dtype=np.uint8)
        values = rng.normal(size=pixels.shape).astype(np.float32)
        index = rng.integers(0, len(pixels), rows)
        by_columns, by_rows = kernels.pack_uint8_pairs(instruction_set, pixels, index)
        np.testing.assert_array_equal(by_columns, paired(pixels[index])[0])
        np.testing.assert_array_equal(by_rows, paired(pixels[index])[1])
        by_columns, by_rows, finite = kernels.pack_float_pairs(instruction_set, values, index)
        assert finite
        np.testing.assert_array_equal(by_columns, paired(values[index])[0])
        np.testing.assert_array_equal(by_rows, paired(values[index])[1])
        by_columns, by_rows = kernels.pair(instruction_set, values)
        np.testing.assert_array_equal(by_columns, paired(values)[0])
        np.testing.assert_array_equal(by_rows, paired(values)[1])


@every_instruction_set
def test_write_operand_of_all_sizes_rounds_every_element(instruction_set):
    rng = np.random.default_rng(16)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        value = rng.normal(size=(rows, columns)).astype(np.float32)
        expected = paired(value)[1] if instruction_set in WITH_PAIRS else round_to_bfloat16(value)
        np.testing.assert_array_equal(kernels.write_operand(instruction_set, value), expected)


@every_instruction_set
def test_count_of_nonzeros_leaves_out_both_zeros_and_denormals(instruction_set):
    rng = np.random.default_rng(17)
    kinds = np.array([0, -0.0, 2.0**-130, -(2.0**-149), 1, -3, 2.0**-126, np.inf, np.nan], np.float32)

    def check(a, is_nonzero):
        np.testing.assert_array_equal(kernels.count_nonzeros(instruction_set, a), is_nonzero.sum(axis=1))
        groups = np.add.reduceat(is_nonzero, range(0, is_nonzero.shape[1], 4), axis=1) > 0
        np.testing.assert_array_equal(kernels.count_nonzeros(instruction_set, a, 4), groups.sum(axis=1))

    for columns, density in itertools.product(COLUMNS, (0.1, 0.5)):
        pixels = (rng.integers(0, 256, (5, columns)) * (rng.random((5, columns)) < density)).astype(np.uint8)
        check(pixels, pixels != 0)
        kind = rng.integers(0, len(kinds), (5, columns)) * (rng.random((5, columns)) < 2 * density)
        check(kinds[kind], kind >= 4)
    for together in (0, 2, 5):
        with pytest.raises(ValueError, match="alone or in groups of 4"):
            kernels.count_nonzeros(instruction_set, pixels, together)


@every_instruction_set
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pack_float_finds_what_is_not_finite_wherever_it_is(bad, instruction_set):
    for rows, columns in ((1, 1), (3, 16), (3, 17), (2, 47)):
        for at in np.ndindex(rows, columns):
            a = np.full((rows, columns), 3e38, np.float32)  # large, but finite: no false alarm
            assert kernels.pack_float(instruction_set, a, False)[1]
            if instruction_set in WITH_PAIRS:
                assert kernels.pack_float_pairs(instruction_set, a, np.arange(rows))[2]
            a[at] = bad
            assert not kernels.pack_float(instruction_set, a, False)[1]
            assert not kernels.pack_float(instruction_set, a, True)[1]
            if instruction_set in WITH_PAIRS:
                assert not kernels.pack_float_pairs(instruction_set, a, np.arange(rows))[2]


@every_instruction_set
def test_rounding_to_bfloat16_of_every_upper_half_and_tie_is_the_oracles(instruction_set):
    # All finite upper halves of a float32, each with lower halves below, at and above the tie.
    upper = np.arange(2**16, dtype=np.uint32) << 16
    upper = upper[(upper & 0x7F800000 != 0x7F800000) & (upper & 0x7F800000 != 0)]
    for lower in (0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (upper | np.uint32(lower)).view(np.float32)[np.newaxis]
        with np.errstate(over="ignore"):
            expected = round_to_bfloat16(values)
        np.testing.assert_array_equal(kernels.pack_float(instruction_set, values, True)[0], expected)
        np.testing.assert_array_equal(kernels.write_operand(instruction_set, values)[:1], expected)


# Activations.


def arguments_of_activations():
    """Return float32 numbers of all sizes an activation may see, as one row."""
    small = np.geomspace(1e-30, 1, 2000)
    around = np.linspace(0, 20, 20_001)
    large = np.geomspace(20, 1e30, 2000)
    positive = np.concatenate([small, around, large, [86.9, 87.0, 87.1, 88.0, 88.8, 104.0]])
    return np.concatenate([-positive, positive]).astype(np.float32)[np.newaxis]


@every_instruction_set
@every_activation
def test_activation_of_arguments_of_every_size_is_right_to_a_few_epsilon(activation, instruction_set):
    z = arguments_of_activations()
    bias = np.zeros_like(z)
    value, argument = kernels.bias_activation(instruction_set, activation, z, bias, 1.0, False)
    np.testing.assert_array_equal(argument, z)
    exact = z.astype(np.float64)
    with np.errstate(under="ignore", over="ignore"):
        expected = ACTIVATIONS[activation].function(exact)
    absolute = GELU_PER_Z * np.abs(exact) if activation == "gelu" else 0.0
    assert_relative(value, expected, relative=ACTIVATION_RELATIVE[activation], absolute=absolute)
    rounded, _ = kernels.bias_activation(instruction_set, activation, z, bias, 1.0, True)
    np.testing.assert_array_equal(rounded, round_to_bfloat16(value))


@every_instruction_set
@every_activation
def test_slope_of_arguments_of_every_size_is_right_to_a_few_epsilon(activation, instruction_set):
    z = arguments_of_activations()
    value = kernels.bias_activation(instruction_set, activation, z, np.zeros_like(z), 1.0, False)[0]
    saved = z if activation == "gelu" else value
    rng = np.random.default_rng(6)
    delta = rng.normal(size=z.shape).astype(np.float32)
    with np.errstate(under="ignore", over="ignore"):
        slope = ACTIVATIONS[activation].derivative(z.astype(np.float64), value.astype(np.float64))
    # The slope is made of the very value that the kernel reads. identity, relu: one rounding at most, of
    # the product; leaky_relu: 0.01 also; tanh and sigmoid: at most 2 roundings of numbers up to 1.
    absolute = {"tanh": EPSILON, "sigmoid": EPSILON, "gelu": GELU_DERIVATIVE_ABSOLUTE}.get(activation, 0.0)

    actual = kernels.activation_backward(instruction_set, activation, delta, saved, False)

    assert_relative(actual, delta * slope, relative=2 * EPSILON, absolute=absolute * np.abs(delta))
    rounded = kernels.activation_backward(instruction_set, activation, delta, saved, True)
    np.testing.assert_array_equal(rounded, round_to_bfloat16(actual))


@every_instruction_set
@every_activation
def test_activation_at_all_sizes_adds_each_columns_bias(activation, instruction_set):
    rng = np.random.default_rng(7)
    f = ACTIVATIONS[activation]
    for rows, columns in itertools.product(ROWS, COLUMNS):
        z, delta = rng.normal(size=(2, rows, columns)).astype(np.float32)
        bias = rng.normal(size=(1, columns)).astype(np.float32)
        value, argument = kernels.bias_activation(instruction_set, activation, z, bias, 0.25, False)
        # A quarter is exact; the sum is rounded once.
        np.testing.assert_array_equal(argument, np.float32(0.25) * z + bias)
        exact = argument.astype(np.float64)
        own = ACTIVATION_RELATIVE[activation]
        absolute = GELU_PER_Z * np.abs(exact) if activation == "gelu" else 0.0
        assert_relative(value, f.function(exact), relative=own, absolute=absolute)
        saved = argument if activation == "gelu" else value
        slope = f.derivative(exact, value.astype(np.float64))
        backward = kernels.activation_backward(instruction_set, activation, delta, saved, False)
        np.testing.assert_allclose(backward, delta * slope, rtol=0, atol=10 * EPSILON * 5)


@every_instruction_set
@every_activation
def test_activation_of_nan_is_nan(activation, instruction_set):
    z = np.full((2, 19), np.nan, np.float32)
    for to_bfloat16 in (False, True):
        value, _ = kernels.bias_activation(
            instruction_set, activation, z, np.zeros((1, 19), np.float32), 1.0, to_bfloat16
        )
        assert np.isnan(value).all()


@every_instruction_set
@every_activation
def test_activation_of_zero_has_no_negative_zero(activation, instruction_set):
    # Skipping a zero must not be told from adding it: epilogues make the sign of zero canonical.
    z = np.array([[0.0, -0.0]], np.float32)
    value, _ = kernels.bias_activation(instruction_set, activation, z, np.zeros_like(z), 1.0, False)
    assert not np.signbit(value).any()


# Softmax and cross-entropy.


@every_instruction_set
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_softmax_at_all_sizes_agrees_with_the_oracle(scale, instruction_set):
    rng = np.random.default_rng(8)
    for rows, n_classes in itertools.product(ROWS, CLASSES):
        logits = (scale * rng.normal(size=(rows, n_classes))).astype(np.float32)
        exact = logits.astype(np.float64)
        T = np.ones_like(exact) / n_classes
        error, _ = softmax_bounds(exact, np.zeros_like(exact), T)
        actual = kernels.softmax(instruction_set, logits)
        assert actual.shape == logits.shape
        assert (np.abs(actual - softmax(exact)) <= error).all()


@every_instruction_set
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_cross_entropy_at_all_sizes_agrees_with_the_oracle(scale, kind, instruction_set):
    rng = np.random.default_rng(9)
    for rows, n_classes in itertools.product(ROWS, CLASSES):
        logits = (scale * rng.normal(size=(rows, n_classes))).astype(np.float32)
        targets = random_targets(rng, kind, rows, n_classes)
        exact, T = logits.astype(np.float64), target_rows(targets, n_classes)
        p_error, loss_error = softmax_bounds(exact, np.zeros_like(exact), T)

        losses, delta = kernels.softmax_cross_entropy(instruction_set, logits, targets, 0.125, False)

        assert (np.abs(losses - cross_entropy(exact, T)) <= loss_error).all()
        # An eighth is exact. Rounded are the sum of T, its product with p, and the difference from T.
        expected = softmax(exact) - T
        bound = p_error + gamma(n_classes + 2) * softmax(exact) + UNIT_ROUNDOFF * (np.abs(expected) + p_error)
        assert (np.abs(8 * delta.astype(np.float64) - expected) <= bound + 8 * TINY).all()

        rounded = kernels.softmax_cross_entropy(instruction_set, logits, targets, 0.125, True)
        np.testing.assert_array_equal(rounded[0], losses)
        np.testing.assert_array_equal(rounded[1], round_to_bfloat16(delta))


@every_instruction_set
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logit_that_is_not_finite_spoils_its_own_row_and_no_other(bad, instruction_set):
    rng = np.random.default_rng(10)
    for n_classes in CLASSES:
        logits = rng.normal(size=(20, n_classes)).astype(np.float32)
        labels = rng.integers(0, n_classes, 20)
        rows = target_rows(labels, n_classes).astype(np.float32)
        clean = kernels.softmax(instruction_set, logits)
        for column in (0, n_classes - 1):
            spoilt = logits.copy()
            spoilt[17, column] = bad
            others = np.arange(20) != 17
            p = kernels.softmax(instruction_set, spoilt)
            assert np.isnan(p[17]).all()
            np.testing.assert_array_equal(p[others], clean[others])
            for targets in (labels, rows):
                losses, _ = kernels.softmax_cross_entropy(instruction_set, spoilt, targets, 1.0, False)
                assert not np.isfinite(losses[17])
                assert np.isfinite(losses[others]).all()


@every_instruction_set
def test_logarithm_in_the_loss_is_right_to_two_epsilon_from_1_to_10000_classes(instruction_set):
    # All logits equal: the loss is log(n_classes), and exactly 0 for one class.
    for n_classes in (1, 2, 3, 5, 7, 10, 16, 17, 100, 1000, 10_000):
        logits = np.full((17, n_classes), 3.0, np.float32)
        losses, _ = kernels.softmax_cross_entropy(instruction_set, logits, np.zeros(17, np.int64), 1.0, False)
        assert_relative(losses, np.full(17, np.log(n_classes)), relative=2 * EPSILON)


# Losses of independent outputs.


@every_instruction_set
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_sigmoid_at_all_sizes_agrees_with_the_oracle(scale, instruction_set):
    rng = np.random.default_rng(13)
    for rows, n_outputs in itertools.product(ROWS, CLASSES):
        outputs = (scale * rng.normal(size=(rows, n_outputs))).astype(np.float32)
        exact = outputs.astype(np.float64)
        error, _ = sigmoid_bounds(exact, 0.0, np.zeros_like(exact))
        actual = kernels.sigmoid(instruction_set, outputs)
        assert actual.shape == outputs.shape
        assert (np.abs(actual - sigmoid(exact)) <= error).all()


@every_instruction_set
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_loss_of_independent_outputs_at_all_sizes_agrees_with_the_oracle(scale, loss, instruction_set):
    rng = np.random.default_rng(14)
    kernel = getattr(kernels, loss)
    for rows, n_outputs in itertools.product(ROWS, CLASSES):
        outputs = (scale * rng.normal(size=(rows, n_outputs))).astype(np.float32)
        targets = random_targets(rng, loss, rows, n_outputs)
        exact, T = outputs.astype(np.float64), targets.astype(np.float64)
        expected, slope = LOSSES[loss].function(exact, T), LOSSES[loss].gradient(exact, T)
        if loss == "squared_error":
            loss_error, slope_error = squared_error_bound(exact, 0.0, T), 0.0
        else:
            p_error, loss_error = sigmoid_bounds(exact, 0.0, T)
            slope_error = p_error / n_outputs

        losses, delta = kernel(instruction_set, outputs, targets, 0.125, False)

        assert (np.abs(losses - expected) <= loss_error).all()
        # Rounded are the difference, the factor over n_outputs, and the product; an eighth is exact.
        bound = slope_error + gamma(3) * (np.abs(slope) + slope_error)
        assert (np.abs(8 * delta.astype(np.float64) - slope) <= bound + 8 * TINY).all()

        rounded = kernel(instruction_set, outputs, targets, 0.125, True)
        np.testing.assert_array_equal(rounded[0], losses)
        np.testing.assert_array_equal(rounded[1], round_to_bfloat16(delta))


@every_instruction_set
@pytest.mark.parametrize("label_smoothing", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "sigmoid_cross_entropy", "squared_error"])
def test_weight_of_a_row_scales_its_delta_and_not_its_loss(kind, label_smoothing, instruction_set):
    if label_smoothing and kind == "squared_error":
        label_smoothing = 0.0  # it has no labels
    rng = np.random.default_rng(16)
    kernel = getattr(kernels, kind if kind in LOSSES else "softmax_cross_entropy")
    for rows, n_outputs in itertools.product(ROWS, CLASSES):
        outputs = rng.normal(size=(rows, n_outputs)).astype(np.float32)
        targets = random_targets(rng, kind, rows, n_outputs)
        weights = 2.0 ** rng.integers(-3, 4, rows).astype(np.float32)  # products with them are exact
        weights[rows // 2 :: 3] = 0.0
        arguments = instruction_set, outputs, targets, 0.125, False
        losses, delta = kernel(*arguments, None, label_smoothing)
        same_losses, weighted = kernel(*arguments, weights, label_smoothing)
        np.testing.assert_array_equal(same_losses, losses)
        np.testing.assert_array_equal(weighted, delta * weights[:, np.newaxis])


@every_instruction_set
@pytest.mark.parametrize("label_smoothing", [0.1, 0.999])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "sigmoid_cross_entropy"])
def test_cross_entropy_of_smoothed_labels_agrees_with_the_oracle(kind, label_smoothing, instruction_set):
    rng = np.random.default_rng(17)
    loss = kind if kind in LOSSES else "softmax_cross_entropy"
    for rows, n_outputs, scale in itertools.product(ROWS, CLASSES, (1.0, 1e4)):
        outputs = (scale * rng.normal(size=(rows, n_outputs))).astype(np.float32)
        targets = random_targets(rng, kind, rows, n_outputs)
        exact = outputs.astype(np.float64)
        rows_of_T = target_rows(targets, n_outputs)
        T = smoothed(rows_of_T, label_smoothing, loss)
        T_error = smoothed_bound(rows_of_T, label_smoothing, loss)
        _, loss_error, slope_error, roundings = output_bounds(loss, exact, np.zeros_like(exact), T, T_error)
        losses, delta = getattr(kernels, loss)(
            instruction_set, outputs, targets, 0.125, False, None, label_smoothing
        )
        assert (np.abs(losses - LOSSES[loss].function(exact, T)) <= loss_error).all()
        slope = LOSSES[loss].gradient(exact, T)
        bound = slope_error + gamma(roundings) * (np.abs(slope) + slope_error)
        assert (np.abs(8 * delta.astype(np.float64) - slope) <= bound + 8 * TINY).all()


@every_instruction_set
def test_sigmoid_cross_entropy_of_a_sure_and_right_output_is_small_but_not_zero(instruction_set):
    # The logarithm of 1 + exp(-|z|) is exact in relative terms: 1 + exp(-|z|) would be 1 above |z| = 17.
    z = np.linspace(0, 80, 161, dtype=np.float32)[:, np.newaxis]
    losses, _ = kernels.sigmoid_cross_entropy(instruction_set, z, np.ones_like(z), 1.0, False)
    expected = sigmoid_cross_entropy(z.astype(np.float64), np.ones(z.shape))
    # The exponential's error, the logarithm's, and z's reduction inside the former.
    assert_relative(losses, expected, relative=6 * EPSILON)


@every_instruction_set
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_spoils_the_loss_of_its_row_alone(bad, loss, instruction_set):
    rng = np.random.default_rng(15)
    for n_outputs in CLASSES:
        outputs = rng.normal(size=(20, n_outputs)).astype(np.float32)
        for target, column in itertools.product((0, 0.5, 1), (0, n_outputs - 1)):
            spoilt = outputs.copy()
            spoilt[17, column] = bad
            targets = np.full(outputs.shape, target, np.float32)
            losses, _ = getattr(kernels, loss)(instruction_set, spoilt, targets, 1.0, False)
            assert not np.isfinite(losses[17])
            assert np.isfinite(losses[np.arange(20) != 17]).all()


# Optimisers. Their counts are multiples of 16, as the arenas'.

COUNTS = (0, 16, 32, 48, 112)


def assert_updated(actual, expected, bound):
    assert actual.shape == expected.shape
    assert (np.abs(actual - expected) <= bound).all()


def assert_operand(operand, value, instruction_set):
    lines = value.reshape(-1, 16)
    expected = paired(lines)[1] if instruction_set in WITH_PAIRS else round_to_bfloat16(lines)
    np.testing.assert_array_equal(operand, expected)


@every_instruction_set
def test_adam_step_worked_by_hand_agrees(instruction_set):
    # The numbers of test_reference.py: alpha 0.1, beta_1 1/2, beta_2 3/4, epsilon 1, gradient 2: m = 1, v =
    # 1, m^ = 2, v^ = 4, theta = 1 - 0.1 * 2 / (2 + 1) = 14/15.
    g, theta, zero = np.full(16, 2, np.float32), np.ones(16, np.float32), np.zeros(16, np.float32)
    theta, m, v, _ = kernels.adam(instruction_set, g, theta, zero, zero, 1, 0.1, 0.5, 0.75, 1.0)
    np.testing.assert_array_equal(m, 1)
    np.testing.assert_array_equal(v, 1)
    np.testing.assert_allclose(theta, 14 / 15, rtol=EPSILON)
    # Second step, gradient 1: m = 1, v = 1, m^ = 4/3, v^ = 16/7; theta = 14/15 - 0.1 * (4/3) / (4 / sqrt(7)
    # + 1).
    theta, m, v, _ = kernels.adam(instruction_set, g / 2, theta, m, v, 2, 0.1, 0.5, 0.75, 1.0)
    np.testing.assert_array_equal(m, 1)
    np.testing.assert_array_equal(v, 1)
    np.testing.assert_allclose(theta, 14 / 15 - 0.4 / 3 / (4 / np.sqrt(7) + 1), rtol=2 * EPSILON)


@every_instruction_set
def test_weight_decay_steps_worked_by_hand_agree(instruction_set):
    # The numbers of test_reference.py. Adam: theta 2, gradient 1 and decay 1/2 of 2 in it, or gradient 2 and
    # 0.1 times 1/2 of 2 beside it.
    ones, zero = np.ones(16, np.float32), np.zeros(16, np.float32)
    settings = (1, 0.1, 0.5, 0.75, 1.0, 0.5)
    theta, m, v, _ = kernels.adam(instruction_set, ones, 2 * ones, zero, zero, *settings, decoupled=False)
    np.testing.assert_array_equal([m, v], 1)
    np.testing.assert_allclose(theta, 29 / 15, rtol=EPSILON)
    theta, m, v, _ = kernels.adam(instruction_set, 2 * ones, 2 * ones, zero, zero, *settings, decoupled=True)
    np.testing.assert_array_equal([m, v], 1)
    np.testing.assert_allclose(theta, 11 / 6, rtol=EPSILON)
    # SGD: momentum 1/2, rate 1/4, decay 1/2, w = 2, velocity 2, gradient 3: g = 4, v = 5, w = 3/4; with
    # nesterov the step is 4 + 5/2: w = 3/8. Nothing is rounded.
    arguments = (instruction_set, 3 * ones, 2 * ones, 2 * ones, 0.25, 0.5)
    np.testing.assert_array_equal(kernels.sgd(*arguments, False, 0.5)[:2], [0.75 * ones, 5 * ones])
    np.testing.assert_array_equal(kernels.sgd(*arguments, True, 0.5)[:2], [0.375 * ones, 5 * ones])


@every_instruction_set
@pytest.mark.parametrize("decay", ["", "in_gradient", "decoupled"])
@pytest.mark.parametrize("step", [1, 2, 10, 1000, 100_000])
def test_adam_agrees_with_the_oracle(step, decay, instruction_set):
    rng = np.random.default_rng(11)
    alpha, beta_1, beta_2, epsilon = 0.01, 0.9, 0.999, 1e-8
    weight_decay, decoupled = (0.1 if decay else 0.0), decay == "decoupled"
    for count in COUNTS:
        theta = rng.normal(size=count).astype(np.float32)
        # Gradients and moments of very different sizes.
        g, m = (rng.normal(size=(2, count)) * 10.0 ** rng.integers(-9, 9, (2, count))).astype(np.float32)
        v = np.abs(m * rng.normal(size=count)).astype(np.float32) ** 2
        oracle = ReferenceAdam(
            beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=weight_decay, decoupled=decoupled
        )
        oracle.t, oracle.m, oracle.v = step - 1, [m.astype(np.float64)], [v.astype(np.float64)]
        expected = theta.astype(np.float64)
        oracle.step([expected], [g.astype(np.float64)], alpha)

        settings = (step, alpha, beta_1, beta_2, epsilon, weight_decay, decoupled)
        new = kernels.adam(instruction_set, g, theta, m, v, *settings)

        # Decay in g: its product with theta and the sum are rounded.
        decayed = np.float64(0.1 if decay == "in_gradient" else 0.0) * theta
        g_error = gamma(3) * np.abs(decayed) + (UNIT_ROUNDOFF * np.abs(g + decayed) if decayed.any() else 0.0)
        # m: a rounded beta_1 times m, a rounded 1 - beta_1 times g, and their sum, which may cancel.
        m_error = gamma(3) * (beta_1 * np.abs(m) + (1 - beta_1) * np.abs(g + decayed))
        m_error += (1 - beta_1) * g_error * (1 + gamma(3))
        # v: one factor more, and nothing cancels.
        v_error = gamma(4) * oracle.v[0] + TINY
        v_error += (1 - beta_2) * g_error * (2 * np.abs(g + decayed) + g_error) * (1 + gamma(4))
        # theta: rate and correction are rounded, then product, root (which halves what came before),
        # epsilon, sum, product with m, division: 9 roundings and half of v's; and the subtraction.
        correction_1, correction_2 = 1 - beta_1**step, 1 - beta_2**step
        denominator = np.sqrt(oracle.v[0] / correction_2) + epsilon
        moved = alpha * (np.abs(oracle.m[0]) + m_error) / correction_1 / denominator
        error = moved * gamma(9 + 2) + alpha * m_error / correction_1 / denominator
        if (
            decay == "in_gradient"
        ):  # v's error is no longer a few roundings of itself where g + decayed cancels
            error += moved * v_error / np.maximum(oracle.v[0] - v_error, TINY)
        if decoupled:  # alpha times decay, its product with theta and the sum with what moved are rounded
            error += gamma(2) * alpha * 0.1 * np.abs(theta)
            error += UNIT_ROUNDOFF * (moved + alpha * 0.1 * np.abs(theta))
        assert_updated(new[0], expected, error + UNIT_ROUNDOFF * (np.abs(expected) + error))
        assert_updated(new[1], oracle.m[0], m_error)
        assert_updated(new[2], oracle.v[0], v_error)
        assert_operand(new[3], new[0], instruction_set)


@every_instruction_set
def test_adam_with_zero_gradient_and_moments_leaves_parameters(instruction_set):
    theta, zero = np.linspace(-2, 2, 32, dtype=np.float32), np.zeros(32, np.float32)
    new = kernels.adam(instruction_set, zero, theta, zero, zero, 1, 0.1, 0.9, 0.999, 1e-8)
    for actual, expected in zip(new[:3], (theta, zero, zero), strict=True):
        np.testing.assert_array_equal(actual, expected)


@every_instruction_set
def test_sgd_step_worked_by_hand_agrees(instruction_set):
    # Momentum 1/2, rate 1/4, w = 1, velocity 2, gradient 3: v = 4, w = 0, and nothing is rounded.
    ones = np.ones(16, np.float32)
    w, v, _ = kernels.sgd(instruction_set, 3 * ones, ones, 2 * ones, 0.25, 0.5)
    np.testing.assert_array_equal(v, 4)
    np.testing.assert_array_equal(w, 0)


@every_instruction_set
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_agrees_with_the_oracle(momentum, nesterov, weight_decay, instruction_set):
    rng = np.random.default_rng(12)
    rate = 0.01
    for count in COUNTS:
        w, g, v = (rng.normal(size=(3, count)) * 10.0 ** rng.integers(-6, 6, (3, count))).astype(np.float32)
        oracle = ReferenceSGD(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
        oracle.v = [v.astype(np.float64)]
        w_before = w.astype(np.float64)
        expected = w_before.copy()
        oracle.step([expected], [g.astype(np.float64)], rate)

        new_w, new_v, operand = kernels.sgd(instruction_set, g, w, v, rate, momentum, nesterov, weight_decay)

        # Rounded are the decay, its product with w and the sum: 3 roundings of g. Then momentum, its product
        # with v and the sum; for nesterov, once more. Last the rate, its product and the difference.
        g_size = np.abs(g.astype(np.float64)) + weight_decay * np.abs(w_before)
        g_error = gamma(3) * g_size if weight_decay else 0.0 * g_size
        v_error = gamma(3) * (momentum * np.abs(v) + g_size + g_error) + g_error
        step_size, step_error = np.abs(oracle.v[0]), v_error
        if nesterov:
            step_size = momentum * step_size + g_size
            step_error = momentum * v_error + g_error + gamma(3) * (step_size + momentum * v_error + g_error)
        error = rate * (step_error + gamma(2) * (step_size + step_error))
        assert_updated(new_v, oracle.v[0], v_error)
        assert_operand(operand, new_w, instruction_set)
        assert_updated(new_w, expected, error + UNIT_ROUNDOFF * (np.abs(expected) + error))


def test_kernel_of_an_instruction_set_that_is_not_there_raises():
    missing = set(_core.compiled_instruction_sets()) - set(INSTRUCTION_SETS)
    for name in (*missing, "mmx"):
        with pytest.raises(RuntimeError, match=name):
            kernels.sum_rows(name, np.ones((1, 1), np.float32))


@every_instruction_set
def test_squares_of_columns_are_those_of_double_precision(instruction_set):
    rng = np.random.default_rng(21)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        a = (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-30, 30, columns)).astype(np.float32)
        expected = np.zeros(columns)
        for row in a.astype(np.float64):
            expected += row * row  # the product is exact, and sums are made in this order
        np.testing.assert_array_equal(kernels.add_squares(instruction_set, a), expected)


@every_instruction_set
def test_scale_columns_rounds_every_product_once(instruction_set):
    rng = np.random.default_rng(22)
    for rows, columns in itertools.product(ROWS, COLUMNS[1:]):
        a, factors = (rng.normal(size=(n, columns)).astype(np.float32) for n in (rows, 1))
        np.testing.assert_array_equal(kernels.scale_columns(instruction_set, a, factors), a * factors)


@every_instruction_set
def test_average_agrees_with_the_oracle_and_is_the_value_itself_if_all_of_it_counts(instruction_set):
    rng = np.random.default_rng(23)
    for rows, columns in itertools.product(ROWS, COLUMNS):
        average, value = rng.normal(size=(2, rows, columns)).astype(np.float32)
        actual, finite = kernels.average(instruction_set, average, value, 0.125)
        assert finite
        # Rounded are the difference, its product with a power of two (not at all) and the sum.
        difference = value.astype(np.float64) - average
        expected = average + 0.125 * difference
        error = UNIT_ROUNDOFF * (0.125 * np.abs(difference) + np.abs(expected)) * (1 + EPSILON)
        assert np.all(np.abs(actual - expected) <= error)
        whole, _ = kernels.average(instruction_set, average, value, 1.0)
        np.testing.assert_array_equal(whole, value)
        same, _ = kernels.average(instruction_set, value, value, 0.3)
        np.testing.assert_array_equal(same, value)


@every_instruction_set
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_average_finds_what_is_not_finite_wherever_it_is(bad, instruction_set):
    for at in np.ndindex(3, 17):
        value = np.ones((3, 17), np.float32)
        value[at] = bad
        for part in (0.5, 1.0):
            assert not kernels.average(instruction_set, np.ones((3, 17), np.float32), value, part)[1]
