"""Hugging Face transformers over sealed models.

::

    from transformers import AutoModelForCausalLM, AutoTokenizer
    from nodeseal.loader import open_model
    from nodeseal.loader.transformers import from_pretrained

    with open_model("llama") as sealed:
        tokenizer = from_pretrained(sealed, AutoTokenizer)
        model = from_pretrained(sealed, AutoModelForCausalLM)

Configuration, tokenizer and code are read from verified copies, never from the folder itself. Weights are handed over
as values that decrypt when they are indexed, so the library's own threads decrypt them, tensor by tensor. Missing and
unexpected weights are errors here, unless they are allowed by name; the library would fill missing ones with random
values. Arguments are honoured or refused (:mod:`nodeseal.loader.arguments`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.loader.arguments import Arguments, not_allowed, refuse_unknown, refused, sort_arguments
from nodeseal.loader.folders import Folder
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.readable import readable_folder
from nodeseal.loader.references import check_member, check_references
from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.loader.torch import DTYPES
from nodeseal.loader.weights import Weights, WeightsChoice

_CONFIG: Final = "config.json"
_ADAPTER: Final = "adapter_config.json"
_CUSTOM_GENERATE: Final = "custom_generate/generate.py"
_MAX_NAMES: Final = 10


def from_pretrained(  # noqa: PLR0913 - the library's function has more
    place: SealedModel | Folder | Path | str,
    auto_class: Any = None,
    *,
    keys: KeyProvider | None = None,
    on_revoked: Callable[[str], None] = lambda _: None,
    trust_remote_code: bool = False,
    allow_missing: Collection[str] = (),
    allow_unexpected: Collection[str] = (),
    **kwargs: Any,
) -> Any:
    """Return the result of ``auto_class.from_pretrained`` for the sealed model.

    The result stays usable after the sealed model is closed. Core dumps leave its parameters out, unless the library
    converts or moves them. An adapter in the folder is loaded, too, as the library does.

    Args:
        place: an open model, which stays open; or its place, as in :func:`nodeseal.loader.open_model`.
        auto_class: an ``Auto…`` class of the library or a class of models; None: the class that ``config.json``
            names.
        keys: as in :func:`nodeseal.loader.open_model`; not for open models.
        on_revoked: as in :func:`nodeseal.loader.open_model`, until this returns; not for open models.
        trust_remote_code: run the model's ``*.py`` files, which the content file covers like all others, and let the
            library fetch kernels of a hub that the configuration or an argument names.
        allow_missing: weights of the model that the files may lack, such as ``score.weight`` or ``mtp.*``. The library
            fills them with random values and warns.
        allow_unexpected: weights of the files that the model may lack, such as ``lm_head.*``. The library warns.
        **kwargs: the library's arguments, such as ``dtype``, ``variant`` or ``num_labels``.

    Raises:
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the node may not open the model, or loses it during the work.
        MalformedInput: weights are missing or unexpected, or the model names code or kernels from elsewhere.
        ValueError: an argument cannot be honoured; the message names it.
        Unavailable: no agent answers, a file cannot be read, or a package is not installed.
    """
    arguments = sort_arguments(kwargs, trust_remote_code=trust_remote_code)
    load = partial(_load, auto_class=auto_class, arguments=arguments, allowed=_Allowed(allow_missing, allow_unexpected))
    if isinstance(place, SealedModel):
        return load(place)
    with open_model(place, keys, on_revoked=on_revoked) as model:
        return load(model)


class _Allowed:
    """The weights that may be missing or unexpected."""

    def __init__(self, missing: Collection[str], unexpected: Collection[str]) -> None:
        for name, patterns in (("allow_missing", missing), ("allow_unexpected", unexpected)):
            if isinstance(patterns, str):
                raise refused(name, "it is a list of names")
        self._missing: Final = missing
        self._unexpected: Final = unexpected

    def check(self, info: Mapping[str, Any], arguments: Arguments) -> None:
        """Refuse a result with other weights than the model's.

        Args:
            info: what the library says of the weights.
            arguments: of the call; its keywords may have changed the model.

        Raises:
            MalformedInput: the message names the first weights of each kind.
        """
        odd = {
            "missing": not_allowed(set(info["missing_keys"]), self._missing),
            "unexpected": not_allowed(set(info["unexpected_keys"]), self._unexpected),
            "mismatched": sorted(map(str, info["mismatched_keys"])),
        }
        if arguments.passed.get("ignore_mismatched_sizes"):
            odd["mismatched"] = []
        told = [f"{len(names)} {kind}: {', '.join(names[:_MAX_NAMES])}" for kind, names in odd.items() if names]
        if told:
            changed = "".join(f", {name}=" for name in sorted(arguments.keywords))
            raise MalformedInput(
                f"the weights are not those of the model{f' with {changed[2:]}' if changed else ''}; {'; '.join(told)}",
                remedy="name another class; or allow them by name with allow_missing= or allow_unexpected=, and those"
                " of another shape with ignore_mismatched_sizes=True",
            )


def _load(model: SealedModel, *, auto_class: Any, arguments: Arguments, allowed: _Allowed) -> Any:
    with readable_folder(model) as folder:
        check_references(folder, trust_remote_code=arguments.trust_remote_code)
        _refuse_sealed_code(folder, arguments)
        if auto_class is not None and not _makes_models(auto_class):
            return _load_other(auto_class, folder, arguments)
        choice, config, concrete, built = _choose(folder, auto_class, arguments)
        with Weights(model, choice=choice) as weights:
            made, info = _fill(concrete, config, weights, {**arguments.passed, **built})
        allowed.check(info, arguments)
        _use_custom_generate(made, folder, arguments)
        if (adapter := _adapter_folder(folder, arguments)) is not None:
            info = _load_adapter(made, model, adapter, arguments)
    return (made, info) if arguments.handled.get("output_loading_info") else made


def _load_other(auto_class: Any, folder: Path, arguments: Arguments) -> Any:
    """Load what is no model: a tokenizer, a configuration, a processor. They keep the arguments that they know."""
    handled = {name: value for name, value in arguments.handled.items() if name != "local_files_only"}
    options = {"local_files_only": True, "trust_remote_code": arguments.trust_remote_code}
    made = auto_class.from_pretrained(folder, **options, **arguments.passed, **handled, **arguments.keywords)
    _forget_folder(made)
    return made


def _refuse_sealed_code(folder: Path, arguments: Arguments) -> None:
    """Refuse sealed code, which the library would write to its cache in the clear."""
    if arguments.trust_remote_code and any(path.is_symlink() for path in folder.rglob("*.py")):
        raise MalformedInput(
            "code that is sealed would be written to a cache readable", remedy="seal the model without --all"
        )


def _forget_folder(made: Any) -> None:
    """Remove the path from a tokenizer or configuration: the folder is deleted, and anybody could make it again."""
    parts: tuple[Any, ...] = (made, getattr(made, "tokenizer", None))
    for part in parts:
        if hasattr(part, "name_or_path"):
            part.name_or_path = ""


def _makes_models(auto_class: Any) -> bool:
    return hasattr(auto_class, "from_config") or issubclass(auto_class, transformers.PreTrainedModel)


def _choose(folder: Path, auto_class: Any, arguments: Arguments) -> tuple[WeightsChoice, Any, Any, dict[str, Any]]:
    """Return the weights, configuration and class that are asked for, and the arguments that the class takes."""
    config, left = _configuration(folder, auto_class, arguments)
    _refuse_kernels(config, arguments)
    concrete, config = _concrete_class(auto_class, config, trust_remote_code=arguments.trust_remote_code)
    refuse_unknown(left, partial(_takes, concrete), concrete.__name__)
    choice = WeightsChoice(
        subfolder=arguments.text("subfolder"),
        variant=arguments.text("variant"),
        name=getattr(config, "transformers_weights", None) or "",
        extra=tuple(type(config).extra_files),
        single_first=True,
    )
    if concrete.can_generate():
        left = {**left, "generation_config": _generation_config(folder, auto_class, arguments)}
    return choice, config, concrete, left


def _configuration(folder: Path, auto_class: Any, arguments: Arguments) -> tuple[Any, dict[str, Any]]:
    """Return the configuration with all keywords that it has, and the keywords that it does not have."""
    given = arguments.handled.get("config")
    if isinstance(given, transformers.PretrainedConfig):
        for key, value in given.to_dict().items():
            check_member("config=", key, value, trust_remote_code=arguments.trust_remote_code)
        return given, dict(arguments.keywords)
    if given is not None:
        raise refused("config", "name a configuration object, since nothing is read from elsewhere")
    subfolder = arguments.text("subfolder")
    if not (folder / subfolder / _CONFIG).is_file():
        raise _no_config(folder, subfolder)
    is_class = isinstance(auto_class, type) and issubclass(auto_class, transformers.PreTrainedModel)
    reader = auto_class.config_class if is_class and auto_class.config_class else transformers.AutoConfig
    code = {} if reader is not transformers.AutoConfig else {"trust_remote_code": arguments.trust_remote_code}
    options = {"local_files_only": True, "subfolder": subfolder, "return_unused_kwargs": True, **code}
    config, left = reader.from_pretrained(folder, **options, **arguments.keywords)
    return config, {name: value for name, value in left.items() if name in arguments.keywords}


def _no_config(folder: Path, subfolder: str) -> MalformedInput:
    place = f"subfolder={subfolder[:80]!a}: " if subfolder else ""
    if (folder / subfolder / _ADAPTER).is_file():
        return MalformedInput(
            f"{place}the model is an adapter without its base model ({_ADAPTER}, and no {_CONFIG})",
            remedy="load the base model, then the adapter with nodeseal.loader.peft",
        )
    return MalformedInput(f"{place}the model has no {_CONFIG}", remedy="name the subfolder= that has one, or config=")


def _concrete_class(auto_class: Any, config: Any, *, trust_remote_code: bool) -> tuple[Any, Any]:
    """Return the class of the model and the configuration that it takes, which may be a part of the model's."""
    if auto_class is None:
        name = (config.architectures or [""])[0]
        found = getattr(transformers, name, None)
        if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
            raise MalformedInput(f"no class {name[:80]!a} in transformers", remedy="name an Auto class")
        return found, config
    if issubclass(auto_class, transformers.PreTrainedModel):
        return auto_class, config
    with torch.device("meta"):  # nothing is allocated
        made = auto_class.from_config(config, trust_remote_code=trust_remote_code)
    return type(made), config if isinstance(made.config, type(config)) else made.config


def _refuse_kernels(config: Any, arguments: Arguments) -> None:
    """Refuse implementations that the library would fetch from a hub, unless code of a hub may run.

    Where flash-attn is not installed and the package ``kernels`` is, the library fetches one.
    """
    trust = arguments.trust_remote_code
    for name in ("attn_implementation", "experts_implementation"):
        asked = arguments.passed.get(name)
        try:
            check_member("an argument", name, asked, trust_remote_code=trust)
        except MalformedInput as error:
            raise refused(name, str(error)) from error
        chosen = str(asked or getattr(config, f"_{name}", ""))
        if "flash" in chosen and find_spec("kernels") and not find_spec("flash_attn") and not trust:
            raise refused(name, f"{chosen[:80]!a} is fetched from a hub here, which needs trust_remote_code=True")


def _takes(concrete: Any, name: str) -> bool:
    """Tell whether the constructor of a class names a parameter. What it only collects is ignored."""
    parameter = inspect.signature(concrete.__init__).parameters.get(name)
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _generation_config(folder: Path, auto_class: Any, arguments: Arguments) -> Any:
    """Read the generation configuration as the library does. In older models it is part of ``config.json``."""
    if (given := arguments.handled.get("generation_config")) is not None:
        return given
    subfolder, read = arguments.text("subfolder"), transformers.GenerationConfig.from_pretrained
    options: dict[str, Any] = {"local_files_only": True, "subfolder": subfolder}
    if not hasattr(auto_class, "from_config"):  # a class of models hands all keywords on, an Auto class only some
        options |= arguments.keywords
    if (folder / subfolder / "generation_config.json").exists():
        return read(folder, **options)
    if not (folder / subfolder / _CONFIG).exists():
        return None
    return read(folder, config_file_name=_CONFIG, _from_model_config=True, **options)


def _fill(concrete: Any, config: Any, weights: Weights, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    failures: list[NodesealError] = []
    state_dict = {name: _Value(weights.get_slice(name), failures) for name in weights.names()}
    options = {**options, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        made, info = concrete.from_pretrained(None, config=config, state_dict=state_dict, **options)
    finally:  # the library makes errors of its own of those that it meets while it reads
        if failures:
            raise failures[0]
        weights.verify_tags()
    return made, info


def _use_custom_generate(made: Any, folder: Path, arguments: Arguments) -> None:
    """Let code of the model generate, as the library does."""
    place = folder / arguments.text("subfolder")
    if arguments.trust_remote_code and made.can_generate() and (place / _CUSTOM_GENERATE).is_file():
        generate = made.load_custom_generate(place, trust_remote_code=True, local_files_only=True)
        made.generate = partial(generate, model=made)


def _adapter_folder(folder: Path, arguments: Arguments) -> str | None:
    """Return the folder in the model that holds an adapter; None: there is none."""
    places = ("", arguments.text("subfolder"))
    return next((place for place in places if (folder / place / _ADAPTER).is_file()), None)


def _load_adapter(made: Any, model: SealedModel, subfolder: str, arguments: Arguments) -> Any:
    from nodeseal.loader.peft import load_adapter  # noqa: PLC0415 - few models have adapters

    return load_adapter(made, model, arguments.text("adapter_name") or "default", subfolder=subfolder)


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
