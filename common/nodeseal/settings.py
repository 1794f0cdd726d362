"""YAML files that people write: goldens and configuration.

A small part of YAML 1.2 is accepted: mappings, lists, text, integers and ``true``/``false``. Duplicate keys, anchors,
aliases, tags, several documents and all other implicit types (dates, octal, ``yes``, null) are refused, so a file means
what a reader sees. Errors name file, line and key.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from nodeseal.documents import Fields, Located, LocatedList
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_regular

MAX_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 16
_MAX_EVENTS = 1_500_000
"""Enough for a golden that allows two versions of 100,000 files, as during a rollout."""
_QUOTED = ("'", '"', "|", ">")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9/._+-]*")
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
        MalformedInput: the file is not regular or cannot be read, is too large, or not in the accepted part of YAML.
    """
    try:
        raw = read_regular(path, MAX_BYTES + 1)
    except Unavailable as error:
        raise MalformedInput(str(error)) from error
    return parse_yaml(raw, str(path))


def parse_yaml(raw: bytes, source: str, max_bytes: int = MAX_BYTES) -> Fields:
    """Parse YAML text.

    Args:
        raw: the whole text.
        source: name of the text, for errors.
        max_bytes: largest text.

    Raises:
        MalformedInput: too large, or not in the accepted part of YAML.
    """
    if len(raw) > max_bytes:
        raise MalformedInput(f"{source}: more than {max_bytes} bytes")
    builder = _Builder(source)
    try:
        for count, event in enumerate(yaml.parse(raw.decode(), Loader=yaml.CSafeLoader)):
            builder.take(event)
            if count > _MAX_EVENTS:
                raise builder.fault("too many values")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if builder.root is None:
        raise MalformedInput(f"{source}: empty")
    return Fields(builder.root, source)


def needs_quotes(text: str) -> bool:
    """Tell whether text must be quoted, because YAML would refuse it or read it as another type."""
    return not _PLAIN.fullmatch(text) or bool(_AMBIGUOUS.fullmatch(text))


class _Builder:
    """Builds values from the flat stream of events, because the library's composer recurses without a limit."""

    def __init__(self, source: str) -> None:
        self.root: object = None
        self._source = source
        self._line = 0
        self._open: list[Located | LocatedList] = []
        self._keys: list[str | None] = []

    def take(self, event: yaml.Event) -> None:
        """Take the next event.

        Raises:
            MalformedInput: not in the accepted part of YAML.
        """
        self._line = event.start_mark.line + 1 if event.start_mark else 0
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise self.fault("anchors, aliases and tags are not accepted")
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(Located({}, {}) if isinstance(event, yaml.MappingStartEvent) else LocatedList())
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self.fault("not a single document")

    def fault(self, problem: str) -> MalformedInput:
        """Return the error for ``problem`` at the line of the last event."""
        return MalformedInput(f"{self._source}, line {self._line}: {problem}")

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        if self._open and self._keys[-1] is None and isinstance(self._open[-1], Located):
            self._name(self._open[-1], str(event.value))
        else:
            self._add(_scalar(event, f"{self._source}, line {self._line}"))

    def _start(self, container: Located | LocatedList) -> None:
        if len(self._open) == _MAX_DEPTH:
            raise self.fault(f"nested deeper than {_MAX_DEPTH}")
        self._add(container)
        self._open.append(container)
        self._keys.append(None)

    def _name(self, mapping: Located, key: str) -> None:
        if key in mapping.lines:
            raise self.fault(f"duplicate key {key[:80]!a}")
        mapping.lines[key] = self._line
        self._keys[-1] = key

    def _add(self, value: object) -> None:
        if not self._open:
            self.root = value
            return
        parent, key = self._open[-1], self._keys[-1]
        if isinstance(parent, LocatedList):
            parent.append(value)
            parent.lines.append(self._line)
        elif key is None:
            raise self.fault("a key is not plain text")
        else:
            parent[key] = value
            self._keys[-1] = None


def _scalar(event: yaml.ScalarEvent, where: str) -> object:
    text = str(event.value)
    if event.style in _QUOTED:
        return text
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if text == "" or _AMBIGUOUS.fullmatch(text):
        raise MalformedInput(f"{where}: {text[:80]!a} could mean several things", remedy="put the value in quotes")
    return text
