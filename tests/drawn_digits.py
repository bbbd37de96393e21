"""Digits drawn with a font that Matplotlib brings along: a task that a small net learns in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fastmlp import idx, images
from fastmlp.datasets import FILES

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")


def drawn(digit: int, side: int = 96, *, turned: float = 0, size: float = 0.7) -> Image.Image:
    """Draw a digit white on black, as a grey image; `turned` in degrees, `size` as a fraction of the side."""
    image = Image.new("L", (side, side))
    font = ImageFont.truetype(FONT, round(size * side))
    ImageDraw.Draw(image).text((side / 2, side / 2), str(digit), fill=255, font=font, anchor="mm")
    return image.rotate(turned, Image.Resampling.BICUBIC)


def like_mnist(digit: int, turned: float = 0, size: float = 0.7) -> NDArray[np.uint8]:
    return images.mnist_like(np.asarray(drawn(digit, turned=turned, size=size)))


def _examples(turns: list[float], sizes: list[float]) -> Iterator[tuple[NDArray[np.uint8], int]]:
    for turned in turns:
        for size in sizes:
            for digit in range(10):
                yield like_mnist(digit, turned, size), digit


def write_dataset(folder: Path) -> Path:
    """Write 150 images to train on and 20 to test, as four IDX files named like MNIST's."""
    folder.mkdir()
    for (images_file, labels_file), examples in (
        (FILES[:2], _examples([-8, -4, 0, 4, 8], [0.5, 0.6, 0.7])),
        (FILES[2:], _examples([-2, 2], [0.65])),
    ):
        pictures, labels = zip(*examples, strict=True)
        idx.write(folder / images_file, np.stack(pictures))
        idx.write(folder / labels_file, np.array(labels, np.uint8))
    return folder
