"""The egress document: what it says, and what it refuses with file, line and key."""

from __future__ import annotations

import pytest

from nodeseal.documents import encode_json
from nodeseal.egress.document import Level, Uplink, egress_plain, parse_egress, parse_egress_file
from nodeseal.errors import MalformedInput
from nodeseal.ids import digest_of
from nodeseal.settings import parse_yaml
from support.egress import DOCUMENT, document

GOOD = DOCUMENT.decode()


def test_a_document_says_what_it_says() -> None:
    found = document()
    assert [str(prefix) for prefix in found.enclave] == ["10.77.0.0/24", "fd77::/64"]
    assert found.uplinks == (Uplink("up0"), Uplink("up0", 7))
    assert found.vlans == (7,)
    assert found.limits(Level.NORMAL).rate == 2_000_000
    assert found.limits(Level.TIGHT).volume == 1_000_000


def test_its_digest_is_that_of_its_canonical_json_in_any_order_of_keys_and_items() -> None:
    shuffled = GOOD.replace('["10.77.0.0/24", "fd77::/64"]', '["fd77::/64", "10.77.0.0/24"]')
    assert document(shuffled.encode()).digest == document().digest == digest_of(encode_json(egress_plain(document())))


def test_a_file_needs_its_format() -> None:
    assert parse_egress_file(parse_yaml(b"format: nodeseal/egress/1\n" + DOCUMENT, "f")) == document()
    with pytest.raises(MalformedInput, match="format"):
        parse_egress_file(parse_yaml(DOCUMENT, "f"))


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("10.77.0.0/24", "10.77.0.1/24", 1, "without host bits"),
        ("10.77.0.0/24", "10.77.0.0/255.255.255.0", 1, "one spelling"),
        ("10.77.0.0/24", "0.0.0.0/0", 1, "at least /8"),
        ("10.77.0.0/24", "224.0.0.0/8", 1, "multicast"),
        ("10.77.0.0/24", "169.254.1.0/24", 1, "link-local"),
        ("fd77::/64", "fe80::/16", 1, "link-local"),
        ("fd77::/64", "::ffff:0:0/96", 1, "network of machines"),
        ("fd77::/64", "10.77.0.128/25", 1, "apart from 10.77.0.0/24"),
        ('"up0.7"', '"up0.4095"', 2, "from 1 to 4094"),
        ('"up0.7"', '"up0"', 2, "twice"),
        ('"up0.7"', '"up0;drop"', 2, "name of a device"),
        ("rate: 2000000", "rate: 1", 3, "from 1024"),
        ("burst: 131072", "burst: 1", 3, "from 65536"),
        ("rate: 100000", "rate: 2000001", 4, "at most as wide as normal"),
        ("burst: 65536", "burst: 131073", 4, "at most as wide as normal"),
        ("volume: 1000000}", "volume: 8000001}", 4, "at most as wide as normal"),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_key(before: str, after: str, line: int, said: str) -> None:
    assert before in GOOD
    with pytest.raises(MalformedInput, match=f"rack.yaml, line {line}.*{said}"):
        parse_egress(parse_yaml(GOOD.replace(before, after, 1).encode(), "rack.yaml"))


@pytest.mark.parametrize("extra", ["speed: 1\n", "counted: []\n", 'counted: ["a/b"]\n', 'counted: ["ib0", "ib0"]\n'])
def test_unknown_keys_and_bad_lists_are_refused(extra: str) -> None:
    with pytest.raises(MalformedInput):
        document(DOCUMENT + extra.encode())


def test_counted_devices_are_part_of_the_digest() -> None:
    counted = document(DOCUMENT + b'counted: ["ib0"]\n')
    assert counted.counted == ("ib0",)
    assert counted.digest != document().digest
