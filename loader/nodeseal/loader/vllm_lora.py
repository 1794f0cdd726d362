"""Sealed adapters in vLLM: ``--lora-modules`` and ``/v1/load_lora_adapter`` with the path of a sealed folder.

vLLM reads adapters in its workers, with a function of one class. :func:`hook` puts ours around it when vLLM imports
that class: an adapter in a sealed folder is verified and lies in memory while vLLM reads it. Without the hook, vLLM
finds no tensors in a sealed folder and refuses it. Importing the class ourselves would slow the start of every process.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from nodeseal.loader.agent_keys import AgentKeys
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.model import open_model
from nodeseal.loader.readable import folder_in_memory
from nodeseal.sealed.paths import CONTENT_NAME

MODULE: Final = "vllm.lora.worker_manager"
_FILES: Final = frozenset(("adapter_config.json", "adapter_model.safetensors"))
_chosen: Final[list[KeyProvider]] = []


def hook() -> None:
    """Let vLLM read adapters from sealed folders, now or when it imports the class that does it."""
    if MODULE in sys.modules:
        _wrap(sys.modules[MODULE])
    elif not any(isinstance(finder, _AdapterFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AdapterFinder())


def use_keys(keys: KeyProvider) -> None:
    """Open adapters with these keys; the agent's are used where the model is not sealed itself."""
    _chosen[:] = [keys]


class _AdapterFinder(MetaPathFinder):
    """Finds the module as Python does, and wraps its class after it was loaded."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's interface
        target: ModuleType | None = None,  # noqa: ARG002 - Python's interface
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _WrappingLoader(spec.loader)
        return spec


class _WrappingLoader(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader: Final = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _wrap(module)


def _wrap(module: ModuleType) -> None:
    manager: Any = module.WorkerLoRAManager
    if not hasattr(manager, "_nodeseal_plain"):
        manager._nodeseal_plain = manager._load_adapter  # noqa: SLF001 - vLLM has no other place for this
        manager._load_adapter = _load_adapter  # noqa: SLF001 - see above


def _load_adapter(manager: Any, request: Any) -> Any:
    """Load an adapter as vLLM does, from memory if its folder is sealed.

    Raises:
        ProofFailed: the adapter is not what was sealed.
        PolicyRefused: the node may not open it.
        Unavailable: no agent answers, or a file cannot be read.
    """
    plain: Callable[[Any], Any] = manager._nodeseal_plain  # noqa: SLF001 - set above
    if not (Path(request.lora_path) / CONTENT_NAME).is_file():
        return plain(request)
    keys = _chosen[0] if _chosen else AgentKeys()
    with open_model(request.lora_path, keys) as model, folder_in_memory(model, _FILES.__contains__) as folder:
        moved = copy.copy(request)
        moved.lora_path = str(folder)
        return plain(moved)
