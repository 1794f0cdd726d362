"""Row s01: every single bit of headers, slots, content and readable files is flipped, one after the other.

Bits of segments, which are too many, have their turn in ``test_s_sealed_files.py``, all bits of short ones in
``tests/unit/crypto/test_floe.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import NodesealError, ProofFailed
from nodeseal.findings import FindingId
from nodeseal.ids import digest_of
from nodeseal.loader import KeyProvider, Lease, open_model
from nodeseal.loader.crew import Crew
from nodeseal.loader.events import Events
from nodeseal.loader.folders import MemoryFolder
from nodeseal.loader.guard import Guard
from nodeseal.loader.opened import OpenFile, ReadSession
from nodeseal.sealed.slots import Slots, parse_slots
from support.sealed import Sample, data_key_of, seal_folder, stored_files

WEIGHTS, HEADER = "model.gguf.sealed", 4096


def sealed(folder: Path, suite: Suite) -> Sample:
    (folder / "plain").mkdir()
    (folder / "plain" / "model.gguf").write_bytes(b"weights")
    (folder / "plain" / "config.json").write_bytes(b'{"a":1}')
    return seal_folder(folder / "plain", folder / "sealed", suite)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed(tmp_path_factory.mktemp("flipped"), Suite.P384)


class Released:
    """Gives the key of one model, whatever the slots hold."""

    def __init__(self, sample: Sample) -> None:
        self._digest, self._key = sample.content.digest, data_key_of(sample)

    def open(self, _: Slots) -> Lease:
        return Lease(self._digest, bytearray(self._key))


def flipped(raw: bytes) -> Iterator[bytes]:
    """Yield ``raw`` with each bit flipped, one at a time."""
    changed = bytearray(raw)
    for bit in range(8 * len(raw)):
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
        changed[bit // 8] ^= 1 << bit % 8


def opens(files: dict[str, bytes], keys: KeyProvider) -> bool:
    try:
        open_model(MemoryFolder(files), keys).close()
    except NodesealError:
        return False
    return True


def test_s01_no_bit_of_content_and_readable_files_can_be_flipped(sample: Sample) -> None:
    files = stored_files(sample.directory)
    assert opens(files, sample.keys)
    for name in ("nodeseal.model.json", "config.json"):
        assert not any(opens({**files, name: changed}, sample.keys) for changed in flipped(files[name]))


@pytest.mark.parametrize("suite", Suite)
def test_s01_no_bit_of_the_slots_can_be_flipped(tmp_path: Path, suite: Suite) -> None:
    sample = sealed(tmp_path, suite)
    files, name = stored_files(sample.directory), "nodeseal.slots.json"
    assert opens(files, sample.keys)
    assert not any(opens({**files, name: changed}, sample.keys) for changed in flipped(files[name]))


def test_s01_no_bit_of_the_content_can_be_flipped_even_if_the_slots_follow(sample: Sample) -> None:
    """An attacker may write slots for a changed content; the digest that was released is the one that counts."""
    files, keys = stored_files(sample.directory), Released(sample)
    old = parse_slots(files["nodeseal.slots.json"])
    assert opens(files, keys)
    for changed in flipped(files["nodeseal.model.json"]):
        slots = Slots(digest_of(changed), old.slots)
        assert not opens({**files, "nodeseal.model.json": changed, "nodeseal.slots.json": slots.encode()}, keys)


def test_s01_no_bit_of_a_header_or_of_its_padding_can_be_flipped(sample: Sample) -> None:
    raw = sample.directory.joinpath(WEIGHTS).read_bytes()
    content, key, (file,) = sample.content, data_key_of(sample), sample.content.sealed()
    crew, events = Crew(), Events()

    def finding(changed: bytes) -> FindingId | None:
        session = ReadSession(Guard(Lease(content.digest, bytearray(key))), crew, events)
        try:
            OpenFile(file, content.model_id, MemoryFolder({WEIGHTS: changed}).open(WEIGHTS), session).close()
        except ProofFailed as error:
            return error.findings[0].id
        return None

    assert finding(raw) is None
    found = {finding(changed + raw[HEADER:]) for changed in flipped(raw[:HEADER])}
    assert found == {FindingId.SEALED_HEADER, FindingId.SEALED_FILE}
