"""Plain values as YAML for people: one line for each decision of an approver.

Simple keys are plain and values are quoted. A mapping in a list, and a list of one text, stand on one line; PEM stands
in a block. No list or mapping is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from nodeseal.settings import needs_quotes

_LONGEST_SIMPLE_KEY: Final = 1024
"""Longest key without a question mark, in characters (YAML 1.2.2, 7.4.2)."""


def render(document: Mapping[str, object]) -> str:
    """Return the YAML of a document of mappings, lists, text, integers and booleans."""
    return "".join(f"{line}\n" for line in _mapping(document, ""))


def _mapping(values: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, value in values.items():
        written = _key(key)
        if len(written) > _LONGEST_SIMPLE_KEY:
            yield f"{indent}? {written}"
            written = ""
        yield from _entry(f"{indent}{written}:", value, indent + "  ")


def _entry(start: str, value: object, indent: str) -> Iterator[str]:
    """Yield ``start`` and the value behind it or below it."""
    if isinstance(value, str) and "\n" in value:
        yield f"{start} |"
        yield from (indent + line for line in value.splitlines())
    elif isinstance(value, Mapping) and value:
        yield start
        yield from _mapping(value, indent)
    elif isinstance(value, list) and (len(value) > 1 or isinstance(value[0], Mapping)):
        yield start
        for item in value:
            yield from _item(item, indent)
    else:
        yield f"{start} {_flow(value)}"


def _item(item: object, indent: str) -> Iterator[str]:
    if isinstance(item, Mapping) and _is_block(item):
        lines = _mapping(item, indent + "  ")
        yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
        yield from lines
    else:
        yield f"{indent}- {_flow(item)}"


def _is_block(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, str) and "\n" in each for each in value.values())


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False) if needs_quotes(key) else key
