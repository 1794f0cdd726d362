"""The arguments of ``from_pretrained``: each is honoured or refused by its name, and none is ignored.

An argument that selects other weights, and is ignored, loads a model that nobody asked for. So this is an allow-list:
what it does not name must be a keyword of the configuration or of the model's class, or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

PASSED: Final = frozenset(
    (
        "attn_implementation",
        "device_map",
        "device_mesh",
        "disable_mmap",
        "distributed_config",
        "dtype",
        "experts_implementation",
        "fusion_config",
        "ignore_mismatched_sizes",
        "key_mapping",
        "low_cpu_mem_usage",
        "max_memory",
        "offload_buffers",
        "quantization_config",
        "torch_dtype",
        "tp_plan",
        "tp_size",
        "tqdm_class",
        "weights_only",
    )
)
"""Arguments that the library itself honours. Nothing is mapped, downloaded or unpickled, so some have no work to do."""

KERNELS: Final = frozenset(("allow_all_kernels", "kernel_config", "use_kernels"))
"""Arguments that may bring code of a hub. The library honours them with ``trust_remote_code``."""

HANDLED: Final = frozenset(
    (
        "adapter_name",
        "config",
        "generation_config",
        "local_files_only",
        "output_loading_info",
        "subfolder",
        "use_safetensors",
        "variant",
    )
)
"""Arguments that :mod:`nodeseal.loader.transformers` honours."""

_NOT_OF_A_HUB: Final = "a sealed model comes from its folder, and nothing is downloaded"
_TO_DISK: Final = "it would write weights to a disk as they are"
_OTHER_FORMAT: Final = "only sealed safetensors are read"
_REFUSED: Final[Mapping[str, tuple[str, tuple[Any, ...]]]] = {
    "_commit_hash": (_NOT_OF_A_HUB, (None,)),
    "_fast_init": ("the library does not use it any more", (True,)),
    "adapter_kwargs": ("load the adapter with nodeseal.loader.peft", (None, {})),
    "cache_dir": (_NOT_OF_A_HUB, (None,)),
    "code_revision": (_NOT_OF_A_HUB, (None,)),
    "force_download": (_NOT_OF_A_HUB, (False,)),
    "from_flax": (_OTHER_FORMAT, (False,)),
    "from_tf": (_OTHER_FORMAT, (False,)),
    "gguf_file": (_OTHER_FORMAT, (None,)),
    "mirror": (_NOT_OF_A_HUB, (None,)),
    "offload_folder": (_TO_DISK, (None,)),
    "offload_state_dict": (_TO_DISK, (None, False)),
    "proxies": (_NOT_OF_A_HUB, (None,)),
    "resume_download": (_NOT_OF_A_HUB, (None, False)),
    "revision": (_NOT_OF_A_HUB, (None, "main")),
    "state_dict": ("the weights are those of the sealed model", (None,)),
    "token": (_NOT_OF_A_HUB, (None,)),
    "use_auth_token": (_NOT_OF_A_HUB, (None,)),
}
"""Why an argument is refused, and the values that ask for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of one call, sorted by who honours them.

    Attributes:
        passed: for the library.
        handled: for :mod:`nodeseal.loader.transformers`.
        keywords: for the configuration and the model's class, which may not know them.
        trust_remote_code: whether code of the model may run.
    """

    passed: Mapping[str, Any]
    handled: Mapping[str, Any]
    keywords: Mapping[str, Any]
    trust_remote_code: bool

    def text(self, name: str) -> str:
        """Return the text of a handled argument, or an empty one."""
        return str(self.handled.get(name) or "")


def sort_arguments(given: Mapping[str, Any], *, trust_remote_code: bool = False) -> Arguments:
    """Sort the arguments of a call.

    Raises:
        ValueError: an argument cannot be honoured; the message names it.
    """
    for name, value in given.items():
        _check(name, value, trust_remote_code=trust_remote_code)
    library, others = PASSED | KERNELS, PASSED | KERNELS | HANDLED | _REFUSED.keys()
    return Arguments(
        passed={name: value for name, value in given.items() if name in library},
        handled={name: value for name, value in given.items() if name in HANDLED},
        keywords={name: value for name, value in given.items() if name not in others},
        trust_remote_code=trust_remote_code,
    )


def _check(name: str, value: Any, *, trust_remote_code: bool) -> None:
    if name in _REFUSED:
        reason, harmless = _REFUSED[name]
        if not any(value is one or (type(value) is type(one) and value == one) for one in harmless):
            raise refused(name, reason)
    if name in KERNELS and value and not trust_remote_code:
        raise refused(name, "it may run code of a hub, which needs trust_remote_code=True")
    if name == "use_safetensors" and value is False:
        raise refused(name, _OTHER_FORMAT)
    if name == "device_map" and isinstance(value, Mapping) and "disk" in map(str, value.values()):
        raise refused(name, _TO_DISK)
    if name in ("subfolder", "variant") and not isinstance(value, str | None):
        raise refused(name, "it is a text")


def refused(name: str, reason: str) -> ValueError:
    """Return the error for an argument that cannot be honoured."""
    return ValueError(f"{name[:80]}: not with a sealed model: {reason}")


def refuse_unknown(left: Mapping[str, Any], accepts: Callable[[str], bool], owner: str) -> None:
    """Refuse keywords that neither the configuration nor the model's class has.

    Args:
        left: the keywords that the configuration does not have.
        accepts: tells whether the model's class has one.
        owner: name of the class, for the message.

    Raises:
        ValueError: a keyword has no meaning; the message names it.
    """
    unknown = sorted(name for name in left if not accepts(name))
    if unknown:
        raise refused(unknown[0], f"neither the configuration nor {owner} has it")


def not_allowed(names: Collection[str], patterns: Collection[str]) -> list[str]:
    """Return the sorted names that match none of the patterns, such as ``mtp.*``."""
    return sorted(name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns))
