"""Adapters of PEFT (LoRA and others) from sealed folders, onto models that are sealed or not.

::

    from nodeseal.loader.peft import from_pretrained

    model = from_pretrained(base, "support-lora")  # in the place of PeftModel.from_pretrained(base, "support-lora")

The adapter's files are verified and lie in memory while PEFT itself reads them, so every kind of adapter loads.
Weights that the adapter lacks, or has too many, are errors unless they are allowed by name; PEFT would warn of the
first and ignore the second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import peft
from peft.utils.save_and_load import get_peft_model_state_dict

from nodeseal.errors import MalformedInput
from nodeseal.loader.arguments import not_allowed, refused, sort_arguments
from nodeseal.loader.folders import Folder
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.readable import folder_in_memory
from nodeseal.loader.tensors import open_tensors

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_MAX_NAMES: Final = 10


def from_pretrained(  # noqa: PLR0913 - the library's function has more
    base: Any,
    place: SealedModel | Folder | Path | str,
    adapter_name: str = "default",
    *,
    keys: KeyProvider | None = None,
    on_revoked: Callable[[str], None] = lambda _: None,
    subfolder: str = "",
    allow_missing: Collection[str] = (),
    allow_unexpected: Collection[str] = (),
    **kwargs: Any,
) -> Any:
    """Return the result of ``PeftModel.from_pretrained`` for a sealed adapter.

    Args:
        base: the model that the adapter is for.
        place: an open sealed model, which stays open; or its place, as in :func:`nodeseal.loader.open_model`.
        adapter_name: name of the adapter in the result.
        keys: as in :func:`nodeseal.loader.open_model`; not for open models.
        on_revoked: as in :func:`nodeseal.loader.open_model`, until this returns; not for open models.
        subfolder: folder in the sealed model that holds the adapter.
        allow_missing: weights of the adapter that the file may lack, such as ``*.lora_B.weight``.
        allow_unexpected: weights of the file that the adapter may lack.
        **kwargs: PEFT's arguments, such as ``is_trainable``.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the node may not open the model, or loses it during the work.
        MalformedInput: there is no adapter, or its weights are missing or unexpected.
        ValueError: an argument cannot be honoured; the message names it.
        Unavailable: no agent answers, or a file cannot be read.
    """
    _refuse_hub(kwargs)
    with _opened(place, keys, on_revoked) as model, _adapter(model, subfolder) as folder:
        made = peft.PeftModel.from_pretrained(base, str(folder), adapter_name, **kwargs)
        names = _names(model, subfolder)
    expected = set(get_peft_model_state_dict(made, adapter_name=adapter_name, save_embedding_layers=False))
    _check(expected - names, names - expected, allow_missing, allow_unexpected)
    return made


def load_adapter(  # noqa: PLR0913 - the library's function has more
    model: Any,
    place: SealedModel | Folder | Path | str,
    adapter_name: str = "default",
    *,
    keys: KeyProvider | None = None,
    on_revoked: Callable[[str], None] = lambda _: None,
    subfolder: str = "",
    allow_missing: Collection[str] = (),
    allow_unexpected: Collection[str] = (),
    **kwargs: Any,
) -> Any:
    """Return the result of ``model.load_adapter`` for a sealed adapter: of a ``PeftModel`` or a transformers model.

    Args:
        model: the model that gets the adapter.
        place: as in :func:`from_pretrained`; so are all arguments that follow.
        adapter_name: name of the adapter in the model.
        keys: as in :func:`nodeseal.loader.open_model`; not for open models.
        on_revoked: as in :func:`nodeseal.loader.open_model`, until this returns; not for open models.
        subfolder: folder in the sealed model that holds the adapter.
        allow_missing: weights of the adapter that the file may lack.
        allow_unexpected: weights of the file that the adapter may lack.
        **kwargs: the library's arguments, such as ``is_trainable``.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the node may not open the model, or loses it during the work.
        MalformedInput: there is no adapter, or its weights are missing or unexpected.
        ValueError: an argument cannot be honoured; the message names it.
        Unavailable: no agent answers, or a file cannot be read.
    """
    _refuse_hub(kwargs)
    with _opened(place, keys, on_revoked) as opened, _adapter(opened, subfolder) as folder:
        info = model.load_adapter(str(folder), adapter_name=adapter_name, **kwargs)
    _check(set(info.missing_keys), set(info.unexpected_keys), allow_missing, allow_unexpected)
    return info


def _refuse_hub(kwargs: dict[str, Any]) -> None:
    for name in ("adapter_state_dict", "offload_dir", "peft_config"):
        if kwargs.get(name) is not None:
            raise refused(name, "the weights are those of the sealed adapter, and none are written to a disk")
    sort_arguments(kwargs)


@contextmanager
def _opened(
    place: SealedModel | Folder | Path | str, keys: KeyProvider | None, on_revoked: Callable[[str], None]
) -> Iterator[SealedModel]:
    if isinstance(place, SealedModel):
        yield place
        return
    with open_model(place, keys, on_revoked=on_revoked) as model:
        yield model


@contextmanager
def _adapter(model: SealedModel, subfolder: str) -> Iterator[Path]:
    """Give a folder with the files of the adapter and no other weights."""
    paths = {file.path for file in model.files()}
    wanted = {_path(subfolder, name) for name in (CONFIG, WEIGHTS)}
    if missing := sorted(wanted - paths):
        raise MalformedInput(
            f"the sealed model has no {missing[0]}",
            remedy="name the subfolder= that has the adapter; save it with safe_serialization=True before sealing",
        )
    with folder_in_memory(model, lambda path: path in wanted) as folder:
        yield folder / subfolder


def _names(model: SealedModel, subfolder: str) -> set[str]:
    with open_tensors(model, _path(subfolder, WEIGHTS), "pt") as file:
        return set(file.keys())


def _path(subfolder: str, name: str) -> str:
    folder = subfolder.strip("/")
    return f"{folder}/{name}" if folder else name


def _check(missing: set[str], unexpected: set[str], allow_missing: Collection[str], allow: Collection[str]) -> None:
    odd = {"missing": not_allowed(missing, allow_missing), "unexpected": not_allowed(unexpected, allow)}
    told = [f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMES])}" for kind, names in odd.items() if names]
    if told:
        raise MalformedInput(
            f"the weights are not those of the adapter; {'; '.join(told)}",
            remedy="name the model that the adapter is for; or allow them with allow_missing= or allow_unexpected=",
        )
