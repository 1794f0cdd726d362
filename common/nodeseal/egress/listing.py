"""The table as the kernel has it: lines from what ``nft -j list table netdev nodeseal`` prints (libnftables-json(5)).

What the table can hold by its document becomes the line that the document would give; units, handles and counts are
left out. Anything else becomes a line of JSON, which no document gives, so nothing that was added goes unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Final

from nodeseal.documents import parse_json
from nodeseal.egress.table import FAMILY, TABLE, Used
from nodeseal.errors import MalformedInput

MAX_LISTING: Final = 1024 * 1024
"""Bytes of a listing."""
_UNITS: Final = {"bytes": 1, "kbytes": 1024, "mbytes": 1024 * 1024}
_STATE: Final = frozenset({"handle", "packets", "bytes", "used"})
_FULL_LENGTH: Final = {"ipv4_addr": 32, "ipv6_addr": 128}

Plain = Mapping[str, object]


def listed_lines(raw: bytes) -> tuple[str, ...]:
    """Return the lines of a listing, in the order of :func:`~nodeseal.egress.table.expected_lines`.

    Raises:
        MalformedInput: it is no listing of nft.
    """
    objects: dict[str, list[str]] = {"table": [], "counter": [], "quota": [], "set": [], "other": []}
    chains: dict[str, list[str]] = {}
    for kind, value in _objects(raw):
        if kind == "chain":
            chains.setdefault(_name(value, "name"), []).insert(0, _chain(value))
        elif kind == "rule":
            chains.setdefault(_name(value, "chain"), []).append(f"{_name(value, 'chain')}: {_rule(value)}")
        else:
            objects[kind if kind in objects else "other"] += _OBJECTS.get(kind, _unknown)(value)
    listed = [*objects["table"], *sorted(objects["counter"]), *sorted(objects["quota"]), *objects["set"]]
    return (*listed, *objects["other"], *(line for _, lines in sorted(chains.items()) for line in lines))


def listed_use(raw: bytes) -> Used:
    """Return what the listed table has counted.

    Raises:
        MalformedInput: it is no listing of nft.
    """
    counters: dict[str, int] = {}
    packets: dict[str, int] = {}
    quota = 0
    for kind, value in _objects(raw):
        if kind == "counter":
            counters[_name(value, "name")] = _number(value, "bytes")
            packets[_name(value, "name")] = _number(value, "packets")
        elif kind == "quota":
            quota = _number(value, "used")
    return Used(counters=counters, packets=packets, quota=quota)


def differences(expected: tuple[str, ...], listed: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """Return the first lines that differ: ``missing LINE`` or ``unexpected LINE``."""
    found: list[str] = []
    for tag, start, end, other_start, other_end in SequenceMatcher(
        None, expected, listed, autojunk=False
    ).get_opcodes():
        if tag != "equal":
            found += [f"missing {line}" for line in expected[start:end]]
            found += [f"unexpected {line}" for line in listed[other_start:other_end]]
    return tuple(found[:limit])


def _objects(raw: bytes) -> Iterator[tuple[str, Plain]]:
    if len(raw) > MAX_LISTING:
        raise MalformedInput(f"listing of nft: more than {MAX_LISTING} bytes")
    whole = parse_json(raw, "listing of nft")
    items = whole.get("nftables") if isinstance(whole, dict) else None
    if not isinstance(items, list):
        raise MalformedInput("listing of nft: no list of objects")
    for item in items:
        if not isinstance(item, dict) or len(item) != 1:
            raise MalformedInput("listing of nft: an object without one kind")
        ((kind, value),) = item.items()
        if not isinstance(value, dict):
            raise MalformedInput(f"listing of nft: {kind} is no mapping")
        if kind != "metainfo":
            yield kind, value


def _table(value: Plain) -> list[str]:
    flags = {key: each for key, each in value.items() if key not in ("family", "name", "handle")}
    return [f"table {_name(value, 'family')} {_name(value, 'name')}" + (f" {_json(flags)}" if flags else "")]


def _counter(value: Plain) -> list[str]:
    return [_exact(value, f"counter {_name(value, 'name')}")]


def _quota(value: Plain) -> list[str]:
    over = {key: each for key, each in value.items() if key != "inv"}
    if value.get("inv") is not True:
        return _unknown(value)
    return [_exact(over, f"quota {_name(value, 'name')} over {_number(value, 'bytes')} bytes")]


def _exact(value: Plain, line: str) -> str:
    """Return ``line`` if ``value`` is an object of our table with nothing in it that the line does not say."""
    rest = {key: each for key, each in value.items() if key not in (*_STATE, "name")}
    return line if rest == {"family": FAMILY, "table": TABLE} else _json(value)


def _set(value: Plain) -> list[str]:
    name, kind, elements = _name(value, "name"), value.get("type"), value.get("elem", [])
    rest = {key: each for key, each in value.items() if key not in ("name", "type", "handle", "elem")}
    if rest != {"family": FAMILY, "table": TABLE, "flags": ["interval"]} or not isinstance(elements, list):
        return _unknown(value)
    length = _FULL_LENGTH.get(str(kind))
    return [f"set {name} {kind} interval", *sorted(f"set {name}: {_element(each, length)}" for each in elements)]


def _element(value: object, length: int | None = None) -> str:
    if isinstance(value, str):
        return value if length is None else f"{value}/{length}"
    prefix = value.get("prefix") if isinstance(value, dict) and set(value) == {"prefix"} else None
    if isinstance(prefix, dict) and set(prefix) == {"addr", "len"} and isinstance(prefix["addr"], str):
        return f"{prefix['addr']}/{prefix['len']}"
    return _json(value)


def _chain(value: Plain) -> str:
    # newer versions of nft list the devices, which we read from the kernel ourselves
    rest = {key: each for key, each in value.items() if key not in ("name", "handle", "dev")}
    ours = {"family": FAMILY, "table": TABLE}
    if rest == ours:
        return f"chain {_name(value, 'name')}"
    hook = {key: each for key, each in rest.items() if key not in ours}
    if set(hook) == {"type", "hook", "prio", "policy"} and set(rest) == {*hook, *ours}:
        return f"chain {_name(value, 'name')} {hook['type']} {hook['hook']} {hook['prio']} {hook['policy']}"
    return f"chain {_json(value)}"


def _rule(value: Plain) -> str:
    rest = set(value) - {"family", "table", "chain", "handle", "expr"}
    statements = value.get("expr")
    if rest or not isinstance(statements, list):
        return _json(value)
    return ", ".join(map(_statement, _without_implied(statements)))


def _without_implied(statements: list[object]) -> list[object]:
    """Leave out a frame's type before the address that implies it: some versions of nft list it, others do not."""
    kept: list[object] = []
    for statement, following in zip(statements, [*statements[1:], None], strict=True):
        implied = _match_of(following).split(" ")
        if implied[1:2] == ["daddr"] and _match_of(statement) in (
            f"ether type {implied[0]}",
            f"vlan type {implied[0]}",
        ):
            continue
        kept.append(statement)
    if len(kept) > 1 and _match_of(kept[0]) in ("ether type vlan", "ether type 8021q"):
        kept = kept[1:] if _match_of(kept[1]).startswith("vlan id ") else kept
    return kept


def _statement(value: object) -> str:
    if not isinstance(value, dict) or len(value) != 1:
        return _json(value)
    ((kind, body),) = value.items()
    if kind in ("accept", "drop") and body is None:
        return str(kind)
    if kind in ("counter", "quota") and isinstance(body, str):
        return f"{kind} {body}"
    if kind == "goto" and isinstance(body, dict) and set(body) == {"target"}:
        return f"goto {body['target']}"
    if kind == "limit":
        return _limit(body) or _json(value)
    return _match_of(value) or _json(value)


def _match_of(value: object) -> str:
    """Return the words of a comparison of one header field; an empty text: it is something else."""
    match = value.get("match") if isinstance(value, dict) and set(value) == {"match"} else None
    if not isinstance(match, dict) or set(match) != {"op", "left", "right"} or match["op"] != "==":
        return ""
    left = match["left"]
    payload = left.get("payload") if isinstance(left, dict) and set(left) == {"payload"} else None
    if not isinstance(payload, dict) or set(payload) != {"protocol", "field"}:
        return ""
    return f"{payload['protocol']} {payload['field']} {_right(match['right'])}"


def _right(value: object) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    members = value.get("set") if isinstance(value, dict) and set(value) == {"set"} else None
    return "{ " + ", ".join(map(_element, members)) + " }" if isinstance(members, list) else _element(value)


def _limit(body: object) -> str:
    known = {"rate", "burst", "per", "inv", "rate_unit", "burst_unit"}
    if not isinstance(body, dict) or set(body) != known or body["inv"] is not True or body["per"] != "second":
        return ""
    units = [_UNITS.get(str(body[key])) for key in ("rate_unit", "burst_unit")]
    rate, burst = body["rate"], body["burst"]
    if units[0] is None or units[1] is None or not isinstance(rate, int) or not isinstance(burst, int):
        return ""
    return f"limit over {rate * units[0]} bytes/second burst {burst * units[1]} bytes"


def _unknown(value: Plain) -> list[str]:
    return [_json({key: each for key, each in value.items() if key not in _STATE})]


_OBJECTS: Final[Mapping[str, Callable[[Plain], list[str]]]] = {
    "table": _table,
    "counter": _counter,
    "quota": _quota,
    "set": _set,
}


def _name(value: Plain, key: str) -> str:
    name = value.get(key)
    if not isinstance(name, str):
        raise MalformedInput(f"listing of nft: {key} is no text")
    return name


def _number(value: Plain, key: str) -> int:
    number = value.get(key, 0)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise MalformedInput(f"listing of nft: {key} is no count")
    return number


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
