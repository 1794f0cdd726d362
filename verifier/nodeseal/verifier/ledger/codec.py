"""Acts as JSON values and back, by the types of their fields: one form for leaves, journal and database.

Bytes are lower-case hex, times ISO 8601 in UTC with microseconds, enumerations their values, tuples lists. A field that
holds more than its bound has no form, so no act is larger than its page in ``docs/acts.md`` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, NewType, get_args, get_origin, get_type_hints

from nodeseal.errors import MalformedInput
from nodeseal.ids import (
    Digest,
    KeyId,
    LeaseId,
    ModelId,
    NodeId,
    PersonId,
    parse_digest,
    parse_key_id,
    parse_lease_id,
    parse_model_id,
    parse_node_id,
    parse_person_id,
)
from nodeseal.verifier.ledger.acts import KINDS, Act, Bound

_HEX: Final = re.compile(r"([0-9a-f]{2})*")
_LARGEST: Final = 2**53 - 1
_IDS: Final[dict[Any, Callable[[str], str]]] = {
    KeyId: parse_key_id,
    LeaseId: parse_lease_id,
    ModelId: parse_model_id,
    NodeId: parse_node_id,
    PersonId: parse_person_id,
    Digest: lambda text: text and parse_digest(text, "digest"),
}


def act_to_plain(act: Act) -> dict[str, object]:
    """Return the fields of an act as JSON values.

    Raises:
        MalformedInput: a field holds more than its bound.
    """
    plain = {
        field.name: _to_plain(getattr(act, field.name), field.bound, f"{act.kind}: {field.name}")
        for field in _shape(act.kind)
    }
    for name in _optional(act.kind):
        if not plain[name]:
            del plain[name]
    return plain


def act_from_plain(kind: str, plain: object) -> Act:
    """Return the act of a kind with these fields.

    Raises:
        MalformedInput: no such kind, a field is missing or too many, or a value does not fit.
    """
    made: Any = KINDS.get(kind)
    if made is None:
        raise MalformedInput(
            f"unknown kind of act {kind[:80]!a}", remedy="run the version that wrote it, or a later one"
        )
    shape = _shape(kind)
    if not isinstance(plain, dict) or plain.keys() | _optional(kind) != {field.name for field in shape}:
        raise MalformedInput(f"{kind}: other fields than the act has")
    if any(name in plain and not plain[name] for name in _optional(kind)):
        raise MalformedInput(f"{kind}: an empty field that is left out")
    values = {
        field.name: _from_plain(plain[field.name], field.hint, field.bound, f"{kind}: {field.name}")
        for field in shape
        if field.name in plain
    }
    act: Act = made(**values)
    return act


class _Field(NamedTuple):
    name: str
    hint: Any
    bound: int
    left_out: bool


@cache
def _optional(kind: str) -> frozenset[str]:
    """Return the fields of a kind that stand in its JSON form only if they hold something."""
    return frozenset(field.name for field in _shape(kind) if field.left_out)


@cache
def _shape(kind: str) -> tuple[_Field, ...]:
    """Return the fields of a kind; a bound of 0 is none."""
    hints = get_type_hints(KINDS[kind], include_extras=True)
    return tuple(_Field(field.name, *_unpacked(hints[field.name])) for field in fields(KINDS[kind]))


def _unpacked(hint: Any) -> tuple[Any, int, bool]:
    if get_origin(hint) is not Annotated:
        return hint, 0, False
    inner, *extras = get_args(hint)
    bound = next(extra for extra in extras if isinstance(extra, Bound))
    return inner, bound.limit, bound.left_out


def _to_plain(value: object, bound: int, where: str) -> object:
    if isinstance(value, (str, bytes, tuple)) and bound and len(value) > bound:
        raise MalformedInput(f"{where}: {len(value)}, at most {bound}")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, datetime):
        return spell_time(value)
    return value.value if isinstance(value, Enum) else value


def _from_plain(value: object, hint: Any, bound: int, where: str) -> object:
    parsed = _parsed(value, hint, where)
    if isinstance(parsed, (str, bytes, tuple)) and bound and len(parsed) > bound:
        raise MalformedInput(f"{where}: {len(parsed)}, at most {bound}")
    return parsed


def _parsed(value: object, hint: Any, where: str) -> object:
    if NoneType in get_args(hint):
        inner = next(each for each in get_args(hint) if each is not NoneType)
        return None if value is None else _parsed(value, inner, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise MalformedInput(f"{where}: not a list")
        return tuple(_parsed(item, get_args(hint)[0], where) for item in value)
    if hint is bool and type(value) is bool:
        return value
    if hint is int and type(value) is int and 0 <= value <= _LARGEST:
        return value
    if hint in {bool, int}:
        raise MalformedInput(f"{where}: not {hint.__name__}")
    if not isinstance(value, str):
        raise MalformedInput(f"{where}: not text")
    return _text(value, hint, where)


def _text(value: str, hint: Any, where: str) -> object:
    if isinstance(hint, NewType):
        return _IDS[hint](value)
    try:
        if hint is datetime:
            return read_time(value)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return hint(value)
    except ValueError as error:
        raise MalformedInput(f"{where}: {error}") from error
    if hint is bytes:
        if not _HEX.fullmatch(value):
            raise MalformedInput(f"{where}: not lower-case hex")
        return bytes.fromhex(value)
    return value


def spell_time(at: datetime) -> str:
    """Return a time in the one spelling of the log: ISO 8601 in UTC, with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def read_time(text: str) -> datetime:
    """Return a time in the spelling of the log.

    Raises:
        ValueError: it is spelled otherwise.
    """
    at = datetime.fromisoformat(text)
    if at.utcoffset() != timedelta() or spell_time(at) != text:
        raise ValueError(f"not a time in UTC with microseconds: {text[:40]!a}")
    return at
