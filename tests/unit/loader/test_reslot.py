"""Rotation of slots: the data stays, the old slots stay until the new ones are on the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from nodeseal import files
from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, NotFound, Unavailable
from nodeseal.ids import KeyId
from nodeseal.loader import InsecureFileKeys, open_model
from nodeseal.loader.reslot import read_documents, replace_slots, rotated, rotating
from nodeseal.sealed.slots import MAX_SLOTS, Slot, Slots
from support.sealed import Sample, key_file, model_key, sealed_model


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


def new_slot(sample: Sample, key_id: str = "new") -> tuple[Slot, InsecureFileKeys]:
    """Make a slot for a new key, as the verifier does."""
    slots = read_documents(sample.directory)[1]
    data_key = sample.private.open_slot(slots.model_digest, slots.slots[0].key_id, slots.slots[0].sealed)
    private, key = model_key(Suite.MLKEM768_X25519, key_id)
    return key.slot(slots.model_digest, data_key), InsecureFileKeys(key_file(sample.directory.parent, key, private))


def data_of(sample: Sample) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sample.directory.rglob("*")
        if path.is_file() and path.name != "nodeseal.slots.json"
    }


def test_the_new_key_opens_the_old_one_does_not_and_no_other_byte_changed(sample: Sample) -> None:
    before = data_of(sample)
    slot, keys = new_slot(sample)
    old = read_documents(sample.directory)[1]
    replace_slots(sample.directory, rotated(old, [slot], {sample.key.key_id}))
    with open_model(sample.directory, keys) as model:
        assert bytes(model.read("model.safetensors")) == (sample.plain / "model.safetensors").read_bytes()
    with pytest.raises(NotFound):
        open_model(sample.directory, sample.keys)
    assert data_of(sample) == before


def test_without_a_key_to_drop_both_open_and_the_new_one_comes_first(sample: Sample) -> None:
    slot, keys = new_slot(sample)
    slots = rotated(read_documents(sample.directory)[1], [slot])
    replace_slots(sample.directory, slots)
    assert [each.key_id for each in read_documents(sample.directory)[1].slots] == ["new", "llama-key"]
    for each in (keys, sample.keys):
        open_model(sample.directory, each).close()


def test_what_would_be_no_slots_file_is_not_made(sample: Sample) -> None:
    old = read_documents(sample.directory)[1]
    slot, _ = new_slot(sample)
    with pytest.raises(MalformedInput, match="no slot of other to drop"):
        rotated(old, [slot], {KeyId("other")})
    with pytest.raises(MalformedInput, match="two slots for one version"):
        rotated(old, old.slots)
    with pytest.raises(MalformedInput, match="slots"):
        rotated(old, [], {sample.key.key_id})
    full = Slots(old.model_digest, tuple(new_slot(sample, f"k{number}")[0] for number in range(MAX_SLOTS)))
    with pytest.raises(MalformedInput, match="at most 64"):
        rotated(full, [slot])


def test_documents_of_two_models_are_refused(sample: Sample, tmp_path: Path) -> None:
    other = sealed_model(tmp_path, name="other")
    (sample.directory / "nodeseal.slots.json").write_bytes((other.directory / "nodeseal.slots.json").read_bytes())
    with pytest.raises(MalformedInput, match="slots of another model"):
        read_documents(sample.directory)


@pytest.mark.parametrize("step", ["_write", "sync_folder"])
def test_a_disk_that_refuses_leaves_slots_that_open_and_nothing_else(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    slot, _ = new_slot(sample)
    slots = rotated(read_documents(sample.directory)[1], [slot])
    names = sorted(sample.directory.iterdir())

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, step, refuse)
    with pytest.raises(Unavailable, match="No space left"):
        replace_slots(sample.directory, slots)
    assert sorted(sample.directory.iterdir()) == names
    open_model(sample.directory, sample.keys).close()


def test_a_name_that_cannot_be_given_leaves_no_draft(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    slot, _ = new_slot(sample)
    slots = rotated(read_documents(sample.directory)[1], [slot])
    names = sorted(sample.directory.iterdir())

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(Unavailable, match="Read-only"):
        replace_slots(sample.directory, slots)
    assert sorted(sample.directory.iterdir()) == names


def test_everything_is_on_the_disk_before_the_new_slots_have_their_name(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, _ = new_slot(sample)
    slots = rotated(read_documents(sample.directory)[1], [slot])
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    replace_slots(sample.directory, slots)
    assert steps == ["sync", "replace", "sync"]


def test_rotations_at_once_take_turns_and_lose_no_slot(sample: Sample) -> None:
    made = [new_slot(sample, f"k{number}")[0] for number in range(6)]
    threads = [Thread(target=add, args=(sample, slot)) for slot in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    slots = read_documents(sample.directory)[1].slots
    assert {slot.key_id for slot in slots} == {sample.key.key_id} | {slot.key_id for slot in made}


_HOLD = """
import sys
from pathlib import Path
from nodeseal.loader.reslot import rotating
with rotating(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_waits_and_one_that_is_killed_holds_up_nobody(sample: Sample) -> None:
    before = sorted(sample.directory.iterdir())
    slot, _ = new_slot(sample)
    command = [sys.executable, "-c", _HOLD, str(sample.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waiting = Thread(target=add, args=(sample, slot))
        waiting.start()
        waiting.join(0.2)
        assert len(read_documents(sample.directory)[1].slots) == 1
        holder.kill()
    waiting.join(30)
    assert len(read_documents(sample.directory)[1].slots) == 2
    assert sorted(sample.directory.iterdir()) == before


def add(sample: Sample, slot: Slot) -> None:
    with rotating(sample.directory) as old:
        replace_slots(sample.directory, rotated(old, [slot]))


def test_a_folder_that_is_no_sealed_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nodeseal\.model\.json: No such file"), rotating(tmp_path):
        pass
