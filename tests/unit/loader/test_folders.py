"""Where models lie: a directory and memory; both are believed equally little."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeseal.errors import ProofFailed, Unavailable
from nodeseal.loader import open_model
from nodeseal.loader.folders import Folder, LocalFolder, MemoryFolder
from support.sealed import PLAIN_WEIGHTS, Sample, sealed_model, stored_files


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("folders"))


@pytest.fixture(params=["directory", "memory"])
def folder(request: pytest.FixtureRequest, sample: Sample) -> Folder:
    return (
        LocalFolder(sample.directory) if request.param == "directory" else MemoryFolder(stored_files(sample.directory))
    )


def test_a_model_opens_from(folder: Folder, sample: Sample) -> None:
    with open_model(folder, sample.keys) as model:
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS
        assert bytes(model.read_range("model.safetensors", 5, 9)) == PLAIN_WEIGHTS[5:9]
        assert bytes(model.read("sub/tokenizer.json")) == b"{}"


def test_what_is_not_there_or_ends_early_cannot_be_read(folder: Folder) -> None:
    with pytest.raises(Unavailable, match="nope"):
        folder.open("nope")
    source = folder.open("config.json")
    with pytest.raises(Unavailable):
        source.read_into(memoryview(bytearray(source.size + 1)), 0)
    source.close()


def test_a_file_too_many_in_memory_is_refused(sample: Sample) -> None:
    with pytest.raises(ProofFailed, match=r"evil\.py"):
        open_model(MemoryFolder({**stored_files(sample.directory), "evil.py": b""}), sample.keys)


def test_a_changed_file_in_memory_is_refused(sample: Sample) -> None:
    files = stored_files(sample.directory)
    files["config.json"] = files["config.json"].replace(b"Tiny", b"Evil")
    with pytest.raises(ProofFailed, match=r"config\.json"):
        open_model(MemoryFolder(files), sample.keys)


def test_a_path_may_be_a_text(sample: Sample) -> None:
    open_model(str(sample.directory), sample.keys).close()


def test_folders_name_themselves() -> None:
    assert (str(LocalFolder(Path("/x"))), str(MemoryFolder({}))) == ("/x", "memory")


def test_folders_of_others_on_a_volume_do_not_keep_a_model_from_opening(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = sample.copied_to(tmp_path / "volume").directory
    for name in ("lost+found", "theirs"):
        (directory / name).mkdir()
        (directory / name / "file").write_bytes(b"")
    with pytest.raises(ProofFailed, match="theirs/file"):
        open_model(directory, sample.keys)
    readable = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "theirs" and readable(path, mode))
    open_model(directory, sample.keys).close()
