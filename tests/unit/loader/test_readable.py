"""The folder that libraries read configuration from: verified, complete but for weights, and gone afterwards."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from nodeseal.errors import PolicyRefused, ProofFailed
from nodeseal.loader import open_model
from nodeseal.loader.readable import folder_in_memory, readable_folder
from support.damage import flip
from support.mappings import left_out_of_core_dumps
from support.sealed import PLAIN_WEIGHTS, plain_model, seal_folder, sealed_model


def test_it_holds_all_but_weights_and_is_gone_afterwards(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model, readable_folder(model) as folder:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        assert found == {"config.json": b'{"architectures":["Tiny"]}', "sub/tokenizer.json": b"{}"}
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_what_was_sealed_is_there_in_memory_only(tmp_path: Path) -> None:
    sample = seal_folder(plain_model(tmp_path / "plain"), tmp_path / "sealed", seal_all=True)
    with open_model(sample.directory, sample.keys) as model, readable_folder(model) as folder:
        paths = [path for path in folder.rglob("*.*") if path.is_file()]
        assert {path.name for path in paths} == {"config.json", "tokenizer.json"}
        assert all(str(path.readlink()).startswith("/proc/self/fd/") for path in paths)
        assert (folder / "config.json").read_bytes() == b'{"architectures":["Tiny"]}'
        assert PLAIN_WEIGHTS not in {path.read_bytes() for path in paths}


def test_a_file_that_changed_after_the_model_was_opened_is_refused(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model:
        (sample.directory / "config.json").write_bytes(b'{"architectures":["Evil"]}')
        with pytest.raises(ProofFailed, match=r"config\.json"), readable_folder(model):
            pass


def test_weights_have_a_path_in_memory_if_they_are_wanted(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model, folder_in_memory(model) as folder:
        assert (folder / "model.safetensors").read_bytes() == PLAIN_WEIGHTS
        assert (folder / "model.safetensors").is_symlink()
        assert (folder / "sub" / "tokenizer.json").read_bytes() == b"{}"
        with folder_in_memory(model, lambda path: path == "config.json") as part:
            assert [path.name for path in part.rglob("*")] == ["config.json"]
    assert not folder.exists()


def test_what_is_still_mapped_after_the_block_is_left_out_of_core_dumps(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model:
        with folder_in_memory(model) as folder, (folder / "model.safetensors").open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert left_out_of_core_dumps(address)
        assert mapped[:] == PLAIN_WEIGHTS


def test_a_weight_that_changed_after_the_model_was_opened_is_refused(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    with open_model(sample.directory, sample.keys) as model:
        flip(sample.weights)
        with pytest.raises(ProofFailed, match=r"model\.safetensors"), folder_in_memory(model):
            pass


def test_no_folder_is_made_after_the_lease_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sealed_model(tmp_path / "model")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    with open_model(sample.directory, sample.keys) as model:
        with folder_in_memory(model) as folder:
            assert folder.parent == tmp_path
        model._lease.end("revoked by ada")
        with pytest.raises(PolicyRefused, match="revoked by ada"), folder_in_memory(model):
            pass
    assert sorted(tmp_path.iterdir()) == before
