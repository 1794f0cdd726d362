"""Places where a model's configuration names code or kernels that are not part of the model.

Frameworks fetch from a hub what such fields name. Code of another repository is never loaded, and kernels only with
``trust_remote_code``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nodeseal.errors import MalformedInput

_IMPLEMENTATION: Final = re.compile(r"_?[a-z]+_implementation(_internal|_autoset)?")
"""Fields that choose an implementation, such as ``attn_implementation`` and ``_experts_implementation``."""
_BUILT_IN: Final = re.compile(r"[\w|-]*")
"""Names of implementations that are part of the library; a slash would name a repository of a hub."""


def check_references(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuse configurations in a folder that name what is not in it.

    Raises:
        MalformedInput: a file names code or kernels of another repository, or is nested too deep.
    """
    for path in sorted(folder.rglob("*.json")):
        for key, value in _members(path):
            check_member(path.name, key, value, trust_remote_code=trust_remote_code)


def check_member(source: str, key: str, value: Any, *, trust_remote_code: bool) -> None:
    """Refuse a member of a configuration that names what is not in the model.

    Raises:
        MalformedInput: it names code or kernels of another repository.
    """
    if key == "auto_map" and trust_remote_code and "--" in str(value):
        raise MalformedInput(f"{source} names code of another repository", remedy="copy it into the model")
    if _IMPLEMENTATION.fullmatch(key) and not trust_remote_code and (odd := _of_a_hub(value)):
        raise MalformedInput(
            f"{source}: {key} is {odd[:80]!a}, a kernel of a hub",
            remedy="name another one, such as sdpa, or allow it with trust_remote_code=True",
        )


def _of_a_hub(value: Any) -> str:
    """Return the first text in a value, at any depth, that names a repository of a hub."""
    if isinstance(value, dict | list):
        return next(filter(None, map(_of_a_hub, value.values() if isinstance(value, dict) else value)), "")
    return value if isinstance(value, str) and not _BUILT_IN.fullmatch(value) else ""


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield all members of all objects of a document, from any depth."""
    found: list[tuple[str, Any]] = []

    def look(members: dict[str, Any]) -> dict[str, Any]:
        found.extend(members.items())
        return members

    try:
        json.loads(path.read_bytes(), object_hook=look)
    except RecursionError as error:
        raise MalformedInput(f"{path.name}: nested too deep") from error
    except ValueError:  # not a configuration that the library could read either
        return
    yield from found
