"""Sealing again: the same plaintext under another data key, from ciphertext to ciphertext."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed
from nodeseal.loader import InsecureFileKeys, SealedModel, open_model
from nodeseal.loader.reseal import next_label, reseal_model
from nodeseal.sealed.content import Content
from support.sealed import (
    CREATED,
    PLAIN_WEIGHTS,
    Sample,
    key_file,
    model_key,
    rewrite_first_segment,
    sealed_model,
)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "again"


def resealed(model: SealedModel, target: Path) -> tuple[Content, InsecureFileKeys]:
    private, key = model_key(Suite.MLKEM768_X25519, "new")
    content = reseal_model(model, target, [key], next_label(model.content, CREATED))
    return content, InsecureFileKeys(key_file(target.parent, key, private))


def plaintexts(directory: Path, keys: InsecureFileKeys) -> dict[str, bytes]:
    with open_model(directory, keys) as model:
        return {file.path: bytes(model.read(file.path)) for file in model.files()}


def test_the_new_model_is_the_old_one_in_its_next_version(sample: Sample, target: Path) -> None:
    with open_model(sample.directory, sample.keys) as model:
        content, keys = resealed(model, target)
    assert (content.model_id, content.version) == ("tiny", 2)
    assert plaintexts(target, keys) == plaintexts(sample.directory, sample.keys)


def test_neither_the_old_data_key_nor_the_old_model_key_opens_the_new_model(sample: Sample, target: Path) -> None:
    with open_model(sample.directory, sample.keys) as model:
        content, _ = resealed(model, target)
    with pytest.raises(NodesealError):
        open_model(target, sample.keys)
    old, new = sample.content.digest, content.digest
    assert old != new
    old_files = {file.path: file for file in sample.content.sealed()}
    for file in content.sealed():
        assert file.header_tag != old_files[file.path].header_tag
        assert file.file_id != old_files[file.path].file_id
        assert file.tags_digest != old_files[file.path].tags_digest


@pytest.mark.parametrize("version", [0, 1])
def test_a_version_that_is_not_later_is_refused(sample: Sample, version: int) -> None:
    with pytest.raises(MalformedInput, match="not later than 1"):
        next_label(sample.content, CREATED, version)
    assert next_label(sample.content, CREATED, 7).version == 7


def test_a_flipped_bit_anywhere_in_the_old_ciphertext_leaves_no_new_model(sample: Sample, target: Path) -> None:
    with open_model(sample.directory, sample.keys) as model:
        raw = bytearray(sample.weights.read_bytes())
        raw[-1] ^= 1
        sample.weights.write_bytes(raw)
        with pytest.raises(ProofFailed):
            resealed(model, target)
    assert [path.name for path in target.parent.iterdir() if "again" in path.name] == []


def test_what_somebody_with_the_data_key_rewrote_is_not_sealed_again(sample: Sample, target: Path) -> None:
    rewrite_first_segment(sample)
    with open_model(sample.directory, sample.keys) as model:
        assert bytes(model.read_range("model.safetensors", 0, 8)) == bytes(8)
        with pytest.raises(ProofFailed, match="segments written later"):
            resealed(model, target)
    assert not target.exists()


def test_the_end_of_the_lease_ends_it_and_leaves_nothing(sample: Sample, target: Path) -> None:
    with open_model(sample.directory, sample.keys) as model:
        private, key = model_key(key_id="new")
        private.wipe()

        def revoke(_: int) -> None:
            model.close()

        with pytest.raises(PolicyRefused):
            reseal_model(model, target, [key], next_label(model.content, CREATED), progress=revoke)
    assert [path.name for path in target.parent.iterdir() if "again" in path.name] == []


def test_no_plaintext_is_written(sample: Sample, target: Path) -> None:
    with open_model(sample.directory, sample.keys) as model:
        resealed(model, target)
    needle = PLAIN_WEIGHTS[1000:1064]
    for path in target.rglob("*"):
        assert path.is_dir() or needle not in path.read_bytes()


def test_progress_counts_every_byte_once(sample: Sample, target: Path) -> None:
    done: list[int] = []
    with open_model(sample.directory, sample.keys) as model:
        _, key = model_key(key_id="new")
        reseal_model(model, target, [key], next_label(model.content, CREATED), progress=done.append)
    assert sum(done) == sample.content.size
