"""YAML files that people write: goldens and configuration, read without surprises.

A small part of YAML 1.2 is enough: mappings, lists, text, integers and ``true``/``false``. Duplicate keys,
anchors, aliases, tags, several documents and every other implicit type (dates, octal, ``yes``, null) are refused,
so that a file means what a reader sees. Errors name file, line and key.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from nodeseal.documents import Fields, Located
from nodeseal.errors import MalformedInput

MAX_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 16
_MAX_EVENTS = 500_000
_QUOTED = ("'", '"', "|", ">")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
_AMBIGUOUS = re.compile(
    r"[-+]?([0-9][0-9_,]*(\.[0-9_]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"  # numbers, octal among them
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?"  # sexagesimal numbers of YAML 1.1, times
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"  # dates
    r"|0[xob].*|[-+]?\.(?i:inf|nan)"
    r"|(?i:~|null|y|n|yes|no|on|off|true|false)"
)


def load_yaml(path: Path) -> Fields:
    """Read a YAML file into :class:`~nodeseal.documents.Fields`.

    Raises:
        MalformedInput: the file cannot be read, is too large, or is not in the accepted part of YAML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MalformedInput(f"{path}: {error.strerror}") from error
    return parse_yaml(raw, str(path))


def parse_yaml(raw: bytes, source: str) -> Fields:
    """Parse YAML text; see :func:`load_yaml`. ``source`` names it in errors."""
    if len(raw) > MAX_BYTES:
        raise MalformedInput(f"{source}: more than {MAX_BYTES} bytes")
    try:
        text = raw.decode()
        _refuse_traps(text, source)
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        raise MalformedInput(f"{source}: empty")
    return Fields(_value(root, source), source)


def _refuse_traps(text: str, source: str) -> None:
    """Refuse references, depth and mass on the flat stream of events: composing recurses in C, without limits."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 0
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise MalformedInput(f"{source}, line {line}: nested deeper than {_MAX_DEPTH}")
        if count > _MAX_EVENTS:
            raise MalformedInput(f"{source}, line {line}: too many values")
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise MalformedInput(f"{source}, line {line}: anchors, aliases and tags are not accepted")


def _value(node: yaml.Node, source: str) -> object:
    where = f"{source}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, source)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, source) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where)
    raise MalformedInput(f"{where}: not a mapping, list or scalar")


def _mapping(node: yaml.MappingNode, source: str) -> Located:
    values: dict[str, object] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise MalformedInput(f"{source}, line {line}: a key is not plain text")
        key = str(key_node.value)
        if key in values:
            raise MalformedInput(f"{source}, line {line}: duplicate key {key[:80]!a}")
        lines[key] = line
        values[key] = _value(value_node, source)
    return Located(values, lines)


def _scalar(node: yaml.ScalarNode, where: str) -> object:
    text = str(node.value)
    if node.style in _QUOTED:
        return text
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if text == "" or _AMBIGUOUS.fullmatch(text):
        raise MalformedInput(f"{where}: {text[:80]!a} could mean several things", remedy="put the value in quotes")
    return text
