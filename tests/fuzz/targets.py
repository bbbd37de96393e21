"""What is fuzzed: functions that read hostile bytes, what they may raise, and seeds for them.

A target swallows what its reader documents that it raises. Whatever else it raises is a bug.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fastmlp import SGD, Adam, AdamW, Callback, EarlyStopping, Net, idx, images
from fastmlp.callbacks import Fit
from fastmlp.errors import IdxFormatError, ModelFileError
from fastmlp.model_file import from_bytes, to_bytes
from fastmlp.schedules import Constant, Cosine, Step, Warmup

# Little enough that a claim beyond it is refused early.
MAX_BYTES = 2**24

# Few bytes can unpack to 50 million pixels, a second of arithmetic. With smaller limits the same code sees
# more inputs.
images.MAX_PIXELS = 2**12
images._WORKING_SIDE = 32

HOSTILE_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, np.inf, np.nan),
    *("", "relu", "Adam", "\ud800", "\0" * 9, [], [0], [[]], [2, 2], {}, {"": 0}),
)


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
    for as_is in (True, False):
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
    """Small nets: new ones of several kinds, a trained one, fits to resume, and format version 1."""
    nets = [Net((2, 2)), Net((3, 4, 2), activation="tanh", loss="squared_error")]
    X, y = np.eye(4, dtype=np.float32), np.arange(4) % 2
    for optimizer, schedule, callbacks in (
        (Adam(), Constant(), []),
        (SGD(momentum=0.9, ema_decay=0.9), Cosine(), [EarlyStopping(patience=9), Interrupt()]),
        (AdamW(clip_norm=1.0), Warmup(3, Step(epochs=(2, 3))), [EarlyStopping(patience=9), Interrupt()]),
    ):
        nets.append(Net((4, 3, 3, 2), precision="mixed_bfloat16", dropout=0.1, batch_norm=True))
        fit = {
            "optimizer": optimizer,
            "schedule": schedule,
            "callbacks": callbacks,
            "validation_data": (X, y),
        }
        with contextlib.suppress(KeyboardInterrupt):
            nets[-1].fit(X, y, epochs=3, batch_size=2, progress=False, **fit)
    for net in nets:
        yield to_bytes(net._stored())
        yield to_bytes(net._stored(with_training=True))
    yield (Path(__file__).parents[1] / "data" / "format_version_1.safetensors").read_bytes()


class Interrupt(Callback):
    def on_epoch_end(self, net: Net, fit: Fit) -> None:
        raise KeyboardInterrupt


def image_seeds() -> Iterator[bytes]:
    """Yield a digit in each format that Pillow can write here and in several modes."""
    picture = Image.new("RGB", (24, 20), "ivory")
    ImageDraw.Draw(picture).line([(12, 3), (12, 17)], fill="navy", width=3)
    for form in ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "TGA", "PCX", "JPEG2000"):
        file = io.BytesIO()
        picture.save(file, form)
        yield file.getvalue()
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        file = io.BytesIO()
        picture.convert("L").convert(mode).save(file, "PNG")
        yield file.getvalue()


def mutated_model(data: bytes, max_size: int, seed: int) -> bytes:
    """Change any bytes of a model file, or now and then one value in its JSON and the length before it."""
    import atheris

    chance = random.Random(seed)
    if chance.random() < 0.7:  # the other way is slower
        return bytes(atheris.Mutate(data, max_size))
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        settings = json.loads(header["__metadata__"]["fastmlp"])
        if chance.random() < 0.8:
            change_a_value(settings, chance)
            header["__metadata__"]["fastmlp"] = json.dumps(settings)
        else:
            change_a_value(header, chance)
        text = json.dumps(header).encode()
    except (ValueError, TypeError, KeyError, RecursionError):  # it is no model file, or no longer
        return bytes(atheris.Mutate(data, max_size))
    return (len(text).to_bytes(8, "little") + text + data[end:])[:max_size]


def change_a_value(tree: Any, chance: random.Random) -> None:
    """Change, remove, move or repeat a value in dicts and lists, however deep inside."""
    places = list(places_in(tree))
    if not places:
        return
    parent, key = chance.choice(places)
    other, other_key = chance.choice(places)
    change = chance.randrange(4)
    if change == 0:
        parent[key] = copy.deepcopy(chance.choice(HOSTILE_VALUES))
    elif change == 1:
        del parent[key]
    elif change == 2:
        parent[key] = copy.deepcopy(other[other_key])
    elif isinstance(parent, dict):
        parent[other_key if isinstance(other_key, str) else "name"] = copy.deepcopy(parent[key])
    else:
        parent.append(copy.deepcopy(parent[key]))


def places_in(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every dict and index of every list in a tree, each with its dict or list."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from places_in(value)


# For inputs of which a changed byte seldom leaves anything to read; others are changed byte by byte.
MUTATORS: dict[str, Callable[[bytes, int, int], bytes]] = {"model": mutated_model}

TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]]]] = {
    "idx": (read_idx, idx_seeds),
    "model": (load_model, model_seeds),
    "image": (read_image, image_seeds),
}
