"""Safetensors into NumPy, against the reference implementation, and every refusal of its header."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader import InsecureFileKeys, open_model, safe_open
from nodeseal.loader.numpy import framework, load_file, save_file
from nodeseal.loader.safetensors import MAX_HEADER, decode_header, header_size
from support.mappings import left_out_of_core_dumps
from support.sealed import key_file, model_key, safetensors_bytes, seal_files

NUMPY_TYPES = ["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", "<c8"]


Decode = Callable[[bytes], dict[str, np.ndarray]]


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    """Seal a file and load it."""

    def decode(raw: bytes) -> dict[str, np.ndarray]:
        sample = seal_files(tmp_path, {"x.safetensors": raw})
        return load_file(sample.directory / "x.safetensors", keys=sample.keys)

    return decode


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_types_of_numpy_come_back_as_the_reference_wrote_them(decode: Decode, dtype: str) -> None:
    tensors = {
        "matrix": np.arange(12).reshape(3, 4).astype(dtype),
        "scalar": np.array(1).astype(dtype),
        "empty": np.zeros((0, 5), dtype),
    }
    decoded = decode(save(tensors))
    assert set(decoded) == set(tensors)
    for name, expected in tensors.items():
        assert decoded[name].dtype == expected.dtype
        assert decoded[name].shape == expected.shape
        assert np.array_equal(decoded[name], expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    ],
)
def test_types_that_numpy_lacks_keep_their_meaning(decode: Decode, dtype: str, expected: type) -> None:
    values: np.ndarray = np.array([1, 2, 0.5]).astype(expected)
    decoded = decode(safetensors_bytes({"t": (dtype, [3], values.tobytes())}))["t"]
    assert decoded.dtype == expected
    assert decoded.astype(float).tolist() == [1.0, 2.0, 0.5]


def test_without_ml_dtypes_such_a_tensor_is_refused_with_a_remedy(
    decode: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("nodeseal.loader.numpy.importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(Unavailable, match="BF16") as caught:
        decode(safetensors_bytes({"t": ("BF16", [1], b"\0\0")}))
    assert caught.value.remedy == "pip install ml-dtypes"


def test_arrays_are_views_of_one_piece_of_memory_that_can_be_written(decode: Decode) -> None:
    tensors = decode(safetensors_bytes({"t": ("U8", [2], b"\1\2"), "u": ("U8", [1], b"\3")}))
    assert tensors["u"].ctypes.data == tensors["t"].ctypes.data + 2
    tensors["t"][0] = 9
    assert tensors["t"].tolist() == [9, 2]


@pytest.mark.parametrize(("device", "pin_memory"), [("cuda", False), ("cpu", True)])
def test_numpy_knows_main_memory_alone(device: str, pin_memory: bool) -> None:  # noqa: FBT001 - a table's column
    with pytest.raises(ValueError, match="main memory"):
        framework(device, pin_memory=pin_memory)


def header(text: object, data: bytes = b"") -> bytes:
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(**changes: object) -> dict[str, object]:
    return {"t": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2], **changes}}


@pytest.mark.parametrize(
    ("why", "raw"),
    [
        ("nothing", b""),
        ("a length alone", bytes(7)),
        ("a header longer than the file", (1 << 63).to_bytes(8, "little")),
        ("a header one byte too long", header(entry(), b"12")[:-3]),
        ("no JSON", header(b"{")),
        ("a list", header([])),
        ("a duplicate tensor", header(b'{"t":{},"t":{}}')),
        ("data after the last tensor", header(entry(), b"123")),
        ("data that ends early", header(entry(), b"1")),
        ("a hole before the first tensor", header(entry(data_offsets=[1, 3]), b"123")),
        ("begin after end", header(entry(data_offsets=[2, 0]), b"12")),
        ("three offsets", header(entry(data_offsets=[0, 1, 2]), b"12")),
        ("a negative offset", header(entry(data_offsets=[-2, 0]), b"")),
        ("a negative dimension", header(entry(shape=[-2]), b"12")),
        ("a dimension that is true", header(entry(shape=[True, 2]), b"12")),
        ("a shape that needs more", header(entry(shape=[3]), b"12")),
        ("a shape whose product overflows", header(entry(shape=[1 << 62, 1 << 62]), b"12")),
        ("no element but a dimension beyond counting", header(entry(shape=[0, 1 << 63], data_offsets=[0, 0]))),
        ("no element but strides that overflow", header(entry(shape=[0, 1 << 40, 1 << 40], data_offsets=[0, 0]))),
        ("a name that a terminal would obey", header({"\x1b[2J": entry()["t"]}, b"12")),
        (
            "a name that is half a character",
            header(b'{"\\ud800":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"12"),
        ),
        ("an unknown type", header(entry(dtype="U128"), b"12")),
        ("floats of four bits that need less", header(entry(dtype="F4"), b"12")),
        ("floats of six bits that need more", header(entry(dtype="F6_E2M3"), b"12")),
        ("metadata that is no mapping", header({"__metadata__": []})),
        ("metadata that is no text", header({"__metadata__": {"format": 1}})),
        ("an unknown key", header(entry(order="F"), b"12")),
        ("no type", header({"t": {"shape": [2], "data_offsets": [0, 2]}}, b"12")),
        (
            "tensors that overlap",
            header({**entry(), "u": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"123"),
        ),
    ],
)
def test_a_file_is_refused_for(decode: Decode, why: str, raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode(raw)
    assert why


def test_a_header_above_the_limit_is_refused_however_large_the_file() -> None:
    assert header_size(memoryview(MAX_HEADER.to_bytes(8, "little")), 1 << 40, "x") == 8 + MAX_HEADER
    with pytest.raises(MalformedInput):
        header_size(memoryview((MAX_HEADER + 1).to_bytes(8, "little")), 1 << 40, "x")


def test_an_empty_model_has_no_tensors(decode: Decode) -> None:
    assert decode(header({"__metadata__": {"format": "pt"}})) == {}


def test_sealing_and_opening_need_no_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; import nodeseal.loader, nodeseal.loader.seal"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_files_of_the_reference_decode(decode: Decode) -> None:
    rng = np.random.default_rng(1)
    tensors = {f"layer.{index}.weight": rng.standard_normal((7, index)).astype("<f4") for index in range(50)}
    decoded = decode(save(tensors))
    assert all(np.array_equal(decoded[name], tensor) for name, tensor in tensors.items())


def test_floats_of_four_bits_are_those_of_ml_dtypes(tmp_path: Path) -> None:
    raw = header(entry(dtype="F4", shape=[2, 4], data_offsets=[0, 4]), bytes((0x10, 0x32, 0x54, 0xF6)))
    expected = np.array([[0, 0.5, 1, 1.5], [2, 3, 4, -6]])
    sample = seal_files(tmp_path, {"model.safetensors": raw})
    found = load_file(sample.directory / "model.safetensors", keys=sample.keys)["t"]
    with safe_open(sample.directory / "model.safetensors", keys=sample.keys) as file:
        part = file.get_slice("t")[1, 1:3]
        with pytest.raises(ValueError, match="another type"):
            file.load_into({"t": np.zeros((2, 4), ml_dtypes.float4_e2m1fn)})
    assert found.dtype == ml_dtypes.float4_e2m1fn
    assert np.array_equal(found.astype(float), expected)
    assert np.array_equal(part.astype(float), expected[1, 1:3])
    assert left_out_of_core_dumps(found.ctypes.data)


@pytest.mark.parametrize("dtype", ["F6_E2M3", "F6_E3M2"])
def test_types_that_nobody_has_are_bytes_if_they_are_named(tmp_path: Path, dtype: str) -> None:
    raw = header({**entry(dtype=dtype, shape=[4], data_offsets=[0, 3]), "u": entry(data_offsets=[3, 5])["t"]}, b"12345")
    sample = seal_files(tmp_path, {"model.safetensors": raw})
    path = sample.directory / "model.safetensors"
    with pytest.raises(MalformedInput, match=dtype) as caught:
        load_file(path, keys=sample.keys)
    assert f"raw=['{dtype}']" in caught.value.remedy
    found = load_file(path, raw=[dtype], keys=sample.keys)
    assert (found["t"].tobytes(), found["t"].dtype.name, found["u"].tobytes()) == (b"123", "uint8", b"45")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0"])
def test_all_floats_of_eight_bits_load(decode: Decode, dtype: str) -> None:
    (found,) = decode(header(entry(dtype=dtype), b"\x38\x40")).values()
    assert found.tobytes() == b"\x38\x40"
    assert found.dtype.name.startswith("float8_")


def test_a_header_of_too_many_tensors_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeseal.loader.safetensors.MAX_TENSORS", 1)
    raw = memoryview(header({**entry(), "u": entry(data_offsets=[2, 4])["t"]}, b"1234"))
    with pytest.raises(MalformedInput, match="2 tensors, at most 1"):
        decode_header(raw, len(raw), "x")


def test_what_is_sealed_from_memory_is_what_safetensors_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tensors = {
        "b": rng.standard_normal((300, 400)).astype("<f4"),
        "a": np.arange(7, dtype=">i4"),
        "flag": np.array([[True], [False]]),
        "bf16": np.ones((3, 5), ml_dtypes.bfloat16),
        "transposed": np.arange(6, dtype="<u2").reshape(2, 3).T,
        "scalar": np.array(2.5),
        "empty": np.empty((0, 4), "<f2"),
    }
    tensors["a"].flags.writeable = False
    private, key = model_key()
    content = save_file(tensors, tmp_path / "made" / "model.safetensors", {"format": "np"}, model_keys=[key], version=3)
    keys = InsecureFileKeys(key_file(tmp_path, key, private))
    with open_model(tmp_path / "made", keys) as model:
        written = bytes(model.read("model.safetensors"))
        assert (model.content.model_id, model.content.version, model.content.digest) == ("made", 3, content.digest)
    plain = {name: tensor.copy(order="C") for name, tensor in tensors.items()}
    assert written == save(plain, {"format": "np"})


def test_sealing_from_memory_leaves_what_is_there_alone(tmp_path: Path) -> None:
    _, key = model_key()
    (tmp_path / "made").mkdir()
    with pytest.raises(MalformedInput, match="exists already"):
        save_file({"a": np.arange(3)}, tmp_path / "made" / "model.safetensors", model_keys=[key])
    with pytest.raises(MalformedInput, match="which safetensors lack"):
        save_file({"a": np.arange(3, dtype=np.longdouble)}, tmp_path / "new" / "model.safetensors", model_keys=[key])
    with pytest.raises(MalformedInput, match="1 to"):
        save_file({"a": np.arange(3)}, tmp_path / "new" / "model.safetensors", model_keys=[])
    assert not list((tmp_path / "made").iterdir())
    assert not (tmp_path / "new").exists()
