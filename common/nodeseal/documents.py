"""Strict documents: JSON with one spelling, and typed access to the fields of a document.

JSON follows RFC 8785 (JCS). A document is accepted only if its value encodes to the same bytes again, so every document
has one digest. Files that people write are YAML (:mod:`nodeseal.settings`).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

import rfc8785

from nodeseal.errors import MalformedInput

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Moment from which stored and sent times are counted."""

_LARGEST: Final = 2**53 - 1
_COMMON: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


class Located(dict[str, object]):
    """A mapping that remembers the line of each key, for errors about files that people write."""

    def __init__(self, values: dict[str, object], lines: dict[str, int]) -> None:
        super().__init__(values)
        self.lines: Final = lines


class LocatedList(list[object]):
    """A list that remembers the line of each item, for errors about files that people write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Final[list[int]] = []


def encode_json(value: object) -> bytes:
    """Return the canonical JSON bytes (RFC 8785) of ``value``.

    Raises:
        MalformedInput: ``value`` has no canonical form (it holds a float that is not finite, an integer beyond 2**53
            or text with a lone surrogate), or is nested too deep.
    """
    try:
        if _is_common(value):
            return _COMMON.encode(value).encode()
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # the library refuses what does not fit
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedInput(f"no canonical JSON form: {error}") from error


def _is_common(value: object) -> bool:
    """Tell whether the standard encoder spells a value as RFC 8785 does: no floats, small integers, ASCII keys."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is dict:
        return all(map(_is_common_item, value.items()))  # type: ignore[attr-defined]  # the line above says so
    if kind is list or kind is tuple:
        return all(map(_is_common, value))  # type: ignore[call-overload]  # the line above says so
    return kind is int and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]  # the line above says so


def _is_common_item(item: tuple[object, object]) -> bool:
    key, value = item
    return type(key) is str and key.isascii() and _is_common(value)


def decode_json(raw: bytes, source: str) -> object:
    """Parse canonical JSON.

    Args:
        raw: the whole document.
        source: name of the document, for errors.

    Raises:
        MalformedInput: not JSON, a duplicate key, nested too deep, or not in its canonical spelling.
    """
    value = parse_json(raw, source)
    try:
        canonical = encode_json(value)
    except MalformedInput as error:
        raise MalformedInput(f"{source}: {error}") from error
    if canonical != raw:
        raise MalformedInput(
            f"{source}: not in canonical form", remedy="write it as RFC 8785 says: sorted keys, no spaces"
        )
    return value


def encode_base64(raw: bytes) -> str:
    """Return ``raw`` in base64 (RFC 4648 §4, padded), as :meth:`Fields.base64` reads it."""
    return base64.b64encode(raw).decode()


def parse_json(raw: bytes, source: str) -> object:
    """Parse JSON in any spelling: messages of other programs, which nobody hashes.

    Raises:
        MalformedInput: not JSON in UTF-8, a duplicate key, a number that is not finite, or nested too deep.
    """
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedInput(f"{source}: not JSON: {error}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


class Fields:
    """Typed access to a mapping: every getter takes its key, and :meth:`done` refuses keys that are left.

    Raises:
        MalformedInput: from every method, naming the source and the key.
    """

    def __init__(self, value: object, source: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise MalformedInput(f"{source}: not a mapping")
        self._left: dict[str, Any] = dict(value)
        self._lines = value.lines if isinstance(value, Located) else {}
        self._source = source

    def take(self, key: str) -> object:
        """Return the value of ``key``, which must be there."""
        if key not in self._left:
            raise MalformedInput(f"{self._source}: {key} is missing")
        return self._left.pop(key)

    def has(self, key: str) -> bool:
        """Tell whether ``key`` is there and not taken yet."""
        return key in self._left

    def holds_nothing(self, key: str) -> bool:
        """Tell whether an empty list stands under ``key``."""
        return self._left.get(key) == []

    def drop(self, *keys: str) -> tuple[str, ...]:
        """Take keys that an older version had, whatever their values, and return those that are there."""
        return tuple(key for key in keys if self._left.pop(key, self) is not self)

    def text(self, key: str, *, max_length: int = 1024) -> str:
        """Return printable text of at most ``max_length`` characters."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > max_length or not value.isprintable():
            raise self.wrong(key, f"printable text of at most {max_length} characters")
        return value

    def texts(self, key: str, *, max_items: int = 1024, max_length: int = 1024) -> tuple[str, ...]:
        """Return a list of printable texts."""
        value = self.items(key, max_items=max_items)
        if not all(isinstance(v, str) and len(v) <= max_length and v.isprintable() for v in value):
            raise self.wrong(key, f"a list of printable texts of at most {max_length} characters")
        return tuple(str(v) for v in value)

    def items(self, key: str, *, max_items: int = 1024) -> tuple[object, ...]:
        """Return a list of at most ``max_items`` values."""
        value = self.take(key)
        if not isinstance(value, list) or len(value) > max_items:
            raise self.wrong(key, f"a list of at most {max_items} items")
        return tuple(value)

    def each(self, key: str, *, max_items: int = 1024) -> tuple[Item, ...]:
        """Return a list of 1 to ``max_items`` values, with their lines."""
        value = self.take(key)
        if not isinstance(value, list) or not 0 < len(value) <= max_items:
            raise self.wrong(key, f"a list of 1 to {max_items} items")
        lines = value.lines if isinstance(value, LocatedList) else [0] * len(value)
        return tuple(Item(item, self._source, key, line) for item, line in zip(value, lines, strict=True))

    def integer(self, key: str, *, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"an integer from {low} to {high}")
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def hex(self, key: str, *, size: int) -> bytes:
        """Return ``size`` bytes written in lower-case hex."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) != 2 * size or set(value) - set("0123456789abcdef"):
            raise self.wrong(key, f"{size} bytes in lower-case hex")
        return bytes.fromhex(value)

    def base64(self, key: str, *, max_size: int) -> bytes:
        """Return at most ``max_size`` bytes written in canonical base64 (RFC 4648 §4, padded)."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > 4 * (max_size // 3 + 1):
            raise self.wrong(key, f"base64 of at most {max_size} bytes")
        try:
            raw = base64.b64decode(value, validate=True)
        except ValueError as error:
            raise self.wrong(key, "base64") from error
        if len(raw) > max_size or encode_base64(raw) != value:
            raise self.wrong(key, f"base64 of at most {max_size} bytes in its one spelling")
        return raw

    def fields(self, key: str) -> Fields:
        """Return a nested mapping."""
        return Fields(self.take(key), f"{self._at(key)}: {key}")

    def constant(self, key: str, expected: str) -> None:
        """Refuse anything but ``expected`` under ``key``."""
        if self.take(key) != expected:
            raise self.wrong(key, repr(expected))

    def wrong(self, key: str, expected: str, *, remedy: str = "") -> MalformedInput:
        """Return the error for a value of ``key`` that is not ``expected``."""
        return MalformedInput(f"{self._at(key)}: {key} is not {expected}", remedy=remedy)

    def keys(self) -> tuple[str, ...]:
        """Return the keys that are not taken yet, sorted."""
        return tuple(sorted(self._left))

    def done(self) -> None:
        """Refuse keys that are left."""
        if self._left:
            first = self.keys()[0]
            raise MalformedInput(f"{self._at(first)}: unknown key: {first[:80]!a}")

    def _at(self, key: str) -> str:
        return f"{self._source}, line {self._lines[key]}" if key in self._lines else self._source


class Item:
    """One value of a list, whose errors name its line.

    Raises:
        MalformedInput: from every method, naming the source, the line and the list's key.
    """

    __slots__ = ("_key", "_line", "_source", "value")

    def __init__(self, value: object, source: str, key: str, line: int) -> None:
        self.value: Final = value
        self._source = source
        self._key = key
        self._line = line

    def text(self, *, max_length: int = 1024) -> str:
        """Return printable text of at most ``max_length`` characters."""
        if not isinstance(self.value, str) or len(self.value) > max_length or not self.value.isprintable():
            raise self.wrong(f"printable text of at most {max_length} characters")
        return self.value

    def fields(self) -> Fields:
        """Return the item as a mapping."""
        return Fields(self.value, f"{self._at()}: {self._key}")

    def wrong(self, expected: str, *, remedy: str = "") -> MalformedInput:
        """Return the error for an item that is not ``expected``."""
        return MalformedInput(f"{self._at()}: an item of {self._key} is not {expected}", remedy=remedy)

    def _at(self) -> str:
        return f"{self._source}, line {self._line}" if self._line else self._source
