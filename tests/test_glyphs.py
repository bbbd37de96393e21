"""The digits drawn from fonts: that they are what the documentation says they are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets, glyphs, idx

ALL_FACES = glyphs.TRAINING_FACES + glyphs.TEST_FACES
DIGITS = range(10)
REAL = os.environ.get("FASTMLP_DATA")

# Of the outlines in the fonts that matplotlib 3.8 to 3.11 ships, and of the images drawn from them.
OUTLINES_SHA256 = "38f7effee4dd97c174d7f3c43b33a3d9429adab6681add8e3a453fef6c704cc8"
IMAGES_SHA256 = "22cf92fc33b6b9b1e0c31d53f0b30a7dbe6a0f2e782e914d55ebd73931f166ea"


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        "training": glyphs.draw(glyphs.TRAINING_FACES, 1000, seed=1),
        "test": glyphs.draw(glyphs.TEST_FACES, 1000, seed=2),
    }


def digest(arrays: list[np.ndarray]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
    return total.hexdigest()


def filled(face: glyphs.Face, digit: int) -> np.ndarray:
    """Return the digit's shape as 64 x 64 points."""
    return glyphs._is_inside(glyphs.outline(face, digit), glyphs._lattice(64, 1.0))


# Fonts


def test_faces_of_test_share_no_family_and_no_file_with_training() -> None:
    for attribute in ("family", "file"):
        training = {getattr(face, attribute) for face in glyphs.TRAINING_FACES}
        test = {getattr(face, attribute) for face in glyphs.TEST_FACES}
        assert training and test and not training & test


def test_faces_of_test_look_different_from_those_of_training() -> None:
    # Two drawings of one design, bold and regular apart, cover each other far better than this.
    shapes = {face: np.stack([filled(face, digit) for digit in DIGITS]) for face in ALL_FACES}
    for test in glyphs.TEST_FACES:
        for training in glyphs.TRAINING_FACES:
            a, b = shapes[test], shapes[training]
            overlap = (a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))
            assert overlap.mean() < 0.8, (test, training)
            assert overlap.max() < 0.95, (test, training)


def test_faces_are_all_different_and_of_the_family_they_say() -> None:
    from matplotlib import ft2font, get_data_path

    assert len(set(ALL_FACES)) == len(ALL_FACES)
    for face in ALL_FACES:
        name = ft2font.FT2Font(str(Path(get_data_path()) / "fonts" / "ttf" / face.file)).family_name
        assert name.startswith("cm" if face.family == "Computer Modern" else face.family)


@pytest.mark.parametrize("face", ALL_FACES, ids=lambda face: f"{face.file}-{face.zero:x}")
def test_face_has_ten_different_digits(face: glyphs.Face) -> None:
    outlines = [glyphs.outline(face, digit) for digit in DIGITS]
    for pieces in outlines:
        assert len(pieces) > 4 and pieces.dtype == np.float32
        low, high = pieces[:, :2].min(axis=0), pieces[:, :2].max(axis=0)
        np.testing.assert_allclose((high - low).max(), 1, atol=1e-6)
        np.testing.assert_allclose(low + high, 0, atol=1e-6)
    assert len({pieces.tobytes() for pieces in outlines}) == 10
    # As many closed curves as the shape has holes, and one more. A 4 may be open.
    curves = [1 + (pieces[:-1, 2:] != pieces[1:, :2]).any(axis=1).sum() for pieces in outlines]
    assert [curves[digit] for digit in (0, 1, 2, 3, 5, 6, 7, 8, 9)] == [2, 1, 1, 1, 1, 2, 1, 3, 2]


def test_outline_of_missing_font_or_character_raises() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.ttf is missing"):
        glyphs.outline(glyphs.Face("none", "nothing.ttf"), 0)
    with pytest.raises(ValueError, match=r"cmr10\.ttf has no character U\+1F600"):
        glyphs.outline(glyphs.Face("Computer Modern", "cmr10.ttf", 0x1F600), 0)


# The same images everywhere


def test_draw_gives_the_known_images(drawn) -> None:
    outlines = [glyphs.outline(face, digit) for face in ALL_FACES for digit in DIGITS]
    if digest(outlines) != OUTLINES_SHA256:
        pytest.skip("this matplotlib's fonts are other ones than those the images are known for")
    assert digest([*drawn["training"], *drawn["test"]]) == IMAGES_SHA256


def test_draw_image_depends_on_seed_and_its_number_alone(drawn) -> None:
    faces = glyphs.TEST_FACES[:1]
    images, labels = glyphs.draw(faces, 201, seed=2)
    for n in (0, 1, 99, 100, 101):
        fewer_images, fewer_labels = glyphs.draw(faces, n, seed=2)
        np.testing.assert_array_equal(fewer_images, images[:n])
        np.testing.assert_array_equal(fewer_labels, labels[:n])
    other_images, other_labels = glyphs.draw(faces, 100, seed=2**64 - 1)
    assert (other_images != images[:100]).any() and (other_labels != labels[:100]).any()
    for images, _ in drawn.values():
        assert len(np.unique(images, axis=0)) == len(images)


def test_draw_does_not_depend_on_instruction_set_or_global_state() -> None:
    np.random.seed(3)  # noqa: NPY002
    code = (
        "import hashlib; from fastmlp import glyphs;"
        "images, labels = glyphs.draw(glyphs.TEST_FACES[:2], 200, seed=5);"
        "print(hashlib.sha256(images).hexdigest(), hashlib.sha256(labels).hexdigest())"
    )
    # NumPy complains of names that it does not know, which differ between its versions.
    answers = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for more in (
            {},
            {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F"},
            {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
        )
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("n", "seed", "error"),
    [
        (-1, 0, ValueError),
        (1.5, 0, TypeError),
        (1, -1, ValueError),
        (1, 2**64, ValueError),
        (1, None, TypeError),
    ],
)
def test_draw_bad_argument_raises(n, seed, error: type[Exception]) -> None:
    with pytest.raises(error):
        glyphs.draw(glyphs.TEST_FACES, n, seed=seed)


# Like MNIST


def test_images_are_boxed_and_centred_like_mnist(drawn) -> None:
    for images, labels in drawn.values():
        assert images.shape == (1000, 28, 28) and images.dtype == labels.dtype == np.uint8
        rows, columns = images.any(axis=2), images.any(axis=1)
        for inked in (rows, columns):
            extent = 28 - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)
            assert extent.max() == 20 and extent.min() >= 4
        assert (np.maximum(rows.sum(axis=1), columns.sum(axis=1)) >= 18).mean() > 0.99

        mass = images.sum(axis=(1, 2), dtype=float)
        for axis in (1, 2):
            centre = (images.sum(axis=axis, dtype=float) * np.arange(28)).sum(axis=1) / mass
            assert (np.abs(centre - 13.5) <= 0.5 + 1e-9).mean() > 0.999  # else the box would leave the image


def test_images_have_every_digit_from_every_face_equally(drawn) -> None:
    for _, labels in drawn.values():
        counts = np.bincount(labels, minlength=10)
        # 1,000 draws of probability 1/10: mean 100, standard deviation 9.5; five of these either way.
        assert len(counts) == 10 and counts.min() > 52 and counts.max() < 148


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist").is_dir(),
    reason="FASTMLP_DATA does not name a folder with the real MNIST in mnist/",
)
def test_images_have_the_greys_of_mnist(drawn) -> None:
    real = datasets.mnist().train.images
    for images, _ in drawn.values():
        for share in (
            lambda a: (a > 0).mean(),
            lambda a: (a >= 128).mean(),
            lambda a: (a > 250).mean(),
            np.mean,
        ):
            assert share(images) == pytest.approx(share(real), rel=0.15)


def test_images_of_different_digits_can_be_told_apart(drawn) -> None:
    # The nearest of 1,000 training images gets most test images right: the task is neither hopeless nor
    # trivial.
    (train, train_labels), (test, test_labels) = drawn["training"], drawn["test"]
    train, test = (images.reshape(len(images), -1).astype(np.float32) / 255 for images in (train, test))
    distance = (train**2).sum(axis=1) - 2 * test @ train.T
    accuracy = (train_labels[distance.argmin(axis=1)] == test_labels).mean()
    assert 0.8 < accuracy < 0.97


def test_glyphs_data_set_is_written_and_read_unchanged(drawn, tmp_path: Path) -> None:
    images, _ = drawn["test"]
    idx.write(tmp_path / "a.gz", images)
    np.testing.assert_array_equal(idx.read(tmp_path / "a.gz"), images)
