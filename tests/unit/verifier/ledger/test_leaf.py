"""Leaves: envelope and salted body, their MAC, and what they refuse."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.verifier.ledger.acts import KINDS, NodeQuarantined
from nodeseal.verifier.ledger.leaf import MAX_BODY, Entry, MacKey, leaf_hash, read_entry
from support.acts import AT, EXAMPLES, NODE, largest
from support.damage import flipped

SALT = bytes(range(16))
KEY = MacKey(raw=bytes(range(32)))
EVERY = pytest.mark.parametrize("kind", KINDS)


def entry_of(kind: str) -> Entry:
    act = EXAMPLES[kind]
    return Entry(act=act, actor="person/kim", at=AT, versions=dict.fromkeys((*act.raises, *act.rests_on), 7), salt=SALT)


ENTRY = entry_of("node.quarantined")
BODY = ENTRY.body()
ENVELOPE = ENTRY.envelope(BODY)


@EVERY
def test_a_leaf_survives_byte_for_byte(kind: str) -> None:
    entry = entry_of(kind)
    body = entry.body()
    envelope = entry.envelope(body)
    again = read_entry(envelope, body)
    assert again == entry
    assert (again.body(), again.envelope(body)) == (body, envelope)


def test_the_bytes_of_a_leaf() -> None:
    assert (
        b'{"actor":"person/kim","fields":{"node_id":"' + NODE.encode() + b'","reason":"looks odd"},'
        b'"salt":"000102030405060708090a0b0c0d0e0f"}'
    ) == BODY
    assert (
        b'{"at":"2026-01-02T03:04:05.678901+00:00","body":"'
        + hashlib.sha256(BODY).hexdigest().encode()
        + b'","kind":"node.quarantined","subjects":{"node/'
        + NODE.encode()
        + b'":7}}'
    ) == ENVELOPE


def test_the_envelope_tells_nothing_of_the_body() -> None:
    """Two acts that differ in their salt only have unrelated digests, so nobody guesses a withheld body."""
    other = replace(ENTRY, salt=bytes(16))
    assert other.envelope(other.body()) != ENVELOPE
    assert b"looks odd" not in ENVELOPE
    assert b"kim" not in ENVELOPE


def test_the_leaf_hash_is_rfc_6962s() -> None:
    assert leaf_hash(b"") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"  # §2.1.1's empty leaf
    assert leaf_hash(ENVELOPE) == hashlib.sha256(b"\0" + ENVELOPE).hexdigest()


def test_the_mac_covers_both_parts_and_where_they_meet() -> None:
    length = len(ENVELOPE).to_bytes(8, "big")
    expected = hmac.new(KEY.raw, b"nodeseal act\0" + length + ENVELOPE + BODY, "sha256").digest()
    assert KEY.mac(ENVELOPE, BODY) == expected
    assert KEY.mac(ENVELOPE + BODY[:1], BODY[1:]) != expected
    assert KEY.holds(ENVELOPE, BODY, expected)


@given(data=st.data())
def test_no_flipped_bit_keeps_the_mac(data: st.DataObject) -> None:
    mac = KEY.mac(ENVELOPE, BODY)
    parts = [ENVELOPE, BODY, mac, KEY.raw]
    which = data.draw(st.integers(0, 3))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    parts[which] = flipped(parts[which], at)
    assert not MacKey(raw=parts[3]).holds(parts[0], parts[1], parts[2])


def test_a_key_is_in_no_repr() -> None:
    assert "0102" not in repr(KEY).replace("\\x", "")
    assert "salt" not in repr(ENTRY)


def test_a_body_has_a_largest_size() -> None:
    act = largest("key.created")
    entry = Entry(act=act, actor="x", at=AT, versions={}, salt=SALT)
    assert len(entry.body()) < MAX_BODY
    with pytest.raises(MalformedInput, match=r"key\.created: a body of 4097 bytes, at most 4096"):
        replace(entry, actor="x" * (MAX_BODY + 2 - len(entry.body()))).body()
    assert len(replace(entry, actor="x" * (MAX_BODY + 1 - len(entry.body()))).body()) == MAX_BODY


def test_a_text_of_many_bytes_is_counted_in_bytes() -> None:
    act = NodeQuarantined(node_id=NODE, reason="\x01" * 500)
    with pytest.raises(MalformedInput, match="a body of"):
        replace(ENTRY, act=act, actor="\x01" * 200).body()


def forged(**changes: object) -> bytes:
    """Return the envelope with other fields; None takes one away."""
    plain = {**json.loads(ENVELOPE), **changes}
    return encode_json({name: value for name, value in plain.items() if value is not None})


def of_body(body: bytes) -> bytes:
    return forged(body=hashlib.sha256(body).hexdigest())


BODIES = {
    "no JSON": b"{",
    "not canonical": BODY.replace(b'":', b'": '),
    "no actor": BODY.replace(b'"actor":"person/kim",', b""),
    "an actor that is no text": BODY.replace(b'"person/kim"', b"7"),
    "a field too many": BODY.replace(b'"salt"', b'"more":1,"salt"'),
    "a short salt": BODY.replace(b"000102", b"0102"),
    "fields of another act": BODY.replace(b'"reason":"looks odd"', b'"before":"stale"'),
    "a field twice": BODY.replace(b'"salt"', b'"actor":"x","salt"'),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_hostile_body_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        read_entry(of_body(body), body)


ENVELOPES = {
    "no JSON": b"{",
    "not canonical": ENVELOPE + b"\n",
    "another kind": forged(kind="node.retire"),
    "no kind": forged(kind=None),
    "no time": forged(at="soon"),
    "a time without a zone": forged(at="2026-01-02T03:04:05.678901"),
    "a subject that is no mapping": forged(subjects=[]),
    "a version below zero": forged(subjects={"node/x": -1}),
    "a version that is no number": forged(subjects={"node/x": "7"}),
    "a field too many": forged(more=1),
    "another body's digest": forged(body="00" * 32),
}


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
def test_a_hostile_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(MalformedInput):
        read_entry(envelope, BODY)


def test_a_body_of_another_envelope_is_refused() -> None:
    other = replace(ENTRY, salt=bytes(16)).body()
    with pytest.raises(MalformedInput, match="the body is not the one that the envelope names"):
        read_entry(ENVELOPE, other)
