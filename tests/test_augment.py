"""Distorted images: the kernels, their parts put together, and training on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment_reference import (
    TAP_SUM,
    coefficients,
    displacement,
    gaussian,
    integer_fields,
    noise,
    resampled,
)
from core_networks import INSTRUCTION_SETS, every_instruction_set
from fastmlp import SGD, Augmentation, Callback, Elastic, Net, NonFiniteLossError, _core

kernels = _core.kernels

# One line has 16 pixels; filters reach beyond small images, and not across large ones.
SIZES = ((1, 1), (1, 2), (2, 1), (1, 17), (17, 1), (5, 7), (15, 16), (16, 15), (28, 28), (33, 31), (40, 70))
IDENTITY = (1, 0, 0, 0, 1, 0)
ALL = Augmentation(shift=2, rotation=10, scale=0.15, shear=10, elastic=Elastic(alpha=34, sigma=4))
SETTINGS = {
    "shift": Augmentation(shift=3),
    "rotation": Augmentation(rotation=180),
    "scale": Augmentation(scale=0.5),
    "shear": Augmentation(shear=45),
    "elastic": Augmentation(elastic=Elastic(alpha=10, sigma=2)),
    "all": ALL,
}
every_setting = pytest.mark.parametrize("augmentation", SETTINGS.values(), ids=SETTINGS)


def random_images(n, height=28, width=28, *, seed=0):
    """Draw pixels, and set whole patches to the extremes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, height, width), dtype=np.uint8)
    images[rng.random(images.shape) < 0.3] = 0
    images[rng.random(images.shape) < 0.3] = 255
    return images


def resample(instruction_set, image, numbers, fields=None):
    planes = None if fields is None else tuple(np.asarray(field, np.float32) for field in fields)
    return kernels.resample(instruction_set, image, np.array(numbers, np.float32), planes)


# The kernels.


@every_instruction_set
@pytest.mark.parametrize("radius", [0, 1, 2, 7, 12, 15, 16, 17, 40])
def test_random_fields_at_all_sizes_are_the_references(radius, instruction_set):
    rng = np.random.default_rng(radius)
    side = rng.integers(0, 300, radius)
    taps = np.concatenate([side, [TAP_SUM - 2 * side.sum()], side[::-1]]).astype(np.int16)
    seed, first_counter = 2**63 + 12345, 2**32 - 20  # a carry into the second word of counters
    for height, width in SIZES:
        actual = kernels.random_fields(instruction_set, seed, 6, 3, first_counter, 0.1, taps, height, width)
        expected = integer_fields(noise(seed, 6, 3, first_counter, height, width), taps, 0.1)
        np.testing.assert_array_equal(actual, expected)


@every_instruction_set
def test_resampling_at_all_sizes_agrees_with_the_reference(instruction_set):
    rng = np.random.default_rng(1)
    for height, width in SIZES:
        image = random_images(1, height, width)[0]
        for spread in (0.0, 0.3, 5.0):
            matrix = np.array([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, spread, (2, 3))
            numbers = matrix.astype(np.float32).ravel()
            fields = rng.normal(0, spread, (2, height, width)).astype(np.float32)
            expected = resampled(image, numbers.reshape(2, 3).astype(np.float64), fields.astype(np.float64))
            actual = resample(instruction_set, image, numbers, fields)
            # Each of the five sums of a coordinate is rounded, relative to at most the sum of magnitudes; a
            # pixel changes by at most 255 per pixel of distance, in either direction. Then it is rounded.
            size = np.abs(matrix).sum() * max(height, width) + np.abs(fields).max() + 2
            error = 2 * 255 * 5 * 2.0**-24 * size + 255 * 8 * 2.0**-24
            assert (np.abs(actual - expected) <= 0.5 + error).all()


@every_instruction_set
def test_resampling_at_the_pixels_themselves_changes_nothing(instruction_set):
    for height, width in SIZES:
        image = random_images(1, height, width)[0]
        np.testing.assert_array_equal(resample(instruction_set, image, IDENTITY), image)
        fields = np.zeros((2, height, width), np.float32)
        np.testing.assert_array_equal(resample(instruction_set, image, IDENTITY, fields), image)


@every_instruction_set
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (-3, 2), (27, 27), (28, 0), (-1000, 1000), (10**30, 0)])
def test_shift_by_whole_pixels_is_a_roll_with_background(shift, instruction_set):
    image = random_images(1, 28, 20)[0]
    down, right = shift
    moved = resample(instruction_set, image, (1, 0, -right, 0, 1, -down))
    padded = np.zeros((28 + 2 * 28, 20 + 2 * 20), np.uint8)
    padded[28:56, 20:40] = image
    down, right = np.clip(down, -28, 28), np.clip(right, -20, 20)
    expected = np.roll(padded, (down, right), (0, 1))[28:56, 20:40]
    np.testing.assert_array_equal(moved, expected)


@every_instruction_set
def test_half_a_pixel_is_the_mean_of_neighbours(instruction_set):
    image = np.array([[0, 10, 30, 255]], np.uint8)
    np.testing.assert_array_equal(resample(instruction_set, image, (1, 0, 0.5, 0, 1, 0)), [[5, 20, 142, 128]])


@every_instruction_set
def test_quarter_turn_is_rot90(instruction_set):
    image = random_images(1, 19, 19)[0]
    # rot90 turns counter-clockwise: the pixel (row, column) comes from row `column` and column 18 - row.
    turned = resample(instruction_set, image, (0, -1, 18, 1, 0, 0))
    np.testing.assert_array_equal(turned, np.rot90(image))


@every_instruction_set
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, -1e38])
def test_resampling_with_numbers_out_of_all_bounds_reads_no_other_memory(bad, instruction_set):
    for height, width in SIZES:
        image = random_images(1, height, width)[0]
        for at in range(6):
            numbers = list(IDENTITY)
            numbers[at] = bad
            resample(instruction_set, image, numbers)
        result = resample(instruction_set, image, IDENTITY, np.full((2, height, width), bad))
        np.testing.assert_array_equal(result, 0)


# All of it.


@every_setting
def test_distortion_agrees_with_the_reference(augmentation):
    for height, width in ((28, 28), (13, 37)):
        # A smooth image: a displacement that is a little off must not matter much.
        row, column = np.mgrid[:height, :width]
        image = np.uint8(127 + 60 * np.sin(row / 3) + 60 * np.cos(column / 4))
        actual = augmentation(np.stack([image] * 20), seed=99, epoch=7)
        elastic = augmentation.elastic
        for index in range(20):
            matrix = coefficients(augmentation, 99, 7, index, height, width)
            fields = (
                displacement(elastic.alpha, elastic.sigma, 99, 7, index, height, width) if elastic else None
            )
            expected = resampled(image, matrix, fields)
            # The class promises that elastic displacements are off by less than alpha / 500. Between pixels
            # inside, the image changes by at most 20 + 15 per pixel; at the edge, to the background, by 255.
            off = (elastic.alpha / 500 if elastic else 0) + 1e-5
            inside = resampled(np.full_like(image, 255), matrix, fields) > 254.99
            bound = np.where(inside, 2 * 20 * off, 2 * 255 * off)
            assert (np.abs(actual[index] - expected) <= 0.5 + bound + 1e-3).all()


def test_displacements_before_and_after_rounding_to_integers_are_close():
    # The Gaussian's taps are rounded to 1/32767, the sums along rows to 2^-15.
    for sigma in (0.3, 1.0, 4.0, 10.0):
        taps = gaussian(sigma)
        rounded = np.round(taps * TAP_SUM).astype(np.int64)
        rounded[len(taps) // 2] += TAP_SUM - rounded.sum()
        numbers = noise(1, 6, 0, 0, 28, 28)
        scale = 2.0**-15 * (2**15 / TAP_SUM) / TAP_SUM
        for actual, expected in zip(
            integer_fields(numbers, rounded, scale), displacement(1.0, sigma, 1, 0, 0, 28, 28), strict=True
        ):
            assert np.abs(actual - expected).max() < 1 / 500


def test_elastic_displacements_have_the_promised_size():
    fields = [displacement(34, 4, seed, 0, 0, 60, 60) for seed in range(20)]
    inner = np.array(fields)[:, :, 15:-15, 15:-15]
    # Independent patches have about (2 sigma)^2 pixels each: some 20 * 2 * 14 of them.
    assert np.std(inner) == pytest.approx(0.16 * 34 / 4, rel=0.1)
    assert abs(np.mean(inner)) < 4 * np.std(inner) / np.sqrt(500)


def test_no_distortion_changes_nothing():
    for height, width in SIZES:
        images = random_images(3, height, width)
        for augmentation in (Augmentation(), Augmentation(elastic=Elastic(alpha=0))):
            np.testing.assert_array_equal(augmentation(images, seed=1), images)


@every_setting
def test_distortion_depends_on_seed_epoch_and_index_alone(augmentation):
    images = np.stack([random_images(1)[0]] * 300)
    at_once = augmentation(images, seed=5, epoch=2, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(augmentation(images, seed=5, epoch=2, threads=threads), at_once)
    np.testing.assert_array_equal(augmentation(images[:1], seed=5, epoch=2), at_once[:1])
    # Two of them may be alike by chance, if they are drawn from few numbers.
    assert len({image.tobytes() for image in at_once}) > 250
    for seed, epoch in ((6, 2), (5, 3), (5 + 2**32, 2)):
        others = augmentation(images, seed=seed, epoch=epoch)
        assert (others != at_once).any(axis=(1, 2)).sum() > 250


@every_setting
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_distortion_is_the_same_on_every_set_with_fused_multiply_add(size, augmentation):
    sets = [name for name in INSTRUCTION_SETS if name != "baseline"]
    images = random_images(50, *size)
    core = augmentation._of_size(*size, 3)
    results = [core.apply(images, 1, 0, name) for name in sets]
    assert all(np.array_equal(result, results[0]) for result in results)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    shift=st.sampled_from([0, 0.5, 100, 10_000]),
    rotation=st.floats(0, 180),
    scale=st.sampled_from([0, 0.5, 0.999999]),
    shear=st.floats(0, 80),
    alpha=st.sampled_from([0, 1e-30, 5, 10_000]),
    sigma=st.sampled_from([1e-30, 0.01, 1, 8.3, 100]),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
def test_any_settings_make_images_of_no_more_than_there_was(
    size, shift, rotation, scale, shear, alpha, sigma, seed, epoch
):
    augmentation = Augmentation(shift, rotation, scale, shear, Elastic(alpha, sigma))
    images = np.full((3, *size), 200, np.uint8)
    distorted = augmentation(images, seed=seed, epoch=epoch)
    assert distorted.shape == images.shape
    assert distorted.max() <= 200


def test_images_of_any_memory_layout_are_distorted_alike():
    images = random_images(6, 12, 12)
    expected = ALL(images, seed=0)
    for same in (np.asfortranarray(images), np.repeat(images, 2, axis=0)[::2]):
        np.testing.assert_array_equal(ALL(same, seed=0), expected)
    flat = ALL(images.reshape(6, 144), seed=0)
    np.testing.assert_array_equal(flat, expected.reshape(6, 144))
    np.testing.assert_array_equal(ALL(images[..., np.newaxis], seed=0)[..., 0], expected)
    assert ALL(images[:0], seed=0).shape == (0, 12, 12)


# Training.


def fitted(images, labels, *, augment=ALL, **options):
    net = Net([images[0].size, 30, 5], seed=8)
    net.fit(images, labels, epochs=2, batch_size=16, augment=augment, **options)
    return net


def bits_of(net):
    return [array.tobytes() for array in [*net.weights, *net.biases]]


IMAGES, LABELS = random_images(100, 10, 14), np.arange(100) % 5


@every_setting
def test_fit_trains_on_the_images_that_the_augmentation_returns(augmentation):
    expected = Net([140, 30, 5], seed=8)
    for epoch in range(3):
        expected.fit(augmentation(IMAGES, seed=8, epoch=epoch), LABELS, epochs=1, batch_size=16)
    actual = Net([140, 30, 5], seed=8)
    actual.fit(IMAGES, LABELS, epochs=2, batch_size=16, augment=augmentation)
    actual.fit(IMAGES, LABELS, epochs=1, batch_size=16, augment=augmentation)
    assert bits_of(actual) == bits_of(expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_fit_with_any_number_of_threads_gives_the_same_bits(threads):
    assert bits_of(fitted(IMAGES, LABELS, threads=threads)) == bits_of(fitted(IMAGES, LABELS))


def test_fit_on_converted_images_gives_the_same_bits():
    # These cannot be used in place: the core gets them some rows at a time, and must be told their numbers.
    strided = np.repeat(IMAGES, 2, axis=2)[:, :, ::2]
    assert bits_of(fitted(strided, LABELS)) == bits_of(fitted(IMAGES, LABELS))


def test_fit_without_distortion_gives_the_same_bits_as_no_augmentation():
    expected = bits_of(fitted(IMAGES, LABELS, augment=None))
    assert bits_of(fitted(IMAGES, LABELS, augment=Augmentation())) == expected


@pytest.mark.parametrize("step", [3, 7, 10])
def test_fit_on_distorted_images_that_was_interrupted_ends_with_the_same_bits(step, tmp_path):
    # 100 images are 7 batches of an epoch; the file says how they are distorted.
    class Interrupt(Callback):
        every = 1

        def on_step(self, net, fit):
            if fit.step == step:
                raise KeyboardInterrupt

    net = Net([140, 30, 5], seed=8)
    with pytest.raises(KeyboardInterrupt):
        net.fit(IMAGES, LABELS, epochs=2, batch_size=16, augment=ALL, callbacks=[Interrupt()])
    net.save(tmp_path / "checkpoint", training_state=True)
    resumed = Net.load(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="augment"):
        resumed.fit(IMAGES, LABELS, augment=SETTINGS["shift"], resume=True)
    resumed.fit(IMAGES, LABELS, resume=True)
    assert bits_of(resumed) == bits_of(fitted(IMAGES, LABELS))


def test_fit_leaves_validation_images_alone():
    images = random_images(100, 10, 14, seed=4)
    net = fitted(IMAGES, LABELS, validation_data=(images, LABELS))
    assert net.history.validation_loss[-1] == net.evaluate(images, LABELS).loss


def test_fit_that_leaves_the_numbers_goes_back_to_augmented_steps():
    # Without relu, no unit can die instead.
    net, expected = (Net([140, 30, 5], activation="identity", seed=8) for _ in range(2))
    job = {"batch_size": 16, "augment": ALL, "optimizer": SGD(learning_rate=1.0)}
    with pytest.raises(NonFiniteLossError):
        net.fit(IMAGES, LABELS, epochs=50, **job)
    assert len(net.history.step_loss) > 7  # beyond the first epoch
    expected.fit(IMAGES, LABELS, steps=len(net.history.step_loss), **job)
    assert bits_of(net) == bits_of(expected)


def test_net_remembers_the_shape_of_flat_images():
    net = Net([140, 5], seed=8)
    flat = IMAGES.reshape(100, 140)
    with pytest.raises(ValueError, match=r"\(n_images, height, width\)"):
        net.fit(flat, LABELS, epochs=1, augment=ALL)
    net.fit(IMAGES, LABELS, epochs=1, augment=ALL)
    net.fit(flat, LABELS, epochs=1, augment=ALL)
    other = Net([140, 5], seed=8)
    other.fit(IMAGES, LABELS, epochs=2, augment=ALL)
    assert bits_of(net) == bits_of(other)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": -1}, "shift must be at least 0 and at most 10,000, not -1"),
        ({"rotation": 181}, "rotation"),
        ({"scale": 1}, "scale"),
        ({"shear": 81}, "shear"),
        ({"shift": np.nan}, "shift must be finite"),
    ],
)
def test_setting_out_of_range_is_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)


def test_elastic_setting_out_of_range_is_a_value_error():
    with pytest.raises(ValueError, match="sigma must be greater than 0 and at most 100, not 0"):
        Elastic(sigma=0)
    with pytest.raises(ValueError, match="alpha"):
        Elastic(alpha=-1)


def test_setting_of_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match="rotation must be a real number"):
        Augmentation(rotation="10")
    with pytest.raises(TypeError, match=r"Elastic\(alpha=34, sigma=4\)"):
        Augmentation(elastic=34)


def test_images_that_are_not_pixels_are_refused_before_any_work():
    net = Net([140, 5], seed=0)
    before = bits_of(net)
    for images in (IMAGES / 255, IMAGES.astype(np.int64)):
        with pytest.raises(TypeError, match="uint8"):
            net.fit(images, LABELS, augment=ALL)
        with pytest.raises(TypeError, match="uint8"):
            ALL(images, seed=0)
    with pytest.raises(TypeError, match="augment"):
        net.fit(IMAGES, LABELS, augment=True)
    assert bits_of(net) == before
    assert net.n_epochs == 0


def test_images_too_large_or_of_no_size_are_refused():
    with pytest.raises(ValueError, match="2,048"):
        ALL(np.zeros((1, 2049, 3), np.uint8), seed=0)
    with pytest.raises(ValueError, match="pixels a side"):
        ALL(np.zeros((1, 0, 3), np.uint8), seed=0)
    with pytest.raises(ValueError, match="square"):
        ALL(np.zeros((2, 3, 4, 4), np.uint8), seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shift", -1.0),
        ("shift", np.inf),
        ("alpha", np.nan),
        ("sigma", 0.0),
        ("sigma", 1e9),
        ("scale", 1.0),
        ("shear", 90.0),
        ("rotation", 1e9),
        ("height", 0),
        ("width", 4096),
    ],
)
def test_core_checks_settings_itself(name, value):
    arguments = {
        "height": 4,
        "width": 4,
        "seed": 0,
        "shift": 0.0,
        "rotation": 0.0,
        "scale": 0.0,
        "shear": 0.0,
    }
    arguments |= {"alpha": 0.0, "sigma": 1.0}
    _core.Augmentation(**arguments)
    with pytest.raises(ValueError):
        _core.Augmentation(**arguments | {name: value})


def test_core_checks_what_it_distorts_itself():
    core = ALL._of_size(10, 14, 0)
    for images in (IMAGES[:, :5], IMAGES.reshape(100, 140), IMAGES / 255, IMAGES[:, ::2]):
        with pytest.raises(ValueError):
            core.apply(images, 0, 1)
    trainer = _core.Trainer(_core.Network([140, 5], []))
    order, offsets, rates = np.arange(100), np.array([0, 100]), np.array([0.1])
    flat = IMAGES.reshape(100, 140)

    def run(X, augmentation, ids=None):
        trainer.run(
            X, np.zeros(100, np.int64), order, offsets, rates, 1, False, None, 0.0, augmentation, 0, ids
        )

    run(flat, core)
    run(flat, core, np.arange(100) - 2**62)
    for bad in (np.arange(99), np.arange(100.0)):
        with pytest.raises(ValueError, match="ids"):
            run(flat, core, bad)
    with pytest.raises(ValueError, match="size"):
        run(flat, ALL._of_size(10, 15, 0))
    with pytest.raises(ValueError, match="pixels"):
        run(np.zeros((100, 140), np.float32), core)
