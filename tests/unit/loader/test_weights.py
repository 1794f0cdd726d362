"""Weights of several files: exactly what the index says; what is read in parts is still what was sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from nodeseal.crypto import floe
from nodeseal.errors import MalformedInput, NotFound, PolicyRefused, ProofFailed
from nodeseal.loader import SealedModel, open_model
from nodeseal.loader.weights import Weights, parse_index
from nodeseal.sealed.container import PREFIX_SIZE, Layout, decode_header, header_size
from nodeseal.sealed.slots import parse_slots
from support.sealed import SEGMENT, Sample, seal_files

LARGE = np.arange(300_000, dtype="<f4").reshape(600, 500)
FILES = {
    "model-00001-of-00002.safetensors": save({"a": LARGE, "b": np.arange(5)}),
    "model-00002-of-00002.safetensors": save({"c": LARGE + 1}),
    "model.safetensors.index.json": json.dumps(
        {
            "metadata": {"total_size": 1},
            "weight_map": {
                "a": "model-00001-of-00002.safetensors",
                "b": "model-00001-of-00002.safetensors",
                "c": "model-00002-of-00002.safetensors",
            },
        }
    ).encode(),
}
SECOND = "model-00002-of-00002.safetensors"
CAPACITY = SEGMENT - floe.SEGMENT_OVERHEAD


def opened(sample: Sample) -> SealedModel:
    return open_model(sample.directory, sample.keys)


def test_tensors_of_all_files_are_there(tmp_path: Path) -> None:
    with opened(seal_files(tmp_path, FILES)) as model, Weights(model, "np") as weights:
        assert sorted(weights.names()) == ["a", "b", "c"]
        assert np.array_equal(weights.get_slice("a")[...], LARGE)
        assert np.array_equal(weights.get_slice("c")[10:20], (LARGE + 1)[10:20])
        weights.verify_tags()


def test_a_single_file_needs_no_index(tmp_path: Path) -> None:
    files = {"model.safetensors": save({"t": LARGE}), "original/other.safetensors": save({"u": LARGE})}
    with opened(seal_files(tmp_path, files)) as model, Weights(model, "np") as weights:
        assert weights.names() == ["t"]


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path != name}


SPOILED: list[tuple[str, dict[str, bytes], type[Exception], str]] = [
    ("a file that the index names is missing", without(FILES, SECOND), NotFound, "00002"),
    ("a tensor is missing", {**FILES, SECOND: save({"d": LARGE})}, MalformedInput, "2 tensors differ"),
    ("a tensor is one too many", {**FILES, SECOND: save({"c": LARGE, "d": LARGE})}, MalformedInput, "1 tensors"),
    ("a tensor is in the other file", {**FILES, SECOND: save({"c": LARGE, "a": LARGE})}, MalformedInput, "1 tensors"),
    ("no weights", {"adapter.safetensors": save({"a": LARGE})}, MalformedInput, "neither"),
    ("an empty index", {**FILES, "model.safetensors.index.json": b'{"weight_map":{}}'}, MalformedInput, "no tensor"),
]


@pytest.mark.parametrize(
    ("files", "error", "message"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED]
)
def test_refused(tmp_path: Path, files: dict[str, bytes], error: type[Exception], message: str) -> None:
    with opened(seal_files(tmp_path, files)) as model, pytest.raises(error, match=message):
        Weights(model, "np")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"weight_map":[]}', b'{"weight_map":{"a":1}}', b"[" * 100_000, b"\xff"], ids=repr
)
def test_what_is_no_index_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse_index(raw)


def rewrite_segment(sample: Sample, number: int) -> None:
    """Do what somebody else who has the data key could: write a segment that authenticates."""
    stored = sample.directory / f"{SECOND}.sealed"
    raw = bytearray(stored.read_bytes())
    (file,) = (file for file in sample.content.sealed() if file.path == SECOND)
    size = header_size(bytes(raw[:PREFIX_SIZE]), SECOND)
    header = decode_header(bytes(raw[:size]), SECOND)
    (slot,) = parse_slots((sample.directory / "nodeseal.slots.json").read_bytes()).slots
    key = sample.private.open_slot(sample.content.digest, slot.key_id, slot.sealed)
    params = floe.Parameters(SEGMENT)
    state = floe._State(key, header.aad, params, header.floe_header[len(params.encode()) : -floe.HEADER_TAG_SIZE])
    nonce, final = bytes(12), number == Layout(file.size, SEGMENT).count - 1
    content = FILES[SECOND][number * CAPACITY : (number + 1) * CAPACITY]
    sealed = state.cipher(number).encrypt(nonce, content, floe._aead_aad(number, final=final))
    at = size + number * SEGMENT + 4
    raw[at : at + 12 + len(sealed)] = nonce + sealed
    stored.write_bytes(raw)


def read_rows(weights: Weights) -> None:
    weights.get_slice("c")[:10]


def read_nothing(weights: Weights) -> None:
    weights.names()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("read", [read_rows, read_nothing])
def test_segments_written_later_with_the_same_key_are_found(
    tmp_path: Path, number: int, read: Callable[[Weights], None]
) -> None:
    sample = seal_files(tmp_path, FILES)
    rewrite_segment(sample, number)
    with opened(sample) as model, Weights(model, "np") as weights:
        read(weights)
        with pytest.raises(ProofFailed, match="written later with the same data key"):
            weights.verify_tags()


def test_a_segment_that_changes_between_two_reads_is_found(tmp_path: Path) -> None:
    sample = seal_files(tmp_path, FILES)
    with opened(sample) as model, Weights(model, "np") as weights:
        read_rows(weights)
        rewrite_segment(sample, 0)
        with pytest.raises(ProofFailed, match="written later with the same data key"):
            read_rows(weights)


def test_nothing_is_verified_after_the_lease_has_ended(tmp_path: Path) -> None:
    with opened(seal_files(tmp_path, FILES)) as model, Weights(model, "np") as weights:
        model.close()
        with pytest.raises(PolicyRefused):
            weights.verify_tags()
