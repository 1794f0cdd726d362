"""vLLM: ``vllm serve DIR --load-format nodeseal``.

vLLM calls :func:`register` in each of its processes, by the entry point ``vllm.general_plugins``; that only names the
loader. Only workers ask for keys, in :meth:`VllmModelLoader.load_weights`. If this module fails to import, vLLM does
not know the format and stops; its own loaders find no weights in a sealed folder.
"""

from __future__ import annotations

from typing import Any

from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from nodeseal.loader import vllm_lora
from nodeseal.loader.serving import check_engine, check_loaded, parse_provider, parse_settings, sealed_weights

LOAD_FORMAT = "nodeseal"
_registered: list[str] = []


class VllmModelLoader(BaseModelLoader):  # type: ignore[misc] # vLLM is no dependency, so mypy does not see its classes
    """Loader of sealed safetensors for vLLM. Each process decrypts only what it keeps."""

    def __init__(self, load_config: Any) -> None:
        """Check the settings.

        Raises:
            ValueError: unknown settings, see :func:`nodeseal.loader.serving.parse_settings`.
            MalformedInput: the key file or the digest is malformed.
            Unavailable: the key file cannot be read.
        """
        super().__init__(load_config)
        self._keys = parse_settings(load_config.model_loader_extra_config)
        vllm_lora.use_keys(parse_provider(load_config.model_loader_extra_config))

    def download_model(self, model_config: Any) -> None:
        """Do nothing: sealed models are read in place."""

    def load_weights(self, model: Any, model_config: Any) -> None:
        """Ask for the key, fill ``model``, wipe the key.

        Raises:
            ProofFailed: the model is not what was sealed.
            PolicyRefused: the node may not open the model.
            ValueError: weights are missing, or :func:`nodeseal.loader.serving.check_engine` refuses the settings.
        """
        check_engine(model_config, model)
        with sealed_weights(model_config.model, self._keys) as weights:
            loaded = model.load_weights(weights)
        check_loaded(model, loaded, quantized=model_config.quantization is not None)


def register() -> None:
    """Register the format with vLLM, once in each process, and let it read sealed adapters."""
    vllm_lora.hook()
    if not _registered:
        register_model_loader(LOAD_FORMAT)(VllmModelLoader)
        _registered.append(LOAD_FORMAT)
