"""Getters that several sections of a golden share: digests, windows of time, paths, names.

Each raises :class:`MalformedInput` with file, line and key, and none returns an empty value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from nodeseal.documents import Fields, Item
from nodeseal.errors import MalformedInput
from nodeseal.golden.model import MAX_VALUES
from nodeseal.golden.paths import path_bytes
from nodeseal.golden.rules import Window
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME

MAX_NAME = 255
Wrong = Callable[..., MalformedInput]
"""Makes the error for a wrong value: ``wrong(expected, remedy=…)``."""
_Value = TypeVar("_Value", bound=Hashable)
_HEX = re.compile(r"([0-9a-f]{2})+")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})")
_NAMES = ", ".join(STRONG_HASHES_BY_NAME)


def take_fields(fields: Fields, key: str) -> Fields:
    """Return the mapping under ``key``; it has at least one key."""
    found = fields.fields(key)
    if not found.keys():
        raise fields.wrong(key, "a mapping with at least one key")
    return found


def take_list(
    fields: Fields, key: str, parse: Callable[[Item], _Value], max_items: int = MAX_VALUES
) -> tuple[_Value, ...]:
    """Return the list under ``key``: 1 to ``max_items`` different values."""
    found: list[_Value] = []
    seen: set[_Value] = set()
    for item in fields.each(key, max_items=max_items):
        value = parse(item)
        if value in seen:
            raise item.wrong("new: it is there twice")
        seen.add(value)
        found.append(value)
    return tuple(found)


def hex_of(size: int) -> Callable[[Item], bytes]:
    """Return a parser of digests of ``size`` bytes."""

    def parse(item: Item) -> bytes:
        if not isinstance(item.value, str) or len(item.value) != 2 * size or not _HEX.fullmatch(item.value):
            raise item.wrong(f"a digest of {size} bytes in lower-case hex")
        return bytes.fromhex(item.value)

    return parse


def parse_tagged(value: object, wrong: Wrong) -> bytes:
    """Parse a digest such as ``sha256:…``, or raise the error that ``wrong`` makes."""
    name, _, text = value.partition(":") if isinstance(value, str) else ("", "", "")
    bank = STRONG_HASHES_BY_NAME.get(name)
    if bank is None or len(text) != 2 * bank.digest_size or not _HEX.fullmatch(text):
        raise wrong(f"a digest such as sha256:… in lower-case hex (one of {_NAMES})")
    return bytes.fromhex(text)


def tagged(item: Item) -> bytes:
    """Parse an item such as ``sha256:…``."""
    return parse_tagged(item.value, item.wrong)


def path(item: Item) -> str:
    """Parse an item that is a path in its one spelling."""
    return checked_path(item.value, item.wrong)


def checked_path(text: object, wrong: Wrong) -> str:
    """Return ``text`` if it is a path in its one spelling, or raise the error that ``wrong`` makes."""
    if not isinstance(text, str):
        raise wrong("text")
    try:
        path_bytes(text)
    except MalformedInput as error:
        raise wrong("a path in its one spelling", remedy=error.remedy) from error
    return text


def take_window(fields: Fields) -> Window:
    """Return the window of the keys ``from`` and ``until``. Without both it has no ends."""
    window = Window(start=_take_moment(fields, "from"), end=_take_moment(fields, "until"))
    if window.start is not None and window.end is not None and window.end < window.start:
        raise fields.wrong("until", "at or after from")
    return window


def parse_moment(text: str) -> datetime:
    """Parse a time in the format of RFC 3339 and return it in UTC.

    Raises:
        MalformedInput: it is not such a time.
    """
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedInput(f"no such time: {text}") from error
    raise MalformedInput(f"not a time: {text[:80]!a}", remedy='write it as "2026-01-31T12:00:00Z", in quotes')


def _take_moment(fields: Fields, key: str) -> datetime | None:
    if not fields.has(key):
        return None
    try:
        return parse_moment(fields.text(key))
    except MalformedInput as error:
        raise fields.wrong(key, "a time as RFC 3339 has it", remedy=error.remedy) from error


def take_name(fields: Fields) -> str:
    """Return the name for people under ``name``."""
    name = fields.text("name", max_length=MAX_NAME)
    if not name:
        raise fields.wrong("name", "a name")
    return name


def refuse_repeated(rows: Iterable[_Value], fields: Fields, key: str) -> None:
    """Refuse ``key`` if two of its rows have the same identifying value."""
    found = list(rows)
    if len(set(found)) != len(found):
        raise fields.wrong(key, "a list that has each entry once")
