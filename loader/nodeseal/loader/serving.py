"""What the loaders of serving engines share: settings, and weights that are handed over one by one.

The process that loads weights asks for the key, and wipes it after loading: a model that is being served needs none.
From then on the agent enforces revocations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nodeseal.loader.agent_keys import DEFAULT_SOCKET, AgentKeys
from nodeseal.loader.keys import InsecureFileKeys, KeyProvider, OnlyModel
from nodeseal.loader.lazy_tensor import lazy_tensor
from nodeseal.loader.model import open_model
from nodeseal.loader.weights import Weights

SOCKET: Final = "socket"
INSECURE_KEY_FILE: Final = "insecure_key_file"
MODEL_DIGEST: Final = "model_digest"
_SETTINGS: Final = [
    {*source, *pinned} for source in ((), (SOCKET,), (INSECURE_KEY_FILE,)) for pinned in ((), (MODEL_DIGEST,))
]


def parse_settings(extra: Any) -> KeyProvider:
    """Return the key provider of the engine's ``--model-loader-extra-config``.

    Args:
        extra: nothing, ``{"socket": PATH}`` of the agent, or ``{"insecure_key_file": PATH}`` for tests; each with
            ``"model_digest"`` if no other model may open.

    Raises:
        ValueError: unknown settings.
        MalformedInput: the key file or the digest is malformed.
        Unavailable: the key file cannot be read.
    """
    settings = extra or {}
    if not isinstance(settings, Mapping) or settings.keys() not in _SETTINGS:
        names = f"{SOCKET} or {INSECURE_KEY_FILE}, and {MODEL_DIGEST}"
        raise ValueError(f"extra settings of a sealed model are {names}")
    keys = parse_provider(settings)
    return OnlyModel(keys, settings[MODEL_DIGEST]) if MODEL_DIGEST in settings else keys


def parse_provider(extra: Any) -> KeyProvider:
    """Return the provider of the same settings for other models than the served one, such as its adapters.

    Raises:
        MalformedInput: the key file is malformed.
        Unavailable: the key file cannot be read.
    """
    settings = extra or {}
    if INSECURE_KEY_FILE in settings:
        return InsecureFileKeys(Path(settings[INSECURE_KEY_FILE]))
    return AgentKeys(Path(settings.get(SOCKET, DEFAULT_SOCKET)))


@contextmanager
def sealed_weights(place: str, keys: KeyProvider) -> Iterator[Iterator[tuple[str, Any]]]:
    """Open a model and return its weights as pairs of name and tensor. Each tensor decrypts on first use.

    Use all tensors before the block ends; then the keys are wiped.

    Raises:
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model, or the lease ends during the work.
        MalformedInput: a document or file of weights does not parse.
        Unavailable: no agent answers, or a file cannot be read.
    """
    with open_model(place, keys) as model, Weights(model) as weights:
        yield ((name, lazy_tensor(weights.get_slice(name))) for name in weights.names())
        weights.verify_tags()


def check_engine(model_config: Any, model: Any) -> None:
    """Refuse settings that make verified weights worthless.

    Raises:
        ValueError: the model's code may run, which happens before anything is verified; or the model takes weights
            from other places, too.
    """
    if getattr(model_config, "trust_remote_code", False):
        raise ValueError("the engine ran code of the model before it was verified: leave --trust-remote-code out")
    if tuple(getattr(model, "secondary_weights", ())):
        raise ValueError("this model takes weights from other places, which are not sealed")


def check_loaded(model: Any, loaded: set[str] | None, *, quantized: bool) -> None:
    """Refuse a model with parameters that the sealed files lack: they would hold random memory.

    Args:
        model: a PyTorch model.
        loaded: the parameters that the model reports as loaded.
        quantized: whether the model is quantised; parameters of quantised modules may be computed, so they are not
            required.

    Raises:
        ValueError: a parameter is missing, or the model does not report what it loaded.
    """
    if loaded is None:
        raise ValueError(f"{type(model).__name__} does not say which weights it loaded, so none can be missed")
    wanted = {name for name, _ in model.named_parameters()}
    if quantized:
        wanted -= set(_computed(model))
    if missing := sorted(wanted - loaded):
        raise ValueError(f"{len(missing)} weights are missing from the sealed files: {', '.join(missing[:10])}")


def _computed(model: Any) -> Iterator[str]:
    for prefix, module in model.named_modules():
        if getattr(module, "quant_method", None) is not None:
            yield from (f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters())
