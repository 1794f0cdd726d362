"""Documents beside acts: cut to documented lengths, named by digest."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import decode_json
from nodeseal.findings import Finding, FindingId
from nodeseal.verifier.ledger.documents import (
    LOGGED_FINDINGS,
    MAX_CODES,
    MAX_TEXT,
    codes_of,
    cut_findings,
    document_of,
    findings_document,
    labels_document,
)
from nodeseal.verifier.store.nodes import decode_findings, decode_labels

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
FINDING = Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b", where="sha256:4", event="boot")


def test_a_document_is_named_by_its_sha_256() -> None:
    assert document_of(b"x") == (sha256(b"x").hexdigest(), b"x")


def test_no_findings_have_no_document() -> None:
    codes, document = findings_document(())
    assert (codes, document.digest, document.content) == ((), "", b"")


def test_findings_survive_as_a_document() -> None:
    codes, document = findings_document((FINDING,))
    assert codes == ("pcr.mismatch",)
    assert decode_findings(document.content) == (FINDING,)
    assert document.digest == sha256(document.content).hexdigest()


def test_a_document_has_the_first_findings() -> None:
    many = [Finding(id=FindingId.PCR_MISMATCH, expected="x", seen=str(number)) for number in range(200)]
    kept = decode_findings(findings_document(many).document.content)
    assert [finding.seen for finding in kept] == [str(number) for number in range(LOGGED_FINDINGS)]


def test_codes_are_named_once_in_the_order_of_their_findings() -> None:
    found = [Finding(id=each, expected="x", seen="y") for each in FindingId for _ in range(2)]
    codes = codes_of(found)
    assert codes == tuple(each.code for each in FindingId)[:MAX_CODES]


@given(expected=ANY_TEXT, seen=ANY_TEXT, where=ANY_TEXT, event=ANY_TEXT)
def test_every_text_is_cut_and_prints(expected: str, seen: str, where: str, event: str) -> None:
    (cut,) = cut_findings([Finding(id=FindingId.PCR_MISMATCH, expected=expected, seen=seen, where=where, event=event)])
    for text, kept in zip((expected, seen, where, event), (cut.expected, cut.seen, cut.where, cut.event), strict=True):
        assert len(kept) <= MAX_TEXT
        assert kept.isprintable()
        if text.isprintable() and len(text) <= MAX_TEXT:
            assert kept == text
    assert cut_findings([cut]) == (cut,)


def test_a_text_that_was_cut_says_so() -> None:
    (whole,) = cut_findings([Finding(id=FindingId.PCR_MISMATCH, expected="x" * MAX_TEXT, seen="s")])
    (cut,) = cut_findings([Finding(id=FindingId.PCR_MISMATCH, expected="x" * (MAX_TEXT + 1), seen="s")])
    assert whole.expected == "x" * MAX_TEXT
    assert cut.expected == "x" * (MAX_TEXT - 1) + "…"


def test_labels_have_one_document_whatever_their_order() -> None:
    first, second = labels_document({"a": "1", "b": "2"}), labels_document({"b": "2", "a": "1"})
    assert first == second
    assert decode_labels(first.content) == {"a": "1", "b": "2"}
    assert decode_json(first.content, "labels") == {"a": "1", "b": "2"}
