"""What is fuzzed: functions that read hostile bytes, what they may raise, and seeds for them.

A target swallows what its reader documents that it raises. Whatever else it raises is a bug.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw

from fastmlp import Net, idx, images
from fastmlp.errors import IdxFormatError, ModelFileError
from fastmlp.model_file import from_bytes, to_bytes

# Little enough that a claim beyond it is refused early.
MAX_BYTES = 2**24


def read_idx(data: bytes) -> None:
    """`idx.read` of these bytes: an array that writes back to an equal one, or IdxFormatError."""
    try:
        array = idx.read(io.BytesIO(data), max_bytes=MAX_BYTES)
    except IdxFormatError:
        return
    assert array.nbytes <= MAX_BYTES and array.flags.c_contiguous and array.dtype.isnative
    written = io.BytesIO()
    idx.write(written, array)
    written.seek(0)
    again = idx.read(written, max_bytes=MAX_BYTES)
    assert again.shape == array.shape and again.tobytes() == array.tobytes()


def load_model(data: bytes) -> None:
    """Read a model file: a model whose numbers are finite, or ModelFileError."""
    try:
        model = from_bytes(data)
    except ModelFileError:
        return
    for array in (*model.weights, *model.biases):
        assert array.dtype == np.float32 and np.isfinite(array).all()
    assert len(model.weights) == len(model.layer_sizes) - 1


def read_image(data: bytes) -> None:
    """Read an image as `fastmlp predict` does, centred and as it is: 28 x 28 pixels, or ValueError."""
    for as_is in (False, True):
        try:
            sheet = images.read(io.BytesIO(data), as_is=as_is)
        except ValueError:
            continue
        assert sheet.shape == (28, 28) and sheet.dtype == np.uint8


def idx_seeds() -> Iterator[bytes]:
    """Arrays of every type, of 0 to 3 dimensions, plain, in gzip, and in two members of gzip."""
    for dtype in (np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64):
        for shape in ((), (0,), (5,), (2, 3), (2, 3, 2)):
            file = io.BytesIO()
            idx.write(file, np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape))
            yield file.getvalue()
    data = file.getvalue()
    yield gzip.compress(data, mtime=0)
    yield gzip.compress(data[:9], mtime=0) + gzip.compress(data[9:], mtime=0)


def model_seeds() -> Iterator[bytes]:
    """Small nets: new ones of several kinds, and one that has been trained."""
    nets = [
        Net((2, 2)),
        Net((3, 4, 2), activation="tanh", loss="squared_error"),
        Net((4, 3, 3, 2), precision="mixed_bfloat16", dropout=0.1, batch_norm=True),
    ]
    X, y = np.eye(4, dtype=np.float32), np.arange(4) % 2
    nets[-1].fit(X, y, epochs=2, batch_size=2, progress=False)
    for net in nets:
        yield to_bytes(net._stored())


def image_seeds() -> Iterator[bytes]:
    """Yield a digit in each format that Pillow can write here and in several modes."""
    picture = Image.new("RGB", (48, 40), "ivory")
    ImageDraw.Draw(picture).line([(24, 6), (24, 34)], fill="navy", width=5)
    for form in ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "JPEG2000"):
        file = io.BytesIO()
        picture.save(file, form)
        yield file.getvalue()
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        file = io.BytesIO()
        picture.convert("L").convert(mode).save(file, "PNG")
        yield file.getvalue()


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]]]] = {
    "idx": (read_idx, idx_seeds),
    "model": (load_model, model_seeds),
    "image": (read_image, image_seeds),
}
