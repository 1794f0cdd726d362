"""SGLang: ``python -m sglang.launch_server --model-path DIR --load-format private``.

SGLang calls :func:`register` in each of its processes, by the entry point ``sglang.srt.plugins``. Its load formats are
a closed set. The format ``private`` takes its loader from the module ``sglang.private.private_model_loader``, which
installations lack and :func:`register` adds. If that fails, SGLang finds neither the module nor weights in a sealed
folder.

Models of SGLang do not report which parameters they loaded, so a parameter that the sealed files lack is not noticed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from nodeseal.loader.serving import check_engine, parse_settings, sealed_weights

PRIVATE_MODULE: Final = "sglang.private.private_model_loader"


def register() -> None:
    """Add the loader where ``--load-format private`` looks, once in each process.

    Raises:
        RuntimeError: another loader is there.
    """
    found = sys.modules.setdefault(PRIVATE_MODULE, ModuleType(PRIVATE_MODULE))
    if getattr(found, "PrivateModelLoader", sealed_model_loader) is not sealed_model_loader:
        raise RuntimeError(f"{PRIVATE_MODULE} belongs to somebody else")
    found.PrivateModelLoader = sealed_model_loader  # type: ignore[attr-defined] # a module made here


def sealed_model_loader(load_config: Any) -> Any:
    """Return SGLang's own loader with another source of weights. SGLang is imported here, not at its start.

    Raises:
        ValueError: unknown settings, see :func:`nodeseal.loader.serving.parse_settings`.
        MalformedInput: the key file or the digest is malformed.
        Unavailable: the key file cannot be read.
    """
    from sglang.srt.model_loader.loader import DefaultModelLoader  # noqa: PLC0415 - see above

    keys = parse_settings(load_config.model_loader_extra_config)
    load_config.model_loader_extra_config = {}  # SGLang's own loader refuses keys that it does not know

    class SglangModelLoader(DefaultModelLoader):  # type: ignore[misc] # SGLang is no dependency
        """SGLang's loader, with weights from sealed safetensors."""

        def download_model(self, model_config: Any) -> None:
            """Do nothing: sealed models are read in place."""

        def load_model(self, *, model_config: Any, device_config: Any) -> Any:
            """Ask for the key, make and fill the model, wipe the key."""
            with sealed_weights(model_config.model_path, keys) as self._weights:
                return super().load_model(model_config=model_config, device_config=device_config)

        def _get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
            check_engine(model_config, model)
            return self._weights

    return SglangModelLoader(load_config)
