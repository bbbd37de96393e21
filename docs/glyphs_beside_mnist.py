"""Draw docs/images/glyphs_beside_mnist.png: ten digits of each kind from MNIST and from the built-in glyphs.

Run it from anywhere, with MNIST at hand (see docs/datasets.md): ``python docs/glyphs_beside_mnist.py``
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from fastmlp import datasets
from fastmlp.datasets import Split

PICTURE = Path(__file__).parent / "images" / "glyphs_beside_mnist.png"
COLUMNS = 8
MAGNIFICATION = 2  # screen pixels a side for each of the images' pixels
GAP, TITLE = 16, 30  # in screen pixels
DPI = 100


def main() -> None:
    """Draw and save the picture."""
    mnist, glyphs = datasets.mnist(), datasets.glyphs()
    sheets = {
        "MNIST": sheet(mnist.test),
        "glyphs: fonts to train on": sheet(glyphs.train),
        "glyphs: fonts to test on": sheet(glyphs.test),
    }
    height, width = next(iter(sheets.values())).shape
    size = (len(sheets) * (width + GAP) + GAP, TITLE + height + GAP)
    figure = plt.figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
    for i, (title, pixels) in enumerate(sheets.items()):
        left = GAP + i * (width + GAP)
        figure.figimage(pixels, xo=left, yo=GAP, cmap="gray", origin="upper")
        figure.text((left + width / 2) / size[0], 1 - TITLE / 2 / size[1], title, ha="center", va="center")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI)
    PICTURE.parent.mkdir(exist_ok=True)
    Image.open(picture).convert("L").save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


def sheet(split: Split) -> np.ndarray:
    """Put the first images of each digit into a row, magnified by whole pixels so that none is blurred."""
    rows = [np.hstack(list(split.images[split.labels == digit][:COLUMNS])) for digit in range(10)]
    return np.kron(np.vstack(rows), np.ones((MAGNIFICATION, MAGNIFICATION), np.uint8))


if __name__ == "__main__":
    main()
