from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal import ids
from nodeseal.errors import MalformedInput

NODE = "n-" + "a2" * 13
LEASE = "l-" + "z7" * 13
DIGEST = "0123456789abcdef" * 4

PARSERS: list[tuple[Callable[[str], str], str]] = [
    (lambda text: ids.parse_name(text, "name"), "rack-a"),
    (ids.parse_key_id, "prod.2026_1"),
    (ids.parse_model_id, "llama"),
    (ids.parse_person_id, "ada"),
    (ids.parse_node_id, NODE),
    (ids.parse_lease_id, LEASE),
    (ids.parse_digest, DIGEST),
    (ids.parse_trust_domain, "fleet.example"),
]
HOSTILE = [
    pytest.param("", id="nothing"),
    pytest.param("../etc/passwd", id="path that climbs"),
    pytest.param("a/b", id="path separator"),
    pytest.param(".hidden", id="leading dot"),
    pytest.param("-rf", id="leading dash"),
    pytest.param("A", id="upper case"),
    pytest.param("a\n", id="trailing newline"),
    pytest.param("a\0b", id="NUL"),
    pytest.param("a\x1b[2Jb", id="terminal escape"),
    pytest.param("\u0430bc", id="Cyrillic letter that looks Latin"),
    pytest.param("a" * 1_000_000, id="a megabyte"),
]


@pytest.mark.parametrize(("parse", "good"), PARSERS)
def test_a_good_identifier_is_returned_as_it_is(parse: Callable[[str], str], good: str) -> None:
    assert parse(good) == good


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("parse", "good"), PARSERS)
def test_hostile_text_is_refused_and_quoted_inert(parse: Callable[[str], str], good: str, hostile: str) -> None:
    del good
    with pytest.raises(MalformedInput) as refusal:
        parse(hostile)
    assert str(refusal.value).isprintable()
    assert str(refusal.value).isascii()
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("parse", "bad"),
    [
        pytest.param(ids.parse_node_id, NODE[:-1], id="node id one letter short"),
        pytest.param(ids.parse_node_id, NODE + "a", id="node id one letter long"),
        pytest.param(ids.parse_node_id, LEASE, id="lease id as node id"),
        pytest.param(ids.parse_node_id, "n-" + "1" * 26, id="digit that base32 has not"),
        pytest.param(ids.parse_lease_id, NODE, id="node id as lease id"),
        pytest.param(ids.parse_digest, DIGEST[:-1], id="digest one digit short"),
        pytest.param(ids.parse_digest, DIGEST.upper(), id="digest in upper case"),
        pytest.param(ids.parse_key_id, "a" * 64, id="name of 64 letters"),
        pytest.param(ids.parse_trust_domain, "a" * 254, id="trust domain of 254 letters"),
        pytest.param(ids.parse_trust_domain, "spiffe://a", id="trust domain with a scheme"),
    ],
)
def test_a_near_miss_is_refused(parse: Callable[[str], str], bad: str) -> None:
    with pytest.raises(MalformedInput):
        parse(bad)


def test_the_longest_name_is_accepted() -> None:
    assert ids.parse_name("a" * 63, "name")


@given(st.text())
def test_whatever_parses_as_a_name_is_a_safe_file_name(text: str) -> None:
    try:
        name = ids.parse_name(text, "name")
    except MalformedInput:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ '\"$`")
    assert name[0] not in ".-"


@given(st.binary(max_size=70))
def test_a_node_id_is_the_start_of_a_labelled_digest_of_the_name(ek_name: bytes) -> None:
    digest = hashlib.sha256(b"nodeseal node id v1\0" + ek_name).digest()
    node_id = ids.node_id_of(ek_name)
    assert ids.parse_node_id(node_id) == node_id
    assert node_id.removeprefix("n-") == base64.b32encode(digest).decode().lower()[:26]


def test_another_endorsement_key_is_another_node() -> None:
    assert ids.node_id_of(b"\x00\x0b" + bytes(32)) != ids.node_id_of(b"\x00\x0b" + bytes(31) + b"\x01")


def test_a_lease_id_never_equals_a_node_id_of_the_same_bytes() -> None:
    lease, node = ids.lease_id_of(bytes(32)), ids.node_id_of(bytes(32))
    assert ids.parse_lease_id(lease) == lease
    assert lease[2:] != node[2:]


def test_a_digest_is_sha256_in_hex() -> None:
    assert ids.digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
