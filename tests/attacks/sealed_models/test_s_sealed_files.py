"""Attacks on sealed files, through the loader's public API: a clear error, and no plaintext from the bad place on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodeseal.crypto import floe
from nodeseal.crypto.floe import Parameters
from nodeseal.crypto.hpke import ModelPrivateKey
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.ids import digest_of
from nodeseal.loader import InsecureFileKeys, open_model
from nodeseal.loader.numpy import load_file
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from nodeseal.loader.staging import leftovers
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import SealedFile
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.slots import Slots, parse_slots
from support.data import TESTS
from support.gcm import opens_under_both
from support.sealed import (
    PLAIN_WEIGHTS,
    SEGMENT,
    Sample,
    data_key_of,
    key_file,
    label,
    model_key,
    plain_model,
    sealed_model,
)

HEADER = 4096
SEALED_FINDINGS = {FindingId.SEALED_HEADER, FindingId.SEALED_SEGMENT, FindingId.SEALED_FILE}


def refused(sample: Sample) -> FindingId:
    """Load the weights, which must fail; return what was found."""
    with pytest.raises(ProofFailed) as caught:
        load_file(sample.directory / "model.safetensors", keys=sample.keys)
    finding = caught.value.findings[0]
    assert finding.id in SEALED_FINDINGS
    assert finding.where == "model.safetensors.sealed"
    return finding.id


def segments_of(sample: Sample) -> tuple[bytes, list[bytes]]:
    raw = sample.weights.read_bytes()
    body = raw[HEADER:]
    return raw[:HEADER], [body[at : at + SEGMENT] for at in range(0, len(body), SEGMENT)]


def rewrite(sample: Sample, header: bytes, segments: list[bytes]) -> None:
    sample.weights.write_bytes(header + b"".join(segments))


def test_s00_the_good_case_opens(sample: Sample) -> None:
    with open_model(sample.directory, sample.keys) as model:
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def _interesting_bits(segments: int, size: int) -> list[int]:
    """Bits of length, IV, first, some and last bytes of ciphertext, and tag of each segment."""
    offsets = []
    for index in range(segments):
        start, stop = index * SEGMENT, min((index + 1) * SEGMENT, size)
        offsets += [*range(start, start + 20), *range(start + 20, stop, 50_021), *range(stop - 17, stop)]
    return [8 * (HEADER + offset) + offset % 8 for offset in offsets]


def test_s01_a_flipped_bit_in_any_segment_is_found(sample: Sample) -> None:
    size = sample.weights.stat().st_size - HEADER
    for bit in _interesting_bits(3, size):
        _flip(sample.weights, bit)
        assert refused(sample) is FindingId.SEALED_SEGMENT
        _flip(sample.weights, bit)
    load_file(sample.directory / "model.safetensors", keys=sample.keys)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 31, 32, 33, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT])
def test_s02_a_truncated_file_is_found(sample: Sample, cut: int) -> None:
    os.truncate(sample.weights, sample.weights.stat().st_size - cut)
    assert refused(sample) is FindingId.SEALED_FILE


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100, HEADER - 1, HEADER])
def test_s02_a_file_that_ends_in_its_header_is_found(sample: Sample, size: int) -> None:
    os.truncate(sample.weights, size)
    assert refused(sample) in (FindingId.SEALED_HEADER, FindingId.SEALED_FILE)


Order = Callable[[list[bytes]], list[bytes]]
ORDERS: dict[str, Order] = {
    "swapped": lambda s: [s[1], s[0], s[2]],
    "repeated": lambda s: [s[0], s[0], s[2]],
    "repeated and longer": lambda s: [s[0], s[1], s[1], s[2]],
    "dropped": lambda s: [s[0], s[2]],
    "last one dropped": lambda s: s[:2],
    "last one twice": lambda s: [*s, s[2]],
    "appended bytes": lambda s: [*s, b"\0"],
    "appended segment": lambda s: [*s, bytes(SEGMENT)],
    "empty": lambda _: [],
}


@pytest.mark.parametrize("why", ORDERS)
def test_s02_segments_out_of_order_are_found(sample: Sample, why: str) -> None:
    header, segments = segments_of(sample)
    rewrite(sample, header, ORDERS[why](segments))
    assert refused(sample) in (FindingId.SEALED_SEGMENT, FindingId.SEALED_FILE)


def test_s02_two_files_of_one_model_spliced_are_found(tmp_path: Path) -> None:
    plain = plain_model(tmp_path / "plain")
    shutil.copy(plain / "model.safetensors", plain / "twin.safetensors")
    private, key = model_key()
    content = seal_model(survey(plain), tmp_path / "out", [key], label())
    sample = Sample(
        plain=plain,
        directory=tmp_path / "out",
        keys=_keys(tmp_path, key, private),
        private=private,
        key=key,
        content=content,
    )
    header, segments = segments_of(sample)
    twin = (tmp_path / "out" / "twin.safetensors.sealed").read_bytes()[HEADER:]
    rewrite(sample, header, [segments[0], twin[SEGMENT : 2 * SEGMENT], segments[2]])
    assert refused(sample) is FindingId.SEALED_SEGMENT


def test_s02_a_file_of_the_model_under_another_name_is_found(tmp_path: Path) -> None:
    plain = plain_model(tmp_path / "plain")
    shutil.copy(plain / "model.safetensors", plain / "twin.safetensors")
    private, key = model_key()
    seal_model(survey(plain), tmp_path / "out", [key], label())
    shutil.copy(tmp_path / "out" / "twin.safetensors.sealed", tmp_path / "out" / "model.safetensors.sealed")
    with pytest.raises(ProofFailed) as caught:
        open_model(tmp_path / "out", _keys(tmp_path, key, private))
    assert [finding.where for finding in caught.value.findings] == ["model.safetensors.sealed"]


def test_s02_an_earlier_version_of_a_shard_is_found(sample: Sample, tmp_path: Path) -> None:
    (weights,) = sample.content.sealed()
    shutil.copy(sealed_model(tmp_path / "old").weights, sample.weights)
    assert sample.weights.stat().st_size == HEADER + Layout(weights.size, weights.segment_size).body_size
    assert refused(sample) is FindingId.SEALED_HEADER


def test_s03_a_ciphertext_that_opens_under_two_keys_is_stopped_by_its_header() -> None:
    """AES-GCM alone does not commit to its key; FLOE's header does, and it is checked before any segment."""
    key, other = bytes(32), bytes([1]) * 32
    nonce, aad = bytes(12), b"\0" * 8 + b"\1"
    body = opens_under_both(key, other, nonce, aad)
    assert AESGCM(key).decrypt(nonce, body, aad) != AESGCM(other).decrypt(nonce, body, aad)

    header = floe.Encryptor(key, b"", Parameters(SEGMENT)).header
    floe.Decryptor(key, b"", header, Parameters(SEGMENT))
    with pytest.raises(ProofFailed) as caught:
        floe.Decryptor(other, b"", header, Parameters(SEGMENT))
    assert caught.value.findings[0].id is FindingId.SEALED_HEADER


def test_s03_the_commitment_is_checked_before_any_segment_is_touched(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[object] = []
    monkeypatch.setattr(floe.Decryptor, "decrypt_into", lambda *args, **_: touched.append(args))
    other = sealed_model(tmp_path / "other")
    digest = sample.content.digest
    slots = Slots(digest, (sample.key.slot(digest, data_key_of(other)),))
    (sample.directory / "nodeseal.slots.json").write_bytes(slots.encode())
    assert refused(sample) is FindingId.SEALED_HEADER
    assert touched == []


@pytest.mark.parametrize(
    "size", [10 << 30, (1 << 50), (1 << 50) - 1, SEGMENT - 32], ids=["10 GB", "1 PiB", "1 PiB - 1", "one segment"]
)
def test_s04_a_size_that_exceeds_the_file_is_refused_before_allocation(
    sample: Sample, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(sample.weights, HEADER + 1024)
    _declare(sample, size=size)
    largest = [0]
    monkeypatch.setattr("nodeseal.loader.opened.allocate", largest.append)
    assert refused(sample) is FindingId.SEALED_FILE
    assert largest == [0]


@pytest.mark.parametrize("size", [-1, (1 << 50) + 1, 1 << 63, 1 << 64, 1.5, "1"])
def test_s04_a_size_out_of_range_is_refused(sample: Sample, size: object) -> None:
    value = json.loads(sample.content.encode())
    value["files"][1]["size"] = size
    _replace_content(sample, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(MalformedInput):
        open_model(sample.directory, sample.keys)


@pytest.mark.parametrize("length", [0, 1, 65536, 65537, 0xFFFFFFFF])
def test_s04_a_meta_length_that_lies_is_refused(sample: Sample, length: int) -> None:
    raw = bytearray(sample.weights.read_bytes())
    raw[12:16] = length.to_bytes(4, "big")
    sample.weights.write_bytes(raw)
    assert refused(sample) in (FindingId.SEALED_HEADER, FindingId.SEALED_FILE)


def test_s04_a_hundred_thousand_files_are_refused(sample: Sample) -> None:
    plain = b'{"kind":"plain","path":"%06d","sha256":"' + b"0" * 64 + b'","size":0}'
    files = b",".join(plain % index for index in range(9000))
    raw = (
        b'{"created":"2026-01-31T12:00:00Z","files":[%s],"format":"nodeseal/model/1","model_id":"a","version":1}'
        % files
    )
    _replace_content(sample, raw)
    with pytest.raises(MalformedInput, match="at most 8192"):
        open_model(sample.directory, sample.keys)


_SEAL = """
import os
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
sys.path.insert(0, sys.argv[3])
from support.sealed import label, model_key
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
def wait(_):
    os.write(1, b"sealing\\n")  # whole lines, from several threads
    sys.stdin.read()
seal_model(survey(Path(sys.argv[1])), Path(sys.argv[2]), [model_key()[1]], label(), progress=wait)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_s05_an_interrupted_sealer_leaves_nothing_under_the_final_name(tmp_path: Path, signum: int) -> None:
    plain = plain_model(tmp_path / "plain")
    command = [sys.executable, "-c", _SEAL, str(plain), str(tmp_path / "out"), str(TESTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sealer:
        assert sealer.stdout is not None
        assert sealer.stdout.readline() == b"sealing\n"
        sealer.send_signal(signum)
        sealer.communicate(timeout=30)
    assert sealer.returncode != 0
    assert not (tmp_path / "out").exists()
    assert len(leftovers(tmp_path / "out")) == (signum == signal.SIGKILL)
    assert (plain / "model.safetensors").read_bytes() == PLAIN_WEIGHTS


def test_s05_a_model_that_exists_is_never_overwritten(sample: Sample) -> None:
    before = {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()}
    with pytest.raises(MalformedInput, match="exists already"):
        seal_model(survey(sample.plain), sample.directory, [sample.key], label())
    assert {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()} == before


def test_k06_a_slot_of_another_model_does_not_open(sample: Sample, tmp_path: Path) -> None:
    other = sealed_model(tmp_path / "other")
    stolen = other.key.slot(other.content.digest, bytes(32))
    moved = replace(stolen, key_id=sample.key.key_id)
    (sample.directory / "nodeseal.slots.json").write_bytes(Slots(sample.content.digest, (moved,)).encode())
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, sample.keys)
    assert caught.value.findings[0].id is FindingId.RELEASE_SLOT


def test_k06_a_slot_made_for_another_model_with_the_same_key_does_not_open(sample: Sample) -> None:
    slots = parse_slots((sample.directory / "nodeseal.slots.json").read_bytes())
    content = replace(sample.content, version=2)
    (sample.directory / "nodeseal.model.json").write_bytes(content.encode())
    (sample.directory / "nodeseal.slots.json").write_bytes(Slots(content.digest, slots.slots).encode())
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, sample.keys)
    assert caught.value.findings[0].id is FindingId.RELEASE_SLOT


def test_k06_the_header_of_another_file_does_not_open(sample: Sample, tmp_path: Path) -> None:
    header, _ = segments_of(sealed_model(tmp_path / "other"))
    _, segments = segments_of(sample)
    rewrite(sample, header, segments)
    assert refused(sample) is FindingId.SEALED_HEADER


def _keys(folder: Path, key: ModelKey, private: ModelPrivateKey) -> InsecureFileKeys:
    return InsecureFileKeys(key_file(folder, key, private))


def _declare(sample: Sample, *, size: object) -> None:
    """Declare another size of the weights and make slots for the changed content."""
    files = [replace(f, size=size) if isinstance(f, SealedFile) else f for f in sample.content.files]  # type: ignore[arg-type]  # hostile
    _replace_content(sample, replace(sample.content, files=tuple(files)).encode())


def _replace_content(sample: Sample, raw: bytes) -> None:
    data_key, digest = data_key_of(sample), digest_of(raw)
    (sample.directory / "nodeseal.model.json").write_bytes(raw)
    (sample.directory / "nodeseal.slots.json").write_bytes(Slots(digest, (sample.key.slot(digest, data_key),)).encode())
