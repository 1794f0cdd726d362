from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nodeseal.causes import EndCause
from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import digest_of
from nodeseal.sealed.slots import MAX_SLOTS_BYTES, Slots
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2
from nodeseal.v1.attestation_pb2 import PcrSelection as Message
from nodeseal.verifier.states import NodeState
from nodeseal.wire.messages import (
    cause_from_proto,
    cause_to_proto,
    describe_finding,
    findings_from_proto,
    findings_to_proto,
    selection_from_proto,
    selection_to_proto,
    slots_from_proto,
    state_from_proto,
    state_to_proto,
    timestamp,
)
from support.sealed import model_key

FINDING = Finding(id=FindingId.PCR_MISMATCH, where="sha256:4", expected="a", seen="b", event="e")


def test_a_selection_keeps_banks_in_order() -> None:
    message = Message(banks=[Message.Bank(hash=0xC, pcrs=[0, 1]), Message.Bank(hash=0xB, pcrs=[15])])
    assert selection_from_proto(message) == PcrSelection(((HashAlg.SHA384, (0, 1)), (HashAlg.SHA256, (15,))))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Message(), id="no bank"),
        pytest.param(Message(banks=[Message.Bank(hash=0x12, pcrs=[0])]), id="an unknown bank"),
        pytest.param(Message(banks=[Message.Bank(hash=0xB)]), id="an empty bank"),
        pytest.param(Message(banks=[Message.Bank(hash=0xB, pcrs=[24])]), id="a PCR that does not exist"),
        pytest.param(Message(banks=[Message.Bank(hash=0xB, pcrs=[1, 1])]), id="a PCR twice"),
        pytest.param(Message(banks=2 * [Message.Bank(hash=0xB, pcrs=[1])]), id="a bank twice"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(message: Message) -> None:
    with pytest.raises(MalformedInput):
        selection_from_proto(message)


def test_a_selection_comes_back() -> None:
    selection = PcrSelection(((HashAlg.SHA384, (0, 1)), (HashAlg.SHA256, (15,))))
    assert selection_from_proto(selection_to_proto(selection)) == selection


def test_findings_that_this_version_does_not_know_are_left_out() -> None:
    messages = [
        attestation_pb2.Finding(id="pcr.mismatch", where="sha256:4", expected="a", seen="b", event="e"),
        attestation_pb2.Finding(id="future.finding"),
    ]
    assert [(finding.id, finding.event) for finding in findings_from_proto(messages)] == [(FindingId.PCR_MISMATCH, "e")]


def test_findings_come_back() -> None:
    assert findings_from_proto(findings_to_proto([FINDING])) == (FINDING,)


def test_texts_of_others_travel_inert_and_cut() -> None:
    (message,) = findings_to_proto([Finding(id=FindingId.PCR_MISMATCH, expected="\x1b[31mé", seen="x" * 5000)])
    assert (message.expected, len(message.seen)) == ("\\x1b[31mé", 2000)


def test_a_finding_reads_the_same_here_and_from_the_wire() -> None:
    (message,) = findings_to_proto([FINDING])
    assert describe_finding(message) == str(FINDING)


def test_a_finding_of_a_newer_verifier_is_shown_to_people() -> None:
    message = attestation_pb2.Finding(id="future.finding", expected="a", seen="b")
    assert describe_finding(message) == "future.finding: expected a, seen b"


@pytest.mark.parametrize("state", NodeState)
def test_every_state_of_a_node_has_a_number(state: NodeState) -> None:
    assert state_from_proto(state_to_proto(state.value)) == state.value


@pytest.mark.parametrize("number", [0, 99])
def test_a_state_of_a_newer_verifier_is_unknown(number: int) -> None:
    assert state_from_proto(number) == "unknown"


@pytest.mark.parametrize("cause", EndCause)
def test_a_cause_comes_back(cause: EndCause) -> None:
    assert cause_from_proto(cause_to_proto(cause)) is cause


def test_a_verifier_of_the_first_release_names_no_cause_and_means_a_revocation() -> None:
    assert cause_from_proto(attestation_pb2.Revocation().cause) is EndCause.REVOCATION


@pytest.mark.parametrize("number", [4, 1000])
def test_a_cause_of_a_newer_verifier_ends_all_leases(number: int) -> None:
    assert cause_from_proto(number) is EndCause.DISTRUST


def test_a_time_comes_back() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    assert timestamp(at).ToDatetime(UTC) == at


def test_slots_travel_as_the_bytes_of_their_document() -> None:
    _, key = model_key()
    slots = Slots(digest_of(b"model"), (key.slot(digest_of(b"model"), bytes(32)),))
    assert slots_from_proto(slots.encode(), "nodeseal-agent") == slots


@pytest.mark.parametrize("peer", ["nodeseal", "nodeseal-agent", "nodeseal-verifier"])
def test_a_peer_of_the_first_release_is_to_be_updated(peer: str) -> None:
    with pytest.raises(MalformedInput, match=f"{peer} sent no slots, as older versions do") as caught:
        slots_from_proto(b"", peer)
    assert caught.value.remedy == f"update {peer}"


def test_slots_are_bounded_before_they_are_parsed() -> None:
    with pytest.raises(MalformedInput, match="at most 262144"):
        slots_from_proto(b" " * (MAX_SLOTS_BYTES + 1), "nodeseal")
