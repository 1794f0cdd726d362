"""Proposals: one spelling, bounded, and nothing in them that is not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.governance.changes import SHAPES, ChangeKind, parse_change
from nodeseal.governance.proposal import MAX_PROPOSAL, decode_proposal
from nodeseal.governance.sanction import ApprovedProposal, decode_approved
from support.ssh import ed25519_signer

SIGNER = ed25519_signer()
BARE = " ".join(SIGNER.line.split(" ")[:2])
PLAIN = {
    "format": "nodeseal/proposal/1",
    "trust_domain": "example.org",
    "origin": "example.org/nodeseal/1",
    "change": {"kind": "person.key-add", "person": "kim", "key": BARE},
    "base": "a" * 64,
    "rules": "b" * 64,
    "proposer": "lee",
    "reason": "new token",
    "expires": "2027-01-31T12:00:00Z",
    "nonce": "00" * 16,
}


def test_a_proposal_encodes_to_the_bytes_it_came_from() -> None:
    raw = encode_json(PLAIN)
    assert decode_proposal(raw, "proposal").encode() == raw


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("expires", "2027-01-31T12:00:00+00:00", "expires is not a time like"),
        ("expires", "2027-1-31T12:00:00Z", "expires is not a time like"),
        ("nonce", "00", "nonce is not 16 bytes"),
        ("reason", "x" * 501, "reason is not printable text of at most 500"),
        ("change", {"kind": "person.key-add", "person": "kim", "key": f"{BARE} a comment"}, "one spelling"),
        ("proposer", "Lee", "person is not"),
        ("base", "A" * 64, "base is not"),
        ("format", "nodeseal/proposal/2", "format is not"),
    ],
)
def test_what_does_not_fit_is_named(key: str, value: object, said: str) -> None:
    with pytest.raises(MalformedInput, match=said):
        decode_proposal(encode_json({**PLAIN, key: value}), "proposal")


def test_a_large_one_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MalformedInput, match=f"proposal: more than {MAX_PROPOSAL} bytes"):
        decode_proposal(b"{" * (MAX_PROPOSAL + 1), "proposal")


def test_every_kind_of_change_has_words_for_its_facts_and_a_command() -> None:
    assert set(SHAPES) == set(ChangeKind)
    for kind, shape in SHAPES.items():
        assert shape.command.startswith("nodeseal propose ")
        assert shape.words.format_map(dict.fromkeys(shape.facts, "x")).endswith(".")
        assert not shape.attachment or shape.attachment in shape.facts, kind


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(), max_size=4))
def test_whatever_facts_come_they_are_a_change_or_refused(facts: dict[str, object]) -> None:
    for kind in ChangeKind:
        try:
            change = parse_change(Fields({**facts, "kind": kind.value}, "change"))
        except MalformedInput:
            continue
        assert change.to_plain().keys() == {"kind", *SHAPES[kind].facts}


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_documents_or_refused(raw: bytes) -> None:
    for decode in (decode_proposal, decode_approved):
        try:
            found = decode(raw, "document")
        except MalformedInput:
            continue
        assert found.encode() == raw


def test_approvals_come_back_from_their_one_spelling() -> None:
    approved = ApprovedProposal(document=b"document", signature=b"", approvals=())
    raw = approved.encode()
    assert decode_approved(raw, "approvals") == approved
    plain = decode_json(raw, "approvals")
    assert isinstance(plain, dict)
    with pytest.raises(MalformedInput, match="unknown key"):
        decode_approved(encode_json({**plain, "more": 1}), "approvals")
