"""Serving engines as far as our loaders touch them, under their real names, and NumPy in PyTorch's place.

The real ones are too heavy for every test run; ``tests/integrations_optional`` runs what can be installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from nodeseal.loader import numpy as numpy_framework

_OURS = ("lazy_tensor", "serving", "sglang", "torch", "vllm")


@dataclass
class LoadConfig:
    """Of both engines."""

    model_loader_extra_config: Any = field(default_factory=dict)
    load_format: str = "nodeseal"


@dataclass
class ModelConfig:
    """Of vLLM (``model``) and SGLang (``model_path``)."""

    model: str
    quantization: str | None = None
    trust_remote_code: bool = False

    @property
    def model_path(self) -> str:
        """Return where the model lies."""
        return self.model


class Model:
    """Has parameters, and loads those of them that it is given."""

    def __init__(self, *parameters: str, quantised_modules: tuple[str, ...] = ()) -> None:
        self.values: dict[str, Any] = {}
        self._parameters = parameters
        self._quantised_modules = quantised_modules

    def load_weights(self, weights: Iterator[tuple[str, Any]]) -> set[str] | None:
        """Read everything."""
        for name, tensor in weights:
            self.values[name] = tensor[...]
        return set(self.values)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield names and nothing of use."""
        return ((name, None) for name in self._parameters)

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """Yield a module for each prefix."""
        yield "", Module(None, ())
        for prefix in {name.rpartition(".")[0] for name in self._parameters}:
            names = tuple(name.rpartition(".")[2] for name in self._parameters if name.rpartition(".")[0] == prefix)
            yield prefix, Module("fp8" if prefix in self._quantised_modules else None, names)


class Module:
    """A part of a model."""

    def __init__(self, quant_method: str | None, names: tuple[str, ...]) -> None:
        self.quant_method = quant_method
        self._names = names

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield names and nothing of use."""
        return ((name, None) for name in self._names)


class BaseModelLoader:
    """vLLM's."""

    def __init__(self, load_config: LoadConfig) -> None:
        self.load_config = load_config


class DefaultModelLoader(BaseModelLoader):
    """SGLang's: makes a model and fills it with what ``_get_all_weights`` gives."""

    def __init__(self, load_config: LoadConfig) -> None:
        super().__init__(load_config)
        if load_config.model_loader_extra_config.keys() - {"enable_multithread_load", "num_threads"}:
            raise ValueError("Unexpected extra config keys")

    def load_model(self, *, model_config: Any, device_config: Any) -> Model:
        """Give ``device_config``, which is the model here."""
        made: Model = device_config
        made.load_weights(self._get_all_weights(model_config, made))
        return made

    def _get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
        raise NotImplementedError


class Formats(dict[str, type]):
    """vLLM's load formats; counts registrations."""

    count = 0

    def register_model_loader(self, load_format: str) -> Any:
        """Work as vLLM's decorator."""

        def keep(loader: type) -> type:
            assert issubclass(loader, BaseModelLoader)
            self.count += 1
            self[load_format] = loader
            return loader

        return keep


@contextmanager
def fake_engines() -> Iterator[Formats]:
    """Have ``vllm`` and ``sglang`` importable, and our loaders imported anew over them."""
    formats = Formats()
    modules: dict[str, dict[str, Any]] = {
        "vllm.model_executor.model_loader": {"register_model_loader": formats.register_model_loader},
        "vllm.model_executor.model_loader.base_loader": {"BaseModelLoader": BaseModelLoader},
        "sglang.srt.model_loader.loader": {"DefaultModelLoader": DefaultModelLoader},
        "nodeseal.loader.torch": {"framework": numpy_framework.framework},
        "nodeseal.loader.lazy_tensor": {"lazy_tensor": lambda piece: piece},
    }
    before = dict(sys.modules)
    try:
        for name in _OURS:
            sys.modules.pop(f"nodeseal.loader.{name}", None)
        for name, attributes in modules.items():
            _put(name, attributes)
        yield formats
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith(("nodeseal.loader.", "vllm", "sglang")):
                del sys.modules[name]
        sys.modules.update(before)


def _put(name: str, attributes: dict[str, Any]) -> None:
    for parent in _parents(name):
        sys.modules.setdefault(parent, ModuleType(parent))
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def imported(name: str) -> Any:
    """Import one of our loaders."""
    return importlib.import_module(f"nodeseal.loader.{name}")
