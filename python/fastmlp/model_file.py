"""Model files: safetensors, with everything that is not a tensor as JSON in the header's metadata.

A file is eight bytes for the length of the header (little-endian), the header (JSON: the type, shape and
place of each tensor, and string-to-string metadata), and the tensors' bytes. Any reader of safetensors can
have the weights:

- ``layers.0.weight`` (n_inputs, n_outputs) and ``layers.0.bias`` (n_outputs,), float32, and so on for each
  layer;
- ``history.loss`` and the other columns of `fastmlp.History`, float64 or int64 (n_epochs,),
  ``history.step_loss`` float32;
- the metadata have one key, "fastmlp", with JSON of what `StoredModel` lists besides.

Nothing in a file is trusted. All of the header is checked, the sizes that it claims against the number of
bytes that are there, before any memory for tensors is allocated; nothing is unpickled or memory-mapped.

References
----------
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp._atomic_file import atomic_writer
from fastmlp._validation import shortened
from fastmlp.errors import ModelFileError
from fastmlp.history import COLUMNS, OPTIONAL_COLUMNS, History
from fastmlp.initializers import Initializer, Normal, checked_initializer

FORMAT_VERSION: Final = 1
MAX_HEADER_BYTES: Final = 2**22
_MAX_EPOCHS: Final = 2**32 - 1  # the number of a shuffle has 32 bits

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_HISTORY_DTYPES: Final[dict[str, np.dtype[Any]]] = COLUMNS | {"step_loss": np.dtype(np.float32)}


@dataclass(frozen=True, eq=False)
class StoredModel:
    """What a model file holds.

    Attributes
    ----------
    layer_sizes : tuple of int
        Units of each layer, inputs first.
    activations : tuple of str
        One for each hidden layer.
    initializer : str or Normal
        What the weights were drawn from at first.
    precision : str
        "float32" or "mixed_bfloat16".
    seed : int
        In [0, 2**64).
    n_epochs : int
        Epochs begun in the net's life; the order of samples in the next one depends on it.
    image_shape : tuple of int or None
        Dimensions of one sample, if known.
    class_names : tuple of str or None
        One for each class, if known.
    weights, biases : list of numpy.ndarray
        float32 (n_inputs, n_outputs) and (n_outputs,) for each layer of weights, all finite.
    history : History
        Of the last fit.
    """

    layer_sizes: tuple[int, ...]
    activations: tuple[str, ...]
    initializer: Initializer
    precision: str
    seed: int
    n_epochs: int
    image_shape: tuple[int, ...] | None
    class_names: tuple[str, ...] | None
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    history: History


def save(path: str | os.PathLike[str], model: StoredModel) -> None:
    """Write a model file; it appears whole or not at all.

    Raises
    ------
    ValueError
        If a weight or bias is not finite, since no such file could be loaded, or the header becomes too long.
    OSError
        If the file cannot be written; the one that was there before is then unharmed.
    """
    header, tensors = _encode(model)
    with atomic_writer(path) as file:
        _write(file, header, tensors)


def load(path: str | os.PathLike[str]) -> StoredModel:
    """Read a model file.

    Raises
    ------
    fastmlp.errors.ModelFileError
        If the file is not exactly one fastmlp model; the message names the file.
    OSError
        If the file cannot be read.
    """
    with Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{os.fspath(path)} is not a regular file.")
        return _Reader(file, status.st_size, os.fspath(path)).read()


def to_bytes(model: StoredModel) -> bytes:
    """Return what `save` would write."""
    file = io.BytesIO()
    _write(file, *_encode(model))
    return file.getvalue()


def from_bytes(data: bytes) -> StoredModel:
    """Read what `to_bytes` returned, with the checks of `load`."""
    return _Reader(io.BytesIO(data), len(data), "The pickled model").read()


def _encode(model: StoredModel) -> tuple[bytes, list[NDArray[Any]]]:
    """Return the header, and the tensors in the order in which they follow it."""
    tensors: dict[str, NDArray[Any]] = {}
    for name, column in model.history._to_arrays().items():
        tensors[f"history.{name}"] = column
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(
                f"Layer {layer} has weights that are not finite numbers; such a net is of no use and is not "
                "saved. Train again with a smaller learning rate."
            )
        tensors[f"layers.{layer}.weight"] = weight
        tensors[f"layers.{layer}.bias"] = bias
    # 8-byte numbers first, so that all of them lie at multiples of their size.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)

    header: dict[str, object] = {"__metadata__": {"fastmlp": json.dumps(_metadata(model))}}
    begin = 0
    for name, tensor in ordered:
        end = begin + tensor.nbytes
        code = _CODES[tensor.dtype.newbyteorder("<")]
        header[name] = {"dtype": code, "shape": tensor.shape, "data_offsets": (begin, end)}
        begin = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(
            f"The model's description takes {len(encoded):,} bytes, more than the {MAX_HEADER_BYTES:,} that "
            "can be loaded again; shorten class_names."
        )
    return encoded, [tensor for _, tensor in ordered]


def _metadata(model: StoredModel) -> dict[str, object]:
    initializer: object = model.initializer
    if isinstance(initializer, Normal):
        initializer = {"mean": initializer.mean, "std": initializer.std, "bias_too": initializer.bias_too}
    return {
        "format_version": FORMAT_VERSION,
        "layer_sizes": model.layer_sizes,
        "activations": model.activations,
        "initializer": initializer,
        "precision": model.precision,
        "seed": model.seed,
        "n_epochs": model.n_epochs,
        "image_shape": model.image_shape,
        "class_names": model.class_names,
        "notes": model.history.notes,
    }


def _write(file: BinaryIO, header: bytes, tensors: Sequence[NDArray[Any]]) -> None:
    file.write(struct.pack("<Q", len(header)))
    file.write(header)
    for tensor in tensors:
        little_endian = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        file.write(little_endian.reshape(-1).view(np.uint8).data)


@dataclass(frozen=True)
class _Place:
    """A tensor's type, shape, and where its bytes begin and end after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class _Reader:
    """Reads one model file from its start, refusing it at the first thing that is wrong."""

    def __init__(self, file: BinaryIO, n_bytes: int, name: str) -> None:
        self._file = file
        self._n_bytes = n_bytes
        self._name = name

    def read(self) -> StoredModel:
        header = self._header()
        try:
            metadata = self._metadata(header.pop("__metadata__", None))
            sizes = _validation.layer_sizes(_required(metadata, "layer_sizes"))
            settings: dict[str, Any] = {
                "layer_sizes": sizes,
                "activations": _validation.activations(_required(metadata, "activations"), len(sizes) - 2),
                "initializer": _decoded_initializer(_required(metadata, "initializer")),
                "precision": _validation.one_of(
                    _required(metadata, "precision"), "precision", _validation.PRECISIONS
                ),
                "seed": _validation.seed(_required(metadata, "seed")),
                "n_epochs": _validation.whole_number(
                    _required(metadata, "n_epochs"), "n_epochs", 0, _MAX_EPOCHS
                ),
                "image_shape": _validation.image_shape(metadata.get("image_shape"), sizes[0]),
                "class_names": _validation.class_names(metadata.get("class_names"), sizes[-1]),
            }
            notes = _decoded_notes(metadata.get("notes", []))
        except (TypeError, ValueError) as error:
            if isinstance(error, ModelFileError):
                raise
            self._refuse(str(error))

        places = self._places(header)
        self._check_layers(places, sizes)
        self._check_history(places)
        tensors = self._tensors(places)
        layers = range(len(sizes) - 1)
        history = {name: tensors[f"history.{name}"] for name in _HISTORY_DTYPES}
        return StoredModel(
            **settings,
            weights=[tensors[f"layers.{layer}.weight"] for layer in layers],
            biases=[tensors[f"layers.{layer}.bias"] for layer in layers],
            history=History._from_arrays(history, notes),
        )

    def _refuse(self, reason: str) -> NoReturn:
        raise ModelFileError(f"{self._name} is not a model that fastmlp can load: {reason}")

    def _header(self) -> dict[str, Any]:
        prefix = self._file.read(8)
        if len(prefix) < 8:
            self._refuse(f"it has {len(prefix)} bytes, too few for a safetensors file.")
        (length,) = struct.unpack("<Q", prefix)
        if length > self._n_bytes - 8:
            self._refuse(
                f"its header would take {length:,} bytes, but it has only {self._n_bytes:,}. Either it is "
                "cut short, or it is not a safetensors file."
            )
        if length > MAX_HEADER_BYTES:
            self._refuse(f"its header takes {length:,} bytes, more than the limit of {MAX_HEADER_BYTES:,}.")
        self._header_end = 8 + length
        return self._json_object(self._file.read(length), "its header")

    def _metadata(self, metadata: object) -> dict[str, Any]:
        text = metadata.get("fastmlp") if isinstance(metadata, dict) else None
        if not isinstance(text, str):
            self._refuse("it is a safetensors file, but has no fastmlp metadata: another program wrote it.")
        settings = self._json_object(text, "its fastmlp metadata")
        version = _validation.whole_number(_required(settings, "format_version"), "format_version")
        if version > FORMAT_VERSION:
            self._refuse(
                f"it has format version {version}, written by a later fastmlp; this one reads up to version "
                f"{FORMAT_VERSION}. Upgrade fastmlp."
            )
        return settings

    def _json_object(self, text: str | bytes, what: str) -> dict[str, Any]:
        try:
            decoded = json.loads(text, object_pairs_hook=_object_without_duplicates)
        except (ValueError, RecursionError) as error:
            self._refuse(f"{what} is not valid JSON ({error}).")
        if not isinstance(decoded, dict):
            self._refuse(f"{what} is not a JSON object.")
        return decoded

    def _places(self, header: dict[str, Any]) -> dict[str, _Place]:
        """Where each tensor is: one after the other, without gaps, up to the file's end."""
        places = {name: self._place(name, description) for name, description in header.items()}
        end = 0
        for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
            if place.begin != end:
                self._refuse(
                    f"the bytes of tensor {shortened(repr(name))} do not begin where those before it end."
                )
            end = place.end
        n_bytes = self._n_bytes - self._header_end
        if end != n_bytes:
            damage = "cut short" if end > n_bytes else "too long"
            self._refuse(f"it is {damage}: its tensors take {end:,} bytes, and it has {n_bytes:,} for them.")
        return places

    def _place(self, name: str, description: object) -> _Place:
        if not isinstance(description, dict) or set(description) != {"dtype", "shape", "data_offsets"}:
            self._refuse(f"tensor {shortened(repr(name))} is not described by dtype, shape and data_offsets.")
        code, shape, offsets = description["dtype"], description["shape"], description["data_offsets"]
        dtype = _DTYPES.get(code) if isinstance(code, str) else None
        if dtype is None:
            self._refuse(
                f"tensor {shortened(repr(name))} has the type {shortened(repr(code))}, which no fastmlp "
                "model has."
            )
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > 2:
            self._refuse(f"tensor {shortened(repr(name))} has a shape or data_offsets that are not sizes.")
        if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            self._refuse(
                f"tensor {shortened(repr(name))} of shape {tuple(shape)} does not fill its {offsets} bytes "
                "exactly."
            )
        return _Place(dtype, tuple(shape), offsets[0], offsets[1])

    def _check_layers(self, places: dict[str, _Place], sizes: Sequence[int]) -> None:
        expected: dict[str, tuple[int, ...]] = {}
        for layer, (n_inputs, n_outputs) in enumerate(pairwise(sizes)):
            expected[f"layers.{layer}.weight"] = (n_inputs, n_outputs)
            expected[f"layers.{layer}.bias"] = (n_outputs,)
        known = expected.keys() | {f"history.{name}" for name in _HISTORY_DTYPES}
        for name in known - places.keys():
            self._refuse(f"tensor {shortened(repr(name))} is missing.")
        for name in places.keys() - known:
            self._refuse(f"tensor {shortened(repr(name))} has no place in a net of layers {list(sizes)}.")
        for name, shape in expected.items():
            place = places[name]
            if place.dtype != _DTYPES["F32"] or place.shape != shape:
                self._refuse(
                    f"tensor {name!r} is {place.dtype.name} of shape {place.shape}, but must be float32 of "
                    f"shape {shape}."
                )

    def _check_history(self, places: dict[str, _Place]) -> None:
        n_epochs = math.prod(places["history.loss"].shape)
        for name, dtype in _HISTORY_DTYPES.items():
            place = places[f"history.{name}"]
            lengths = {n_epochs, 0} if name in OPTIONAL_COLUMNS else {n_epochs}
            right_length = name == "step_loss" or math.prod(place.shape) in lengths
            if place.dtype != dtype.newbyteorder("<") or len(place.shape) != 1 or not right_length:
                self._refuse(f"its history's {name} is {place.dtype.name} of shape {place.shape}.")

    def _tensors(self, places: dict[str, _Place]) -> dict[str, NDArray[Any]]:
        tensors = {}
        for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
            tensor = np.empty(place.shape, place.dtype)
            buffer = tensor.reshape(-1).view(np.uint8).data
            if self._file.readinto(buffer) != tensor.nbytes:  # type: ignore[attr-defined]
                self._refuse("it became shorter while it was read.")
            tensor = tensor.astype(place.dtype.newbyteorder("="), copy=False)
            if name.startswith("layers.") and not np.isfinite(tensor).all():
                self._refuse(f"tensor {shortened(repr(name))} holds values that are infinite or not numbers.")
            tensors[name] = tensor
        return tensors


def _required(metadata: dict[str, Any], key: str) -> Any:
    if key not in metadata:
        raise ValueError(f"its fastmlp metadata have no {key!r}.")
    return metadata[key]


def _decoded_initializer(stored: object) -> Initializer:
    if not isinstance(stored, dict):
        return checked_initializer(stored)
    if set(stored) != {"mean", "std", "bias_too"}:
        raise ValueError("its initializer is not described by mean, std and bias_too.")
    return Normal(**stored)


def _decoded_notes(notes: object) -> list[str]:
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("its notes are not a list of strings.")
    return notes


def _are_sizes(numbers: object) -> bool:
    return isinstance(numbers, list) and all(
        type(number) is int and 0 <= number < 2**62 for number in numbers
    )


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ValueError("a name occurs twice")
    return decoded
