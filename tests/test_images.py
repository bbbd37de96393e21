"""Images of digits from files and from memory, made like MNIST's."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from drawn_digits import drawn, like_mnist
from fastmlp import Adam, Net, datasets, images


def white_on_black(image: Image.Image) -> Image.Image:
    return image


def inverted(image: Image.Image) -> Image.Image:
    return ImageOps.invert(image)


def enlarged(image: Image.Image) -> Image.Image:
    return image.resize((400, 400), Image.Resampling.BICUBIC)


def coloured(image: Image.Image) -> Image.Image:
    return ImageOps.colorize(image, black="ivory", white="navy")


def transparent(image: Image.Image) -> Image.Image:
    ink = Image.new("RGBA", image.size, "black")
    ink.putalpha(image)
    return ink


def with_palette(image: Image.Image) -> Image.Image:
    return coloured(image).convert("P", palette=Image.Palette.ADAPTIVE)


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def read_back(image: Image.Image, file_format: str = "PNG", **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    file.seek(0)
    return images.read(file)


@pytest.mark.parametrize(
    "variant", [white_on_black, inverted, enlarged, coloured, transparent, with_palette, deep]
)
def test_read_of_one_digit_in_any_guise_gives_nearly_the_same_pixels(
    variant: Callable[[Image.Image], Image.Image],
) -> None:
    expected = like_mnist(5).astype(float)
    found = read_back(variant(drawn(5)))
    assert found.shape == (28, 28)
    assert found.dtype == np.uint8
    # Another scale moves edges by less than half a pixel: far from another digit, which differs by over 40.
    assert np.abs(found - expected).mean() < 15


@pytest.mark.parametrize("variant", [transparent, with_palette, deep])
def test_read_of_an_image_of_several_tiles_gives_nearly_the_same_pixels(
    variant: Callable[[Image.Image], Image.Image],
) -> None:
    large = drawn(5).resize((2300, 1500), Image.Resampling.BICUBIC)
    found = read_back(variant(large)).astype(float)
    assert np.abs(found - read_back(large)).mean() < 2  # but for the rounding to bytes, and to a palette


def test_read_of_a_jpeg_gives_nearly_the_same_pixels() -> None:
    found = read_back(coloured(drawn(5)), "JPEG", quality=80)
    assert np.abs(found - like_mnist(5).astype(float)).mean() < 15


def test_read_of_a_turned_photo_follows_its_exif_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    found = read_back(drawn(5).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    assert np.abs(found - like_mnist(5).astype(float)).mean() < 15


def photographed(image: Image.Image) -> Image.Image:
    """Put a digit off the middle of a larger sheet, blue on cream, with light from one side and noise."""
    side, rng = 280, np.random.default_rng(0)
    sheet = Image.new("L", (side, side))
    sheet.paste(image.resize((168, 168), Image.Resampling.BICUBIC), (77, 42))
    ink = np.asarray(sheet)[:, :, np.newaxis] / 255
    colours = ink * (40, 45, 80) + (1 - ink) * (225, 215, 200)
    light = 1 - 0.5 * np.linspace(0, 1, side)[:, np.newaxis, np.newaxis]
    noisy = colours * light + rng.normal(0, 6, (side, side, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


MNIST_DIGITS = 100


@pytest.fixture(scope="module")
def mnist_and_net() -> tuple[datasets.Split, Net]:
    if not os.environ.get("FASTMLP_DATA"):
        pytest.skip("FASTMLP_DATA names no folder with MNIST: its digits were not read from images")
    mnist = datasets.mnist()
    net = Net([784, 100, 10], seed=0)
    for rate in (4e-3, 4e-4):
        net.fit(mnist.train.images, mnist.train.labels, epochs=2, optimizer=Adam(rate), threads=1)
    return datasets.Split(mnist.test.images[:MNIST_DIGITS], mnist.test.labels[:MNIST_DIGITS]), net


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("variant", [inverted, enlarged, coloured, photographed])
def test_read_of_mnist_digits_in_any_guise_leaves_the_predictions(
    mnist_and_net: tuple[datasets.Split, Net],
    variant: Callable[[Image.Image], Image.Image],
    file_format: str,
) -> None:
    split, net = mnist_and_net
    sheets = [read_back(variant(Image.fromarray(pixels)), file_format) for pixels in split.images]
    agreement = (net.predict(np.stack(sheets)) == net.predict(split.images)).mean()
    # Most change none at all. Digits that a person doubts, too, may fall on the other side.
    assert agreement >= (1 if (variant, file_format) == (inverted, "PNG") else 0.95)


@pytest.mark.parametrize("variant", [white_on_black, inverted])
def test_read_of_an_image_like_mnist_keeps_its_pixels(variant: Callable[[Image.Image], Image.Image]) -> None:
    pixels = like_mnist(3)
    np.testing.assert_array_equal(read_back(variant(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("digit", range(10))
def test_mnist_like_of_a_digit_is_20_long_and_centred_by_mass(digit: int) -> None:
    pixels = like_mnist(digit).astype(float)
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)  # a faint edge may round to nothing
    for axis in (0, 1):
        centre = np.arange(28) @ pixels.sum(axis=1 - axis) / pixels.sum()
        assert abs(centre - 14) <= 0.55  # whole pixels are all it can move by
    assert pixels.max() == 255


def test_mnist_like_of_a_digit_off_centre_is_that_of_one_in_the_middle() -> None:
    middle = np.asarray(drawn(7, size=0.4))
    np.testing.assert_array_equal(
        images.mnist_like(np.roll(middle, (17, -20), axis=(0, 1))), images.mnist_like(middle)
    )


@pytest.mark.parametrize("side", [28, 100])
def test_read_as_is_only_scales_and_greys(tmp_path: Path, side: int) -> None:
    Image.new("RGB", (side, side), (90, 90, 90)).save(tmp_path / "plain.png")
    np.testing.assert_array_equal(images.read(tmp_path / "plain.png", as_is=True), np.full((28, 28), 90))


def contents(image: Image.Image, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image\n", "not an image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (contents(drawn(4), "ICO"), "an icon"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (contents(Image.new("L", (1, 1), 255)), "too small"),
        (contents(Image.new("RGB", (60, 60), "white")), "blank"),
        (contents(Image.new("RGBA", (60, 60), (0, 0, 0, 0))), "transparent"),
        (contents(drawn(4))[:300], "damaged or incomplete"),
    ],
    ids=["empty", "text", "svg", "icon", "heic", "one_pixel", "blank", "transparent", "truncated"],
)
def test_read_of_what_shows_no_digit_raises_naming_file_and_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=reason) as caught:
        images.read(path)
    assert str(path) in str(caught.value)


def test_read_of_a_missing_file_raises_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        images.read(tmp_path / "none.png")


def test_read_of_too_many_pixels_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 96 - 1)
    with pytest.raises(ValueError, match="too large"):
        read_back(drawn(1))


def test_read_of_too_many_pixels_in_a_jpeg_raises_though_they_could_be_reduced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of a progressive one, the decoder has all coefficients in memory before it reduces anything.
    monkeypatch.setattr(images, "MAX_PIXELS", 2_000_000)
    with pytest.raises(ValueError, match=r"too large: 2,500 x 2,500"):
        read_back(drawn(1).resize((2500, 2500)), "JPEG", progressive=True)


def test_read_of_thousands_of_dots_does_not_go_through_the_image_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_passes = 0
    bounding_box = images._bounding_box

    def counted(mask: np.ndarray) -> object:
        nonlocal n_passes
        n_passes += 1
        return bounding_box(mask)

    monkeypatch.setattr(images, "_bounding_box", counted)
    dots = np.full((600, 600), 255, np.uint8)
    dots[8:-8:12, 8:-8:12] = 0
    assert images.mnist_like(dots).shape == (28, 28)
    assert n_passes < 10


def test_read_leaves_out_thin_strips_along_the_border() -> None:
    sheet = np.full((300, 300), 255, np.uint8)
    sheet[60:240, 140:170] = 0
    alone = images.mnist_like(sheet)
    sheet[:20, 30:] = 60
    sheet[50:, -9:] = 60
    np.testing.assert_array_equal(images.mnist_like(sheet), alone)


@pytest.mark.parametrize("shape", [(30,), (30, 30, 2), (2, 30, 30, 3)])
def test_mnist_like_of_a_wrong_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        images.mnist_like(np.zeros(shape))


def test_mnist_like_of_values_that_are_not_finite_raises() -> None:
    with pytest.raises(ValueError, match="not a number"):
        images.mnist_like(np.full((30, 30), np.nan))
