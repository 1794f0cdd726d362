"""Row s05: sealers and rotations are killed at any moment, and disks are full.

Under a model's name there is a whole model or none, and a model has slots that open.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodeseal.loader import InsecureFileKeys, open_model
from nodeseal.loader.reslot import read_documents, rotated
from support.data import TESTS
from support.sealed import PLAIN_WEIGHTS, Sample, data_key_of, key_file, model_key, plain_model, sealed_model

# Puts two slots files in each other's place until it is killed; says when it has begun.
ROTATE = """
import sys
from pathlib import Path
from nodeseal.loader.reslot import replace_slots
from nodeseal.sealed.slots import parse_slots

directory, *files = map(Path, sys.argv[1:])
both = [parse_slots(file.read_bytes()) for file in files]
print("begun", flush=True)
while True:
    for slots in both:
        replace_slots(directory, slots)
"""
# Seals the same model again and again, each time under another name, until it is killed; says when the first is there.
SEAL = """
import sys
from itertools import count
from pathlib import Path
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed.model_key import parse_model_key
sys.path.insert(0, sys.argv[4])
from support.sealed import label

plain, folder, key = map(Path, sys.argv[1:4])
keys = [parse_model_key(key.read_bytes(), "key")]
for number in count():
    seal_model(survey(plain), folder / str(number), keys, label())
    number or print("begun", flush=True)
"""
# Seals or rotates on a disk that is full before or after the first bytes; says what went wrong, and what is different.
FULL = """
import os, sys
from pathlib import Path
from nodeseal.errors import Unavailable
from nodeseal.loader.reslot import replace_slots
from nodeseal.loader.seal import seal_model
from nodeseal.loader.source import survey
from nodeseal.sealed.slots import parse_slots
sys.path.insert(0, sys.argv[3])
from support.sealed import label, model_key, sealed_model, stored_files

def fill(_=0):
    filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(filler, bytes(4096))
    except OSError:
        os.close(filler)

action, disk = sys.argv[1], Path(sys.argv[2])
sample = sealed_model(disk)
slots = parse_slots((sample.directory / "nodeseal.slots.json").read_bytes())
before = stored_files(disk)
if action != "seal until it is full":
    fill()
try:
    if action == "rotate":
        replace_slots(sample.directory, slots)
    else:
        seal_model(survey(sample.plain), disk / "out", [model_key()[1]], label(), progress=fill)
except Unavailable as error:
    print(error)
(disk / "filler").unlink()
print("as before" if stored_files(disk) == before else "different")
"""
# Stops for good between the writing of the draft and its new name.
STOP = """
import signal, sys
from pathlib import Path
Path.replace = lambda *_: (print("begun", flush=True), signal.pause())
"""


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


@pytest.fixture
def files(sample: Sample, tmp_path: Path) -> tuple[list[Path], list[InsecureFileKeys]]:
    """Two slots files of one model, one with an old key and one with a new one, and what opens each."""
    old = read_documents(sample.directory)[1]
    private, key = model_key(key_id="new")
    new = rotated(old, [key.slot(old.model_digest, data_key_of(sample))], {sample.key.key_id})
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, slots in zip(paths, (old, new), strict=True):
        path.write_bytes(slots.encode())
    return paths, [sample.keys, InsecureFileKeys(key_file(tmp_path, key, private))]


def killed(program: str, arguments: list[Path | str], after: float) -> None:
    """Run ``program`` and kill it ``after`` seconds after it has begun."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(after)
        process.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command's beginning that runs the rest where ``tmp_path / "disk"`` is a disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=2m none {disk} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no small disk can be made: unshare needs user namespaces")
    return command


@pytest.mark.parametrize("action", ["seal", "seal until it is full", "rotate"])
def test_s05_a_full_disk_leaves_everything_as_it_was(small_disk: list[str], tmp_path: Path, action: str) -> None:
    program = [sys.executable, "-c", FULL, action, str(tmp_path / "disk"), str(TESTS)]
    done = subprocess.run([*small_disk, *program], capture_output=True, text=True, check=True)
    failure, difference = done.stdout.splitlines()
    assert "No space left on device" in failure or "bytes are needed" in failure
    assert difference == "as before"


def test_s05_a_sealer_killed_at_any_moment_leaves_whole_models_or_none(tmp_path: Path) -> None:
    plain, moments = plain_model(tmp_path / "plain"), random.Random(5)  # noqa: S311 - the same in every run
    private, key = model_key()
    (tmp_path / "key").write_bytes(key.encode())
    keys = InsecureFileKeys(key_file(tmp_path, key, private))
    for number in range(5):
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        killed(SEAL, [plain, folder, tmp_path / "key", TESTS], moments.random() * 0.05)
        whole = [directory for directory in folder.iterdir() if not directory.name.startswith(".")]
        assert whole
        for directory in whole:
            verify(directory, keys)
    assert (plain / "model.safetensors").read_bytes() == PLAIN_WEIGHTS


def opened_by(sample: Sample) -> str:
    """Return the name of the one key that has a slot."""
    (slot,) = read_documents(sample.directory)[1].slots
    return slot.key_id


def verify(directory: Path, keys: InsecureFileKeys) -> None:
    with open_model(directory, keys) as model:
        model.verify("model.safetensors")


def test_s05_a_rotation_killed_before_the_new_name_leaves_the_old_slots(
    sample: Sample, files: tuple[list[Path], list[InsecureFileKeys]]
) -> None:
    paths, keys = files
    before = (sample.directory / "nodeseal.slots.json").read_bytes()
    killed(STOP + ROTATE, [sample.directory, *paths[::-1]], 0)
    assert (sample.directory / "nodeseal.slots.json").read_bytes() == before
    verify(sample.directory, keys[0])


def test_s05_a_rotation_killed_at_any_moment_leaves_slots_that_open(
    sample: Sample, files: tuple[list[Path], list[InsecureFileKeys]]
) -> None:
    paths, keys = files
    for step in range(8):
        killed(ROTATE, [sample.directory, *paths], step * 0.003)
        verify(sample.directory, keys[("llama-key", "new").index(opened_by(sample))])
