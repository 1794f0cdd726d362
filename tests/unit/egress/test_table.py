"""The table of a document: as text for nft, as lines with a digest, and as lines from what the kernel lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nodeseal.egress.document import Level
from nodeseal.egress.listing import differences, listed_lines, listed_use
from nodeseal.egress.table import HookRole, Used, digest_of_lines, expected_lines, render_table
from nodeseal.errors import MalformedInput
from support.egress import document, with_uplinks
from support.egress_listing import LISTING

BOTH = (HookRole.UPLINK, HookRole.SLAVE)
Listing = list[dict[str, Any]]


def _listing() -> Listing:
    found = json.loads(LISTING.read_bytes())["nftables"]
    assert isinstance(found, list)
    return found


def _raw(objects: Listing) -> bytes:
    return json.dumps({"nftables": objects}).encode()


def _differences(change: Callable[[Listing], object]) -> tuple[str, ...]:
    objects = _listing()
    change(objects)
    return differences(expected_lines(document(), Level.NORMAL, BOTH), listed_lines(_raw(objects)), 8)


def _find(objects: Listing, kind: str, **facts: object) -> dict[str, Any]:
    found = next(each[kind] for each in objects if kind in each and facts.items() <= each[kind].items())
    assert isinstance(found, dict)
    return found


def _rules(objects: Listing, chain: str) -> list[dict[str, Any]]:
    return [each["rule"] for each in objects if "rule" in each and each["rule"]["chain"] == chain]


def test_lines_from_the_document_are_those_that_the_kernel_lists() -> None:
    listed = listed_lines(LISTING.read_bytes())
    assert listed == expected_lines(document(), Level.NORMAL, BOTH)
    assert digest_of_lines(listed) == digest_of_lines(expected_lines(document(), Level.NORMAL, BOTH))


def test_every_key_of_the_document_is_in_its_lines() -> None:
    digests = {
        digest_of_lines(expected_lines(document(), level, roles)) for level in Level for roles in (BOTH, BOTH[:1])
    }
    assert len(digests) == 4
    assert expected_lines(with_uplinks("up0"), Level.NORMAL, BOTH) != expected_lines(document(), Level.NORMAL, BOTH)


def test_counts_are_no_part_of_the_lines_but_go_on_in_the_next_table() -> None:
    objects = _listing()
    _find(objects, "counter", name="outside").update(bytes=77, packets=3)
    _find(objects, "quota", name="volume").update(used=80)
    assert listed_lines(_raw(objects)) == listed_lines(LISTING.read_bytes())
    used = listed_use(_raw(objects))
    text = render_table(document(), Level.TIGHT, {"up0": HookRole.UPLINK}, used).decode()
    assert "counter outside { packets 3 bytes 77 }" in text
    assert "over 1000000 bytes used 80 bytes" in text


def test_the_table_is_replaced_in_one_transaction() -> None:
    text = render_table(document(), Level.NORMAL, {"up0": HookRole.UPLINK}, Used()).decode()
    assert text.startswith("table netdev nodeseal\ndelete table netdev nodeseal\ntable netdev nodeseal {\n")
    assert 'devices = { "up0" }' in text
    assert "chain slaves" not in text


CHANGES: dict[str, tuple[Callable[[Listing], object], str]] = {
    "a prefix was added to the enclave": (
        lambda objects: _find(objects, "set", name="enclave4")["elem"].append(
            {"prefix": {"addr": "8.8.8.0", "len": 24}}
        ),
        "unexpected set enclave4: 8.8.8.0/24",
    ),
    "an address was added to the enclave": (
        lambda objects: _find(objects, "set", name="enclave4")["elem"].append("8.8.8.8"),
        "unexpected set enclave4: 8.8.8.8/32",
    ),
    "a rule was put in front": (
        lambda objects: objects.insert(
            objects.index(next(each for each in objects if "rule" in each)),
            {"rule": {"family": "netdev", "table": "nodeseal", "chain": "frames", "expr": [{"accept": None}]}},
        ),
        "unexpected frames: accept",
    ),
    "the limit was raised": (
        lambda objects: _rules(objects, "outside")[0]["expr"][0]["limit"].update(rate=9, rate_unit="mbytes"),
        "unexpected outside: limit over 9437184 bytes/second burst 131072 bytes, counter limited, drop",
    ),
    "the limit allows what is over it": (
        lambda objects: _rules(objects, "outside")[0]["expr"][0]["limit"].pop("inv"),
        "missing outside: limit over 2000000 bytes/second burst 131072 bytes, counter limited, drop",
    ),
    "the quota was raised": (
        lambda objects: _find(objects, "quota", name="volume").update(bytes=9_000_000),
        "unexpected quota volume over 9000000 bytes",
    ),
    "the table is dormant": (
        lambda objects: _find(objects, "table", name="nodeseal").update(flags="dormant"),
        'unexpected table netdev nodeseal {"flags": "dormant"}',
    ),
    "a base chain accepts": (
        lambda objects: _find(objects, "chain", name="uplinks").update(policy="accept"),
        "unexpected chain uplinks filter egress 0 accept",
    ),
    "a base chain hooks something else": (
        lambda objects: _find(objects, "chain", name="uplinks").update(hook="ingress"),
        "unexpected chain uplinks filter ingress 0 drop",
    ),
    "a rule became a comparison of another kind": (
        lambda objects: _rules(objects, "frames")[0]["expr"][0]["match"].update(op="!="),
        "missing frames: ip daddr @enclave4, counter enclave, accept",
    ),
    "a set has a flag": (
        lambda objects: _find(objects, "set", name="enclave4").update(flags=["interval", "timeout"]),
        "missing set enclave4 ipv4_addr interval",
    ),
    "a map was added": (
        lambda objects: objects.append({"map": {"family": "netdev", "table": "nodeseal", "name": "m"}}),
        'unexpected {"family": "netdev", "name": "m", "table": "nodeseal"}',
    ),
    "a rule has a comment": (
        lambda objects: _rules(objects, "local")[0].update(comment="x"),
        "missing local: limit over 8192 bytes/second burst 16384 bytes, counter local_limited, drop",
    ),
    "a counter is gone": (
        lambda objects: objects.remove(next(each for each in objects if each.get("counter", {}).get("name") == "cut")),
        "missing counter cut",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_a_line_that_differs(what: str) -> None:
    change, line = CHANGES[what]
    assert line in _differences(change)


def test_versions_of_nft_that_list_implied_types_and_devices_give_the_same_lines() -> None:
    objects = _listing()
    kind = {"match": {"op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "ip"}}
    _rules(objects, "frames")[0]["expr"].insert(0, kind)
    _find(objects, "chain", name="uplinks").update(dev="up0")
    assert listed_lines(_raw(objects)) == listed_lines(LISTING.read_bytes())


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"nftables": 1}', b'{"nftables": [{}]}', b'{"nftables": [{"rule": 1}]}'])
def test_what_is_no_listing_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        listed_lines(raw)
