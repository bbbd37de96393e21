"""Model files: the format, and that nothing in a file is trusted."""

from __future__ import annotations

import json
import os
import stat
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import ModelFileError, Net, Normal, model_file

RNG = np.random.default_rng(0)
X = RNG.random((40, 6), dtype=np.float32)
Y = np.arange(40) % 3


def trained_net() -> Net:
    net = Net([6, 5, 3], initializer=Normal(0.0, 0.5), seed=3)
    net.fit(X, Y, epochs=2, validation_split=0.25)
    net.class_names = ("a", "b", "c")
    return net


NET = trained_net()
GOOD = model_file.to_bytes(NET._stored())


# A file in parts, so that a test can damage one of them.


def parts_of(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["fastmlp"]), data[8 + length :]


def assembled(header: dict[str, Any], metadata: Any, tensors: bytes) -> bytes:
    header = header | {"__metadata__": {"fastmlp": json.dumps(metadata, separators=(",", ":"))}}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(encoded)) + encoded + tensors


def changed(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> bytes:
    """Return a good file whose header and metadata have been changed."""
    header, metadata, tensors = parts_of(GOOD)
    change(header, metadata)
    return assembled(header, metadata, tensors)


def refusal_of(data: bytes, folder: Path) -> str:
    path = folder / "digits.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        Net.load(path)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert len(message) < 600
    return message


# The format.


def test_file_is_safetensors_that_its_own_library_reads(tmp_path: Path) -> None:
    NET.save(tmp_path / "net.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "net.safetensors")
    for layer in range(2):
        np.testing.assert_array_equal(tensors[f"layers.{layer}.weight"], NET.weights[layer])
        np.testing.assert_array_equal(tensors[f"layers.{layer}.bias"], NET.biases[layer])
    np.testing.assert_array_equal(tensors["history.loss"], NET.history.loss)
    np.testing.assert_array_equal(tensors["history.step_loss"], NET.history.step_loss)
    with safetensors.safe_open(tmp_path / "net.safetensors", "numpy") as file:
        metadata = json.loads(file.metadata()["fastmlp"])
    assert metadata["format_version"] == 2
    assert metadata["loss"] == "softmax_cross_entropy"
    assert metadata["layer_sizes"] == [6, 5, 3]
    assert metadata["initializer"] == {"mean": 0.0, "std": 0.5, "bias_too": False}


def test_file_that_the_safetensors_library_wrote_is_read(tmp_path: Path) -> None:
    header, metadata, _ = parts_of(GOOD)
    path = tmp_path / "net.safetensors"
    path.write_bytes(GOOD)
    tensors = safetensors.numpy.load_file(path)
    assert set(tensors) == set(header) - {"__metadata__"}
    safetensors.numpy.save_file(tensors, path, {"fastmlp": json.dumps(metadata)})
    np.testing.assert_array_equal(Net.load(path).logits(X), NET.logits(X))


def test_same_net_gives_the_same_bytes_aligned_to_eight() -> None:
    assert model_file.to_bytes(NET._stored()) == GOOD
    (length,) = struct.unpack("<Q", GOOD[:8])
    assert length % 8 == 0
    header, _, _ = parts_of(GOOD)
    for name, tensor in header.items():
        if name != "__metadata__":
            assert tensor["data_offsets"][0] % {"F32": 4, "F64": 8, "I64": 8}[tensor["dtype"]] == 0


def test_weights_in_another_order_of_memory_give_the_same_bytes() -> None:
    stored = NET._stored()
    stored.weights[0] = np.asfortranarray(stored.weights[0])
    assert model_file.to_bytes(stored) == GOOD


def test_file_with_keys_of_a_later_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(changed(lambda header, metadata: metadata.update(skip_connections=[1])))
    assert repr(Net.load(path)) == repr(NET)


# What is refused.


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 9, 100, len(GOOD) - 1])
def test_truncated_file_is_refused(n_bytes: int, tmp_path: Path) -> None:
    message = refusal_of(GOOD[:n_bytes], tmp_path)
    assert "too few" in message or "cut short" in message


def test_file_with_bytes_to_spare_is_refused(tmp_path: Path) -> None:
    assert "too long" in refusal_of(GOOD + b"\0", tmp_path)


@pytest.mark.parametrize(
    "data", [b"\x93NUMPY" + bytes(100), b"PK\3\4" + bytes(100), bytes(100), b"\x80\4." * 9]
)
def test_file_of_another_kind_is_refused(data: bytes, tmp_path: Path) -> None:
    refusal_of(data, tmp_path)


def test_safetensors_of_another_program_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(4)
    assert "another program wrote it" in refusal_of(data, tmp_path)
    foreign = header[:-1] + b', "__metadata__": {"fastmlp": 3}}'
    assert "another program" in refusal_of(struct.pack("<Q", len(foreign)) + foreign + bytes(4), tmp_path)


def test_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for length in (2**64 - 1, 2**63, 2**40, len(GOOD)):
        assert "cut short" in refusal_of(struct.pack("<Q", length) + GOOD[8:], tmp_path)


def test_header_of_absurd_length_is_refused_though_the_file_is_that_long(tmp_path: Path) -> None:
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**40))
        file.truncate(8 + 2**40)  # a hole that takes no space on the disk
    with pytest.raises(ModelFileError, match="more than the limit of 1,048,576"):
        Net.load(path)


MEGABYTE = 2**20


def peak_of(read: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_model_is_read_in_twice_its_bytes() -> None:
    net = Net([1000, 1000, 10], seed=0)
    net.fit(np.zeros((4, 1000)), [0, 1, 2, 3], steps=1, progress=False)
    data = model_file.to_bytes(net._stored(with_training=True))
    assert len(data) > 10 * MEGABYTE
    assert peak_of(lambda: model_file.from_bytes(data)) < 2 * len(data)


@pytest.mark.parametrize("values", ["[],", "{},", "1e9,", '"ab",', "\U0001f600", "["])
def test_header_of_many_small_values_takes_bounded_memory(values: str, tmp_path: Path) -> None:
    # CPython has 64 bytes for {}, and 9 for its place in a list that grows: 25 times the 3 bytes of text.
    n = (model_file.MAX_HEADER_BYTES - 20) // len(values.encode())
    text = f'"{values * n}"' if values.isalpha() or not values.isascii() else f"[{values * n}0]"
    header = f'{{"a":{text}}}'.encode()
    data = struct.pack("<Q", len(header)) + header
    assert peak_of(lambda: refusal_of(data, tmp_path)) < 30 * MEGABYTE


@pytest.mark.parametrize(
    ("n_layers", "n_arenas", "missing"),
    [(20_000, 100, "layers.2.weight"), (400_000, 0, "layers.2.weight"), (2, 100, "training.arena0")],
)
def test_header_of_more_layers_or_arenas_than_its_tensors_takes_bounded_memory(
    n_layers: int, n_arenas: int, missing: str, tmp_path: Path
) -> None:
    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        sizes = [6, 5, 3] + [3] * (n_layers - 2)
        metadata |= {"layer_sizes": sizes, "activations": "relu", "batch_norm": False, "dropout": 0}
        metadata["training"] = {}
        header |= {f"training.arena{arena}": 0 for arena in range(n_arenas)}

    data = changed(change)
    refusals: list[str] = []
    assert peak_of(lambda: refusals.append(refusal_of(data, tmp_path))) < 30 * MEGABYTE
    assert missing in refusals[0]


def test_header_of_many_callbacks_takes_bounded_memory(tmp_path: Path) -> None:
    header, metadata, tensors = parts_of(model_file.to_bytes(NET._stored(with_training=True)))
    metadata["run"] = {"callbacks": [0] * 500_000}
    data = assembled(header, metadata, tensors)
    assert peak_of(lambda: refusal_of(data, tmp_path)) < 30 * MEGABYTE


def test_huge_file_of_another_program_is_refused_before_its_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.safetensors"
    n_bytes = 2**40
    header = json.dumps({"w": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + n_bytes)
    with pytest.raises(ModelFileError, match="another program wrote it"):
        Net.load(path)


def test_tensor_described_twice_is_refused(tmp_path: Path) -> None:
    (length,) = struct.unpack("<Q", GOOD[:8])
    twice = b'{"layers.0.bias":' + json.dumps(parts_of(GOOD)[0][BIAS]).encode() + b"," + GOOD[9 : 8 + length]
    data = struct.pack("<Q", len(twice)) + twice + GOOD[8 + length :]
    assert "a name occurs twice" in refusal_of(data, tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe",
        b"{} {}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"__metadata__": 1, "__metadata__": 2}',
        b'{"__metadata__": {"fastmlp": "[[["}}',
        b'{"__metadata__": {"fastmlp": "[]"}}',
        b'{"__metadata__": {"fastmlp": "{}"}}',
        b'{"__metadata__": {"fastmlp": "' + b"9" * 10_000 + b'"}}',
    ],
)
def test_header_that_is_not_the_expected_json_is_refused(header: bytes, tmp_path: Path) -> None:
    refusal_of(struct.pack("<Q", len(header)) + header, tmp_path)


def test_later_format_version_is_refused_with_advice(tmp_path: Path) -> None:
    data = changed(lambda header, metadata: metadata.update(format_version=3))
    assert "format version 3, written by a later fastmlp" in refusal_of(data, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 0},
        {"format_version": "1"},
        {"layer_sizes": [6, 5]},
        {"layer_sizes": [6, 5, 4]},
        {"layer_sizes": [6, 5, 3, 3], "activations": ["relu", "relu"]},
        {"layer_sizes": []},
        {"layer_sizes": "653"},
        {"layer_sizes": {"0": 6}},
        {"layer_sizes": [6, -5, 3]},
        {"layer_sizes": [6, 5.0, 3]},
        {"layer_sizes": [6, 2**31, 3]},
        {"layer_sizes": [2**30, 2**30, 3]},
        {"layer_sizes": None},
        {"activations": []},
        {"activations": ["relu", "relu"]},
        {"activations": ["os.system"]},
        {"activations": [3]},
        {"precision": "float16"},
        {"loss": "hinge"},
        {"loss": None},
        {"initializer": "zeros"},
        {"initializer": {"mean": 0}},
        {"initializer": {"mean": 0, "std": 1, "bias_too": False, "more": 1}},
        {"initializer": {"mean": float("nan"), "std": 1, "bias_too": False}},
        {"initializer": ["he_normal"]},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 1.5},
        {"n_epochs": -1},
        {"n_epochs": 2**32},
        {"n_epochs": True},
        {"image_shape": [2, 4]},
        {"image_shape": [6, 1.0]},
        {"image_shape": "6"},
        {"scale": "pixels"},
        {"scale": {"pixels": True}},
        {"scale": {"pixels": 1, "largest": 255.0}},
        {"scale": {"pixels": True, "largest": float("inf")}},
        {"scale": {"pixels": True, "largest": 255.0, "more": 1}},
        {"class_names": ["a"]},
        {"class_names": ["a", "b", 3]},
        {"class_names": "abc"},
        {"class_names": ["a", "b", "\ud800"]},
        {"notes": "text"},
        {"notes": [1]},
    ],
    ids=str,
)
def test_bad_metadata_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    refusal_of(changed(lambda header, metadata: metadata.update(change)), tmp_path)


@pytest.mark.parametrize(
    "key",
    ["format_version", "layer_sizes", "activations", "initializer", "precision", "loss", "seed", "n_epochs"],
)
def test_missing_metadata_are_refused_by_name(key: str, tmp_path: Path) -> None:
    assert repr(key) in refusal_of(changed(lambda header, metadata: metadata.pop(key)), tmp_path)


BIAS = "layers.0.bias"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop(BIAS),
        lambda header: header.pop("history.step_loss"),
        lambda header: header.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        lambda header: header.update({"../../etc/passwd": header.pop(BIAS)}),
        lambda header: header.update({"x" * 10_000: header.pop(BIAS)}),
        lambda header: header[BIAS].update(dtype="I32"),
        lambda header: header[BIAS].update(dtype="BF16"),
        lambda header: header[BIAS].update(dtype=["F32"]),
        lambda header: header[BIAS].update(dtype="x" * 10_000),
        lambda header: header[BIAS].update(shape=[1, 5]),
        lambda header: header[BIAS].update(shape=[4]),
        lambda header: header[BIAS].update(shape=[2**61, 2**61]),
        lambda header: header[BIAS].update(shape=[-5]),
        lambda header: header[BIAS].update(shape=[5.0]),
        lambda header: header[BIAS].update(shape=[True]),
        lambda header: header[BIAS].update(shape=5),
        lambda header: header[BIAS].update(shape=[5] + [1] * 100),
        lambda header: header[BIAS].update(data_offsets=[0, 20]),
        lambda header: header[BIAS].update(data_offsets=[20, 0]),
        lambda header: header[BIAS].update(data_offsets=[2**63, 2**63 + 20]),
        lambda header: header[BIAS].update(data_offsets=[10**6, 10**6 + 20]),
        lambda header: header[BIAS].update(data_offsets=[0]),
        lambda header: header[BIAS].update(data_offsets=None),
        lambda header: header[BIAS].update(more=1),
        lambda header: header.update({BIAS: 3}),
        lambda header: header.update({BIAS: list(header[BIAS].values())}),
        lambda header: header.update({BIAS: header["layers.1.bias"]}),
        lambda header: header["history.loss"].update(shape=[1, 2]),
        lambda header: swap(header, "history.loss", "history.step_loss"),
        lambda header: swap(header, "history.n_steps", "history.loss"),
    ],
)
def test_bad_tensor_descriptions_are_refused(
    change: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    refusal_of(changed(lambda header, metadata: change(header)), tmp_path)


def swap(header: dict[str, Any], one: str, other: str) -> None:
    header[one], header[other] = header[other], header[one]


def test_history_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    longer, shorter = "history.seconds", "history.samples_per_second"

    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        if header[longer]["data_offsets"][0] > header[shorter]["data_offsets"][0]:
            first, second = shorter, longer
        else:
            first, second = longer, shorter
        assert header[first]["data_offsets"][1] == header[second]["data_offsets"][0]
        boundary = header[first]["data_offsets"][1] + 8
        header[first]["data_offsets"][1] = header[second]["data_offsets"][0] = boundary
        header[first]["shape"], header[second]["shape"] = [3], [1]

    assert "'history.seconds' is F64 of shape (1,), but must be F64 of shape (2,)" in refusal_of(
        changed(change), tmp_path
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    header, metadata, tensors = parts_of(GOOD)
    begin, _ = header[BIAS]["data_offsets"]
    damaged = bytearray(tensors)
    damaged[begin + 4 : begin + 8] = struct.pack("<f", value)
    data = assembled(header, metadata, bytes(damaged))
    assert "'layers.0.bias' holds values that are infinite or not numbers" in refusal_of(data, tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    stored = NET._stored()
    stored.weights[1][0, 0] = np.nan
    with pytest.raises(ValueError, match="Layer 1 has weights that are not finite"):
        model_file.save(tmp_path / "net.safetensors", stored)
    assert list(tmp_path.iterdir()) == []


def test_description_too_long_to_load_is_not_saved(tmp_path: Path) -> None:
    net = Net([2, 3], seed=0)
    net.class_names = ["a" * 2**21, "b" * 2**21, "c"]
    with pytest.raises(ValueError, match="shorten class_names"):
        net.save(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_history_with_numbers_that_are_not_finite_is_kept(tmp_path: Path) -> None:
    net = trained_net()
    net.history.validation_loss[1] = float("nan")
    net.history.validation_loss[0] = float("inf")
    net.save(tmp_path / "net.safetensors")
    np.testing.assert_equal(
        Net.load(tmp_path / "net.safetensors").history.validation_loss, [float("inf"), float("nan")]
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_file_is_refused_or_gives_a_sound_net(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of what can go wrong is in the header, at the front.
        place = data.draw(st.one_of(st.integers(0, 1500), st.integers(0, len(GOOD) - 1)))
        kind = data.draw(st.sampled_from(["set", "insert", "delete"]))
        if kind == "delete":
            del damaged[place : place + data.draw(st.integers(1, 20))]
        elif kind == "insert":
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            damaged[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    try:
        stored = model_file.from_bytes(bytes(damaged))
    except ModelFileError:
        return
    assert all(np.isfinite(array).all() for array in (*stored.weights, *stored.biases))
    Net._from_stored(stored, model_file.PICKLED).predict(np.zeros((1, stored.layer_sizes[0])))


def test_pickle_of_a_damaged_net_is_refused() -> None:
    with pytest.raises(ModelFileError, match="The pickled model is not a model"):
        Net._from_bytes(GOOD[:-1])


# Files and folders.


def test_load_of_what_is_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        Net.load(tmp_path / "missing.safetensors")
    with pytest.raises(IsADirectoryError):
        Net.load(tmp_path)


def test_load_of_a_number_leaves_the_file_that_it_stands_for_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(TypeError):
            Net.load(file.fileno())  # type: ignore[arg-type]
        os.fstat(file.fileno())


def test_load_of_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="path must be a str"):
        Net.load(b"net.safetensors")  # type: ignore[arg-type]


def test_load_of_a_device_is_refused() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("there is no /dev/zero here")
    with pytest.raises(ModelFileError, match=r"/dev/zero is not a regular file"):
        Net.load("/dev/zero")


@pytest.mark.parametrize("path", [None, 3.5, ["net"]])
def test_path_of_a_wrong_type_is_a_type_error(path: object) -> None:
    with pytest.raises(TypeError):
        NET.save(path)
    with pytest.raises(TypeError):
        Net.load(path)


def test_save_replaces_a_file_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "näme with spaces.safetensors"
    path.write_bytes(b"old")
    NET.save(path)
    assert path.read_bytes() == GOOD
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        NET.save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_saved_file_has_the_usual_permissions(tmp_path: Path) -> None:
    NET.save(tmp_path / "net.safetensors")
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "net.safetensors").stat().st_mode) == usual
