"""The folder that libraries read configuration from: verified, complete but for weights, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.errors import ProofFailed
from nodeseal.loader import open_model
from nodeseal.loader.readable import readable_folder
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
