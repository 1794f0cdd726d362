"""What loaders would say of a model's files, found before sealing. Each case changes one fact of a good folder."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.loader.precheck import Trouble, check_files, looks_like_weights
from nodeseal.loader.source import survey
from support.sealed import safetensors_bytes

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
WEIGHTS = save({"a": np.arange(5)})


def index(**places: str) -> bytes:
    return json.dumps({"weight_map": places}).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good model of two shards, with all that people keep beside one."""
    files = {
        FIRST: WEIGHTS,
        SECOND: save({"b": np.ones((3, 4), "<f2")}),
        INDEX: index(a=FIRST, b=SECOND),
        "model.fp16.safetensors": WEIGHTS,
        "adapter_model.safetensors": WEIGHTS,
        "1_Pooling/config.json": b"{}",
        "2_Dense/model.safetensors": WEIGHTS,
        "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "tokenizer.json": json.dumps({"vocab": {f"word{n}": n for n in range(2000)}}).encode(),
        "merges.txt": b"".join(b"t%d h%d\n" % (n, n) for n in range(2000)),
        "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02" * 200,
        "README.md": b"# A model\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def troubles(folder: Path) -> tuple[Trouble, ...]:
    return check_files(survey(folder, allow_pickle=True))


def test_a_good_model_has_no_trouble(folder: Path) -> None:
    assert troubles(folder) == ()


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def take(*names: str) -> Callable[[Path], object]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


SPOILED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "an LFS pointer for weights": (put(FIRST, POINTER), FIRST, "Git LFS pointer"),
    "an LFS pointer for a tokenizer": (put("tokenizer.json", POINTER), "tokenizer.json", "Git LFS pointer"),
    "an empty file": (put(FIRST, b""), FIRST, "longer than the file"),
    "a file that ends early": (put(FIRST, WEIGHTS[:-1]), FIRST, "tensors take 40 bytes of 39"),
    "trailing bytes": (put(FIRST, WEIGHTS + b"x"), FIRST, "tensors take 40 bytes of 41"),
    "no header": (put(FIRST, b"<html>Not found</html>"), FIRST, "longer than the file"),
    "a shape that does not fit": (
        put("2_Dense/model.safetensors", safetensors_bytes({"t": ("F32", [3], b"1234")})),
        "2_Dense/model.safetensors",
        "length of its shape",
    ),
    "a type of the future": (
        put("model.fp16.safetensors", safetensors_bytes({"t": ("F2", [4], b"1")})),
        "model.fp16.safetensors",
        "no loader knows",
    ),
    "a type that opens as bytes": (
        put("model.fp16.safetensors", safetensors_bytes({"t": ("F6_E2M3", [4], b"123")})),
        "model.fp16.safetensors",
        "open as bytes only",
    ),
    "a shard that is absent": (take(SECOND), INDEX, f"names '{SECOND}', which is not there"),
    "a tensor that is absent": (put(SECOND, WEIGHTS), SECOND, "2 tensors differ"),
    "an index that is none": (put(INDEX, b"{}"), INDEX, "expected a weight_map"),
    "a part without an index": (take(INDEX), FIRST, "without its index"),
    "a download that did not end": (put("model.safetensors.incomplete", b"x"), "model.safetensors.incomplete", "end"),
    "a name that nobody looks for": (
        lambda folder: [
            take(SECOND, INDEX, "model.fp16.safetensors", "adapter_model.safetensors")(folder),
            (folder / FIRST).rename(folder / "weights.safetensors"),
        ],
        "weights.safetensors",
        "do not look for",
    ),
}


@pytest.mark.parametrize(("spoil", "path", "problem"), SPOILED.values(), ids=SPOILED)
def test_trouble_is_found(folder: Path, spoil: Callable[[Path], object], path: str, problem: str) -> None:
    spoil(folder)
    (trouble,) = troubles(folder)
    assert trouble.path == path
    assert problem in trouble.problem
    assert trouble.remedy
    assert not trouble.readable


NUMBERS = np.random.default_rng(1).standard_normal(2000)
LIKE_WEIGHTS: dict[str, tuple[str, bytes]] = {
    "a pickle": ("weights.model", pickle.dumps({"w": 1}, protocol=4)),
    "a ZIP archive": ("classifier.model", b"PK\x03\x04" + bytes(100)),
    "safetensors": ("weights.txt", WEIGHTS),
    "GGUF": ("model.model", b"GGUF\x03\0\0\0"),
    "NumPy": ("vectors.txt", b"\x93NUMPY\x01\0"),
    "numbers in a text": ("glove.txt", "\n".join(map(str, NUMBERS)).encode()),
    "numbers in JSON": ("weights.json", json.dumps(list(NUMBERS)).encode()),
    "trees of LightGBM": ("model.txt", b"tree\nversion=v4\nnum_class=1\n"),
    "trees of XGBoost": ("model.json", b'{"learner":{"gradient_booster":{"model":{}}}}'),
}


@pytest.mark.parametrize(("name", "content"), LIKE_WEIGHTS.values(), ids=LIKE_WEIGHTS)
def test_a_readable_file_that_looks_like_weights_is_found(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    (trouble,) = troubles(folder)
    assert (trouble.path, trouble.readable) == (name, True)
    assert check_files(survey(folder, seal_all=True)) == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"1 2 3", b"[0.1, 0.2]", b"\x08\x01", "žluťoučký".encode() * 500])
def test_small_and_usual_files_do_not_look_like_weights(content: bytes) -> None:
    assert looks_like_weights(content, len(content)) == ""


def test_several_troubles_are_told_at_once(folder: Path) -> None:
    (folder / "config.json").write_bytes(POINTER)
    (folder / FIRST).write_bytes(POINTER)
    assert [trouble.path for trouble in troubles(folder)] == ["config.json", FIRST]
