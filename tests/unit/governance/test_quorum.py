"""The one function that decides: from a good case, each fact that makes an approval or a proposal not count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nodeseal.documents import Fields
from nodeseal.governance.changes import parse_change
from nodeseal.governance.proposal import NAMESPACE, Proposal, decode_proposal, proposal_id
from nodeseal.governance.quorum import Approval, Member, Outcome, Question, decide, hazards, reaches
from nodeseal.governance.rules import SOLO, Rules, parse_rules
from nodeseal.ids import Digest, PersonId
from support.ssh import UP, UV, Signer, ed25519_signer, token
from support.together import quorum_rules

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
BASE = Digest("a" * 64)
KIM, LEE, ANN = map(PersonId, ("kim", "lee", "ann"))
SIGNERS = {name: ed25519_signer() for name in (KIM, LEE, ANN)}
RULES = quorum_rules()
CHANGE = parse_change(Fields({"kind": "key.revoke", "key": "llama"}, "change"))


def member(name: PersonId, *signers: Signer, proposes: bool = True, approves: bool = True) -> Member:
    blobs = frozenset(signer.blob for signer in signers)
    return Member(name=name, proposes=proposes, approves=approves, keys=blobs)


PEOPLE = {name: member(name, signer) for name, signer in SIGNERS.items()}


def a_proposal(rules: Rules = RULES) -> Proposal:
    return Proposal(
        trust_domain="test.example",
        origin="log",
        change=CHANGE,
        base=BASE,
        rules=rules.digest,
        proposer=KIM,
        reason="leaked",
        expires=NOW + timedelta(hours=1),
        nonce=bytes(16),
    )


def approval(name: PersonId, document: bytes, signer: Signer | None = None, **options: str) -> Approval:
    namespace = options.pop("namespace", NAMESPACE)
    return Approval(person=name, signature=(signer or SIGNERS[name]).signature(document, namespace), at=NOW)


def question(rules: Rules = RULES, *approvals: Approval) -> Question:
    proposal = a_proposal(rules)
    document = proposal.encode()
    return Question(
        proposal=proposal,
        document=document,
        signature=SIGNERS[KIM].signature(document, NAMESPACE),
        approvals=approvals or (approval(LEE, document),),
        rules=rules,
        following=None,
        people=PEOPLE,
        now=NOW,
        base=BASE,
        trust_domain="test.example",
        origin="log",
    )


def test_one_other_person_is_enough_where_one_is_asked() -> None:
    answer = decide(question())
    assert (answer.outcome, answer.counted, answer.refused, answer.why) == (Outcome.APPROVED, (LEE,), (), ())


def test_a_document_has_one_spelling_and_an_id() -> None:
    raw = a_proposal().encode()
    assert decode_proposal(raw, "proposal") == a_proposal()
    assert len(proposal_id(raw)) == 64


DOCUMENT = a_proposal().encode()
OTHER = replace(a_proposal(), nonce=b"1" * 16).encode()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (approval(KIM, DOCUMENT), "proposed it"),
        (approval(LEE, OTHER), "ssh.signature"),
        (approval(LEE, DOCUMENT, namespace="file"), "ssh.namespace"),
        (approval(LEE, DOCUMENT, SIGNERS[ANN]), "is not theirs alone"),
        (approval(LEE, DOCUMENT, ed25519_signer()), "is not theirs alone"),
        (approval(PersonId("eve"), DOCUMENT, SIGNERS[LEE]), "may not approve"),
        (Approval(person=LEE, signature=b"", at=NOW), "there is none"),
        (Approval(person=LEE, signature=b"rubbish", at=NOW), "SSH"),
        (replace(approval(LEE, DOCUMENT), at=NOW - timedelta(hours=72)), "older than approvals last"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_count_is_told_with_the_reason(given: Approval, why: str) -> None:
    answer = decide(question(RULES, given))
    assert (answer.outcome, answer.counted) == (Outcome.OPEN, ())
    assert why.lower() in answer.refused[0][1].lower()
    assert answer.why == ("1 more of 1 approvals",)


@pytest.mark.parametrize(
    "people",
    [
        {**PEOPLE, LEE: member(LEE, SIGNERS[LEE], approves=False)},
        {name: each for name, each in PEOPLE.items() if name != LEE},
        {**PEOPLE, LEE: member(LEE)},
        {**PEOPLE, ANN: member(ANN, SIGNERS[ANN], SIGNERS[LEE])},
    ],
    ids=["suspended or without the role", "removed", "key removed", "key shared"],
)
def test_an_approval_counts_only_while_its_person_and_key_do(people: dict[PersonId, Member]) -> None:
    assert decide(replace(question(), people=people)).outcome is Outcome.OPEN


def test_one_person_has_one_vote() -> None:
    rules = quorum_rules(approvals=2)
    second = ed25519_signer()
    document = a_proposal(rules).encode()
    twice = approval(LEE, document), approval(LEE, document, second)
    asked = replace(question(rules, *twice), people={**PEOPLE, LEE: member(LEE, SIGNERS[LEE], second)})
    answer = decide(asked)
    assert (answer.outcome, answer.counted, answer.refused) == (Outcome.OPEN, (LEE,), ((LEE, "has approved already"),))
    assert decide(question(rules, twice[0], approval(ANN, document))).outcome is Outcome.APPROVED


@pytest.mark.parametrize(
    ("changed", "outcome", "why"),
    [
        ({"now": NOW + timedelta(hours=1)}, Outcome.EXPIRED, "its time has passed"),
        ({"base": Digest("b" * 64)}, Outcome.STALE, "what it changes has changed"),
        ({"rules": quorum_rules(version=3)}, Outcome.STALE, "the rules have changed"),
        ({"trust_domain": "other.example"}, Outcome.STALE, "another trust domain"),
        ({"origin": "other"}, Outcome.STALE, "another log"),
        ({"people": {LEE: PEOPLE[LEE]}}, Outcome.STALE, "may not propose any more"),
        ({"people": {**PEOPLE, KIM: member(KIM, SIGNERS[KIM], proposes=False)}}, Outcome.STALE, "may not propose"),
        ({"signature": b""}, Outcome.OPEN, "a signature of the proposer"),
        ({"signature": SIGNERS[LEE].signature(DOCUMENT, NAMESPACE)}, Outcome.OPEN, "a signature of the proposer"),
    ],
)
def test_a_proposal_counts_only_where_and_while_all_that_it_names_is_so(
    changed: dict[str, object], outcome: Outcome, why: str
) -> None:
    answer = decide(replace(question(), **changed))  # type: ignore[arg-type]  # each is a field of it
    assert answer.outcome is outcome
    assert why in answer.why[0]


def test_a_token_must_know_its_user_where_the_rules_say_so() -> None:
    rules = quorum_rules(verified=True)
    document = a_proposal(rules).encode()
    known, touched = token(flags=UP | UV), token(flags=UP)
    people = {KIM: member(KIM, known), LEE: member(LEE, touched), ANN: member(ANN, token(flags=UP | UV))}
    signed = replace(question(rules, approval(LEE, document, touched)), people=people)
    signed = replace(signed, signature=known.signature(document, NAMESPACE))
    answer = decide(signed)
    assert (answer.outcome, answer.counted) == (Outcome.OPEN, ())
    ann = token(flags=UP | UV)
    people[ANN] = member(ANN, ann)
    assert decide(replace(signed, approvals=(approval(ANN, document, ann),))).outcome is Outcome.APPROVED


def test_g05_other_rules_need_the_old_and_the_new_quorum() -> None:
    weaker, stronger = quorum_rules(version=3, approvals=1), quorum_rules(version=3, approvals=2)
    old = quorum_rules(approvals=2)
    document = a_proposal(old).encode()
    one = replace(question(old, approval(LEE, document)), following=weaker)
    assert decide(one).outcome is Outcome.OPEN
    both = (approval(LEE, document), approval(ANN, document))
    assert decide(replace(one, approvals=both)).outcome is Outcome.APPROVED
    under_one = replace(question(), following=stronger)
    assert (decide(under_one).outcome, decide(under_one).why) == (Outcome.OPEN, ("1 more of 2 approvals",))


def test_g05_the_first_quorum_needs_those_who_will_be_asked() -> None:
    alone = replace(question(SOLO), following=RULES, approvals=())
    assert decide(alone).outcome is Outcome.OPEN
    document = a_proposal(SOLO).encode()
    assert decide(replace(alone, approvals=(approval(LEE, document),))).outcome is Outcome.APPROVED
    assert decide(replace(alone, following=None, signature=b"")).outcome is Outcome.APPROVED


def test_g05_under_solo_an_operator_does_not_decide_alone() -> None:
    operator = {**PEOPLE, KIM: member(KIM, SIGNERS[KIM], approves=False)}
    alone = replace(question(SOLO), people=operator, approvals=())
    assert (decide(alone).outcome, decide(alone).why[0].startswith("an approver")) == (Outcome.OPEN, True)
    document = a_proposal(SOLO).encode()
    assert decide(replace(alone, approvals=(approval(LEE, document),))).outcome is Outcome.APPROVED
    assert decide(replace(alone, people=PEOPLE)).outcome is Outcome.APPROVED


def test_g05_rules_that_skip_a_version_are_stale() -> None:
    assert decide(replace(question(), following=quorum_rules(version=4))).outcome is Outcome.STALE


def test_g05_rules_that_nobody_can_meet_do_not_reach_and_a_missing_person_is_a_hazard() -> None:
    assert reaches(SOLO, {})
    assert reaches(quorum_rules(approvals=2), PEOPLE)
    assert not reaches(quorum_rules(approvals=3), PEOPLE)
    assert not reaches(RULES, {KIM: PEOPLE[KIM], LEE: member(LEE)})
    assert not reaches(quorum_rules(verified=True), PEOPLE)  # nobody has a token
    assert hazards(RULES, PEOPLE) == ()
    assert hazards(quorum_rules(approvals=2), PEOPLE) == tuple(
        f"without {name} nobody can meet these rules" for name in ("ann", "kim", "lee")
    )


def test_groups_must_have_approved_as_well() -> None:
    text = RULES_WITH_GROUP
    rules = parse_rules(text.encode(), "rules.yaml")
    document = a_proposal(rules).encode()
    answer = decide(question(rules, approval(LEE, document)))
    assert (answer.outcome, answer.why) == (Outcome.OPEN, ("group security",))
    assert decide(question(rules, approval(ANN, document))).outcome is Outcome.APPROVED


RULES_WITH_GROUP = """\
format: "nodeseal/rules/1"
version: 2
rule: "quorum"
approvals: 1
groups: ["security any ann"]
require: ["security"]
user_verification: false
approvals_last_hours: 72
needs_proposal: ["all"]
"""


def test_approvals_that_only_one_of_two_rules_counts_are_carried_with_the_others() -> None:
    """Whoever decides again has only the approvals that counted, and must come to the same."""
    rules, following = quorum_rules(hours=1), quorum_rules(version=3, approvals=2)
    document = a_proposal(rules).encode()
    earlier = replace(approval(LEE, document), at=NOW - timedelta(hours=2))
    asked = replace(question(rules, earlier, approval(ANN, document)), following=following)
    answer = decide(asked)
    assert (answer.outcome, set(answer.counted), answer.everywhere) == (Outcome.APPROVED, {LEE, ANN}, (ANN,))
    carried = tuple(each for each in asked.approvals if each.person in answer.counted)
    assert decide(replace(asked, approvals=carried)) == answer


def test_whoever_counts_under_the_old_rules_only_may_approve_again_for_the_new_ones() -> None:
    following = quorum_rules(version=3, verified=True)
    answer = decide(replace(question(), following=following))
    assert (answer.outcome, answer.counted, answer.everywhere) == (Outcome.OPEN, (LEE,), ())
