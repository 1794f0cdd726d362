"""Hugging Face transformers over sealed models.

::

    from transformers import AutoModelForCausalLM, AutoTokenizer
    from nodeseal.loader import open_model
    from nodeseal.loader.transformers import from_pretrained

    with open_model("llama") as sealed:
        tokenizer = from_pretrained(sealed, AutoTokenizer)
        model = from_pretrained(sealed, AutoModelForCausalLM)

Configuration, tokenizer and code are read from verified copies, never from the folder itself. Weights are handed over
as values that decrypt when they are indexed, so the library's own threads decrypt them, tensor by tensor. Missing
weights are an error here; the library would fill them with random values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.loader.folders import Folder
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.readable import readable_folder
from nodeseal.loader.tensors import TensorSlice
from nodeseal.loader.torch import DTYPES
from nodeseal.loader.weights import Weights

_OURS: Final = frozenset(
    ("adapter_kwargs", "config", "gguf_file", "ignore_mismatched_sizes", "output_loading_info", "state_dict")
)
_DISK: Final = frozenset(("offload_folder", "offload_state_dict"))
_MAX_NAMES: Final = 10


def from_pretrained(
    place: SealedModel | Folder | Path | str,
    auto_class: Any = None,
    *,
    keys: KeyProvider | None = None,
    on_revoked: Callable[[str], None] = lambda _: None,
    trust_remote_code: bool = False,
    **kwargs: Any,
) -> Any:
    """Return the result of ``auto_class.from_pretrained`` for the sealed model.

    The result stays usable after the sealed model is closed. Core dumps leave its parameters out, unless the library
    converts or moves them.

    Args:
        place: an open model, which stays open; or its place, as in :func:`nodeseal.loader.open_model`.
        auto_class: an ``Auto…`` class of the library or a class of models; None: the class that ``config.json``
            names.
        keys: as in :func:`nodeseal.loader.open_model`; not for open models.
        on_revoked: as in :func:`nodeseal.loader.open_model`, until this returns; not for open models.
        trust_remote_code: run the model's ``*.py`` files, which the content file covers like all others.
        **kwargs: arguments for the library, such as ``dtype`` or ``device_map``.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the node may not open the model, or loses it during the work.
        MalformedInput: weights are missing or surplus, or the model needs code from elsewhere.
        ValueError: an argument would write weights to a disk, or is one that this function sets.
        Unavailable: no agent answers, or a file cannot be read.
    """
    _check_arguments(kwargs)
    if isinstance(place, SealedModel):
        return _load(place, auto_class, trust_remote_code=trust_remote_code, kwargs=kwargs)
    with open_model(place, keys, on_revoked=on_revoked) as model:
        return _load(model, auto_class, trust_remote_code=trust_remote_code, kwargs=kwargs)


def _check_arguments(kwargs: Mapping[str, Any]) -> None:
    if names := _OURS & kwargs.keys():
        raise ValueError(f"{', '.join(sorted(names))}: not with a sealed model")
    device_map = kwargs.get("device_map")
    if _DISK & kwargs.keys() or (isinstance(device_map, dict) and "disk" in device_map.values()):
        raise ValueError("offloading writes weights to a disk as they are")


def _load(model: SealedModel, auto_class: Any, *, trust_remote_code: bool, kwargs: dict[str, Any]) -> Any:
    with readable_folder(model) as folder:
        _check_code(folder, trust_remote_code=trust_remote_code)
        options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        if auto_class is not None and not _makes_models(auto_class):
            made = auto_class.from_pretrained(folder, **options, **kwargs)
            _forget_folder(made)
            return made
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        concrete = _concrete_class(auto_class, config, trust_remote_code=trust_remote_code)
        if "generation_config" not in kwargs and concrete.can_generate():
            kwargs = {**kwargs, "generation_config": _generation_config(folder)}
        with Weights(model) as weights:
            return _fill(concrete, config, weights, kwargs)


def _check_code(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuse code from elsewhere, and sealed code, which the library would write to its cache in the clear."""
    if not trust_remote_code:
        return
    for path in folder.rglob("*.json"):
        if any("--" in reference for reference in _code_references(path)):
            raise MalformedInput(f"{path.name} names code of another repository", remedy="copy it into the model")
    if any(path.is_symlink() for path in folder.rglob("*.py")):
        raise MalformedInput(
            "code that is sealed would be written to a cache readable", remedy="seal the model without --all"
        )


def _code_references(path: Path) -> list[str]:
    found: list[str] = []

    def look(members: dict[str, Any]) -> dict[str, Any]:
        if "auto_map" in members:
            found.append(str(members["auto_map"]))
        return members

    try:
        with suppress(ValueError):  # not a configuration that the library could read either
            json.loads(path.read_bytes(), object_hook=look)
    except RecursionError as error:
        raise MalformedInput(f"{path.name}: nested too deep") from error
    return found


def _forget_folder(made: Any) -> None:
    """Remove the path from a tokenizer or configuration: the folder is deleted, and anybody could make it again."""
    parts: tuple[Any, ...] = (made, getattr(made, "tokenizer", None))
    for part in parts:
        if hasattr(part, "name_or_path"):
            part.name_or_path = ""


def _makes_models(auto_class: Any) -> bool:
    return hasattr(auto_class, "from_config") or issubclass(auto_class, transformers.PreTrainedModel)


def _concrete_class(auto_class: Any, config: Any, *, trust_remote_code: bool) -> Any:
    if auto_class is None:
        name = (config.architectures or [""])[0]
        found = getattr(transformers, name, None)
        if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
            raise MalformedInput(f"no class {name[:80]!a} in transformers", remedy="name an Auto class")
        return found
    if issubclass(auto_class, transformers.PreTrainedModel):
        return auto_class
    with torch.device("meta"):  # nothing is allocated
        return type(auto_class.from_config(config, trust_remote_code=trust_remote_code))


def _generation_config(folder: Path) -> Any:
    """Read the generation configuration as the library does. In older models it is part of ``config.json``."""
    read = transformers.GenerationConfig.from_pretrained
    if (folder / "generation_config.json").exists():
        return read(folder, local_files_only=True)
    return read(folder, config_file_name="config.json", _from_model_config=True, local_files_only=True)


def _fill(concrete: Any, config: Any, weights: Weights, kwargs: dict[str, Any]) -> Any:
    failures: list[NodesealError] = []
    state_dict = {name: _Value(weights.get_slice(name), failures) for name in weights.names()}
    try:
        made, info = concrete.from_pretrained(
            None, config=config, state_dict=state_dict, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
    finally:  # the library makes errors of its own of those that it meets while it reads
        if failures:
            raise failures[0]
        weights.verify_tags()
    _check_complete(info)
    return made


def _check_complete(info: Mapping[str, Any]) -> None:
    odd = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    told = [f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMES])}" for kind, names in odd.items() if names]
    if told:
        raise MalformedInput(f"the weights are not those of the model; {'; '.join(told)}")


class _Value:
    """A weight for the library: a slice of safetensors that also has the type of its elements."""

    def __init__(self, piece: TensorSlice, failures: list[NodesealError]) -> None:
        self._piece: Final = piece
        self._failures: Final = failures
        self.dtype: Final = DTYPES[piece.get_dtype()]
        self.get_shape: Final = piece.get_shape
        self.get_dtype: Final = piece.get_dtype

    def is_floating_point(self) -> bool:
        return bool(self.dtype.is_floating_point)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._piece[index]
        except NodesealError as error:
            self._failures.append(error)
            raise
