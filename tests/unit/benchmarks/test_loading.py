"""The sparse model of the benchmarks opens as any other; nothing here asserts how fast anything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import loading, sparse
from benchmarks.harness import Missing
from nodeseal.errors import ProofFailed
from nodeseal.loader import open_model, open_tensors


def test_the_first_tensor_of_the_sparse_model_verifies_and_the_hole_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_TENSORS", 4)
    keys = sparse.sparse_model(tmp_path)
    with open_model(tmp_path / "sealed", keys) as model, open_tensors(model, "model.safetensors") as file:
        first, *_, last = file.offset_keys()
        assert file.get_tensor(first).shape == (4096, 4096)
        with pytest.raises(ProofFailed):
            file.get_tensor(last)


def test_without_pytorch_the_figures_are_missing_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PYTHON", tmp_path / "python")
    with pytest.raises(Missing, match="PyTorch"), loading.worker("loading_worker.py", tmp_path):
        pass
