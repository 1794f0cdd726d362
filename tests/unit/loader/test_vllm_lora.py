"""Sealed adapters in vLLM, against a stand-in for its class; ``tests/integrations_optional`` runs the real one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeseal.errors import ProofFailed, Unavailable
from nodeseal.loader import vllm_lora
from support.damage import flip
from support.sealed import Sample, seal_files

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights" * 1000, "other.safetensors": b"w"}
SOURCE = """
from pathlib import Path

class WorkerLoRAManager:
    def _load_adapter(self, request):
        folder = Path(request.lora_path)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

class Cached(WorkerLoRAManager):
    pass
"""


@dataclass
class Request:
    """vLLM's, as far as we touch it."""

    lora_path: str


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return seal_files(tmp_path, FILES)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A stand-in for the module, which is found and not loaded yet."""
    name = "vllm_stand_in"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vllm_lora, "MODULE", name)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield name
    sys.modules.pop(name, None)
    vllm_lora._chosen.clear()


@pytest.mark.parametrize("imported_first", [False, True])
def test_a_sealed_adapter_is_read_from_memory(engine: str, sample: Sample, *, imported_first: bool) -> None:
    if imported_first:
        importlib.import_module(engine)
    vllm_lora.hook()
    vllm_lora.hook()
    vllm_lora.use_keys(sample.keys)
    manager = importlib.import_module(engine).Cached()
    request = Request(str(sample.directory))
    assert manager._load_adapter(request) == {name: FILES[name] for name in vllm_lora._FILES}
    assert request.lora_path == str(sample.directory)
    assert manager._load_adapter(Request(str(sample.plain))) == FILES
    assert not [finder for finder in sys.meta_path if isinstance(finder, vllm_lora._AdapterFinder)]


def test_a_changed_adapter_is_refused(engine: str, sample: Sample) -> None:
    vllm_lora.hook()
    vllm_lora.use_keys(sample.keys)
    flip(sample.directory / "adapter_model.safetensors.sealed")
    with pytest.raises(ProofFailed, match="adapter_model"):
        importlib.import_module(engine).WorkerLoRAManager()._load_adapter(Request(str(sample.directory)))


def test_without_settings_the_agent_is_asked(engine: str, sample: Sample) -> None:
    vllm_lora.hook()
    with pytest.raises(Unavailable, match=r"agent|socket"):
        importlib.import_module(engine).WorkerLoRAManager()._load_adapter(Request(str(sample.directory)))
