"""Row s05, interrupted rotation: whatever happens to ``nodeseal reslot``, the model has slots that open."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodeseal.loader import InsecureFileKeys, open_model
from nodeseal.loader.reslot import read_documents, rotated
from support.sealed import Sample, key_file, model_key, sealed_model

# Puts two slots files in each other's place until it is killed; says when it has begun.
ROTATE = """
import sys
from pathlib import Path
from nodeseal.loader.reslot import replace_slots
from nodeseal.sealed.slots import parse_slots

directory, *files = map(Path, sys.argv[1:])
both = [parse_slots(file.read_bytes()) for file in files]
print("rotating", flush=True)
while True:
    for slots in both:
        replace_slots(directory, slots)
"""
# Stops for good between the writing of the draft and its new name.
STOP = """
import signal, sys
from pathlib import Path
Path.replace = lambda *_: (print("rotating", flush=True), signal.pause())
"""


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


@pytest.fixture
def files(sample: Sample, tmp_path: Path) -> tuple[list[Path], list[InsecureFileKeys]]:
    """Two slots files of one model, one with an old key and one with a new one, and what opens each."""
    old = read_documents(sample.directory)[1]
    data_key = sample.private.open_slot(old.model_digest, old.slots[0].key_id, old.slots[0].sealed)
    private, key = model_key(key_id="new")
    new = rotated(old, [key.slot(old.model_digest, data_key)], {sample.key.key_id})
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, slots in zip(paths, (old, new), strict=True):
        path.write_bytes(slots.encode())
    return paths, [sample.keys, InsecureFileKeys(key_file(tmp_path, key, private))]


def killed(program: str, sample: Sample, paths: list[Path], after: float) -> None:
    """Run ``program`` and kill it ``after`` seconds into its rotation."""
    command = [sys.executable, "-c", program, str(sample.directory), *map(str, paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"rotating\n"
        time.sleep(after)
        process.kill()


def opened_by(sample: Sample) -> str:
    """Return the name of the one key that has a slot."""
    (slot,) = read_documents(sample.directory)[1].slots
    return slot.key_id


def verify(sample: Sample, keys: InsecureFileKeys) -> None:
    with open_model(sample.directory, keys) as model:
        model.verify("model.safetensors")


def test_s05_a_rotation_killed_before_the_new_name_leaves_the_old_slots(
    sample: Sample, files: tuple[list[Path], list[InsecureFileKeys]]
) -> None:
    paths, keys = files
    before = (sample.directory / "nodeseal.slots.json").read_bytes()
    killed(STOP + ROTATE, sample, paths[::-1], 0)
    assert (sample.directory / "nodeseal.slots.json").read_bytes() == before
    verify(sample, keys[0])


def test_s05_a_rotation_killed_at_any_moment_leaves_slots_that_open(
    sample: Sample, files: tuple[list[Path], list[InsecureFileKeys]]
) -> None:
    paths, keys = files
    for step in range(8):
        killed(ROTATE, sample, paths, step * 0.003)
        verify(sample, keys[("llama-key", "new").index(opened_by(sample))])
