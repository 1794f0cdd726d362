"""Acts: a closed union whose members have names, words, subjects and a size that their bounds keep."""

from __future__ import annotations

import dataclasses
import string

import pytest

from nodeseal.ids import PersonId
from nodeseal.verifier.ledger import acts
from nodeseal.verifier.ledger.acts import KINDS, Act
from nodeseal.verifier.ledger.leaf import MAX_BODY, SALT_SIZE, Entry
from support.acts import AT, EXAMPLES, KEY, LEASE, MODEL, NODE, largest

EVERY = pytest.mark.parametrize("kind", KINDS)
RAISED = {
    "node.enrolled": (f"node/{NODE}", f"node/{NODE}/identity", f"node/{NODE}/certificate"),
    "node.judged": (f"node/{NODE}",),
    "node.labelled": (f"node/{NODE}/labels",),
    "node.renewed": (f"node/{NODE}/certificate",),
    "node.certificate-replaced": (f"node/{NODE}/certificate",),
    "lease.issued": (f"lease/{LEASE}",),
    "lease.ended": (f"lease/{LEASE}",),
    "key.revoked": (f"key/{KEY}",),
    "key.withdrawn": (f"grant/{KEY}/{NODE}",),
    "model.retired": (f"model/{MODEL}",),
    "person.removed": ("person/kim",),
    "release.denied": (),
    "node.evidence-exported": (),
    "model.rewrapped": (),
    "log.opened": ("log",),
}
RESTS = {
    "lease.issued": (f"node/{NODE}", f"key/{KEY}", f"grant/{KEY}/{NODE}", f"model/{MODEL}"),
    "lease.ended": (f"node/{NODE}", f"key/{KEY}"),
    "release.denied": (f"node/{NODE}", f"model/{MODEL}"),
    "node.evidence-exported": (f"node/{NODE}",),
    "key.granted": (f"key/{KEY}",),
    "key.withdrawn": (f"key/{KEY}",),
    "model.rewrapped": (f"model/{MODEL}",),
    "model.rewrap-denied": (f"model/{MODEL}",),
}


def test_every_act_has_an_example_and_a_kind_of_its_own() -> None:
    assert KINDS.keys() == EXAMPLES.keys()
    assert len(KINDS) == len(Act.__args__)


@EVERY
def test_an_act_is_frozen(kind: str) -> None:
    act = EXAMPLES[kind]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(act, dataclasses.fields(act)[0].name, "another")


@EVERY
def test_an_act_says_in_words_what_happened(kind: str) -> None:
    sentence = EXAMPLES[kind].sentence()
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert not set("{}") & set(sentence)
    assert "NodeState" not in sentence
    named = {field for _, field, _, _ in string.Formatter().parse(KINDS[kind].words) if field}
    assert named <= {field.name for field in dataclasses.fields(KINDS[kind])}


def test_words_spell_lists_bytes_times_and_what_is_missing() -> None:
    assert "opened: llama version 1" in EXAMPLES["model.rewrapped"].sentence()
    assert "llama version 2, other version 1" in EXAMPLES["model.rewrapped"].sentence()
    assert "root " + "00" * 32 in EXAMPLES["log.opened"].sentence()
    renewed = dataclasses.replace(EXAMPLES["node.renewed"], next_certificate_sha256=b"")
    assert "certificate, none, which" in renewed.sentence()
    assert "(before: stale)" in EXAMPLES["node.judged"].sentence()
    assert "ended (cause: silence): " in EXAMPLES["lease.ended"].sentence()


@pytest.mark.parametrize("kind", RAISED)
def test_an_act_raises_what_it_changes(kind: str) -> None:
    assert EXAMPLES[kind].raises == RAISED[kind]


@EVERY
def test_an_act_rests_on_what_it_was_decided_on(kind: str) -> None:
    assert EXAMPLES[kind].rests_on == RESTS.get(kind, ())


@EVERY
def test_no_act_within_its_bounds_is_larger_than_a_body_may_be(kind: str) -> None:
    """Texts are ASCII here; the longest ones are bounded in bytes where they come in."""
    entry = Entry(act=largest(kind), actor="person/" + "p" * 63, at=AT, versions={}, salt=bytes(SALT_SIZE))
    assert len(entry.body()) <= MAX_BODY


@EVERY
def test_subjects_fit_their_column(kind: str) -> None:
    act = largest(kind)
    assert all(len(subject) <= 160 for subject in (*act.raises, *act.rests_on))
    assert len(kind) <= 32


def test_subjects_differ() -> None:
    made = [
        acts.node_subject(NODE),
        acts.identity_subject(NODE),
        acts.certificate_subject(NODE),
        acts.labels_subject(NODE),
        acts.key_subject(KEY),
        acts.grant_subject(KEY, NODE),
        acts.model_subject(MODEL),
        acts.golden_subject(MODEL),
        acts.lease_subject(LEASE),
        acts.person_subject(PersonId("kim")),
    ]
    assert len(set(made)) == len(made)
