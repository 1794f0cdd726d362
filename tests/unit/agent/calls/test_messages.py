from __future__ import annotations

import os

import pytest

from nodeseal.agent.calls.messages import (
    evidence_messages,
    parse_challenge,
    parse_findings,
    parse_lease_ids,
    parse_nonce,
    parse_selection,
)
from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import MAX_LOG_PIECE, ImaDelta, KnownLogs
from nodeseal.evidence.round import Evidence
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.v1 import attestation_pb2
from nodeseal.v1.attestation_pb2 import PcrSelection as Message


def test_a_selection_keeps_banks_in_order() -> None:
    message = Message(banks=[Message.Bank(hash=0xC, pcrs=[0, 1]), Message.Bank(hash=0xB, pcrs=[15])])
    assert parse_selection(message) == PcrSelection(((HashAlg.SHA384, (0, 1)), (HashAlg.SHA256, (15,))))


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
        parse_selection(message)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput):
        parse_nonce(bytes(size))


def test_findings_that_this_version_does_not_know_are_left_out() -> None:
    messages = [
        attestation_pb2.Finding(id="pcr.mismatch", where="sha256:4", expected="a", seen="b", event="e"),
        attestation_pb2.Finding(id="future.finding"),
    ]
    assert [(finding.id, finding.event) for finding in parse_findings(messages)] == [(FindingId.PCR_MISMATCH, "e")]


def test_values_that_did_not_change_do_not_travel() -> None:
    (message,) = evidence_messages(Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None))
    assert message == attestation_pb2.Evidence(claims=b"c", attest=b"a", signature=b"s")


@pytest.mark.parametrize(
    ("boot_log", "entries", "stretches"),
    [
        pytest.param(0, 0, [(0, 0)], id="nothing new is one message"),
        pytest.param(10, 20, [(10, 20)], id="short logs share a message"),
        pytest.param(MAX_LOG_PIECE, 0, [(MAX_LOG_PIECE, 0)], id="a boot log that just fits"),
        pytest.param(MAX_LOG_PIECE + 1, 0, [(MAX_LOG_PIECE, 0), (1, 0)], id="a boot log one byte too long"),
        pytest.param(
            MAX_LOG_PIECE, 1, [(MAX_LOG_PIECE, 0), (0, 1)], id="an entry that has no room beside the boot log"
        ),
        pytest.param(
            1, 2 * MAX_LOG_PIECE, [(1, MAX_LOG_PIECE - 1), (0, MAX_LOG_PIECE), (0, 1)], id="an IMA log of three"
        ),
    ],
)
def test_logs_travel_in_stretches_and_all_else_in_the_last_message(
    boot_log: int, entries: int, stretches: list[tuple[int, int]]
) -> None:
    sent = Evidence(
        claims=b"c",
        attest=b"a",
        signature=b"s",
        pcr_values=(b"v",),
        boot_log=os.urandom(boot_log),
        ima=ImaDelta(offset=5, entries=os.urandom(entries), bank=HashAlg.SHA384),
    )
    *first, last = messages = list(evidence_messages(sent))
    assert [(len(each.boot_log), len(each.ima.entries)) for each in messages] == stretches
    assert b"".join(each.boot_log for each in messages) == sent.boot_log
    assert [each.HasField("ima") for each in messages[:-1]] == [bool(each.ima.entries) for each in messages[:-1]]
    at = 5
    for each in messages:
        if each.HasField("ima"):
            assert (each.ima.offset, each.ima.hash) == (at, HashAlg.SHA384)
            assert each.ima.entries == sent.ima.entries[at - 5 : at - 5 + len(each.ima.entries)]  # type: ignore[union-attr]  # it is there
            at += len(each.ima.entries)
    assert at == 5 + entries
    assert all(each.more and not each.claims and not each.attest and not each.pcr_values for each in first)
    assert (last.more, last.claims, last.attest, last.signature, list(last.pcr_values)) == (
        False,
        b"c",
        b"a",
        b"s",
        [b"v"],
    )


def test_a_node_without_an_ima_log_sends_none() -> None:
    (message,) = evidence_messages(
        Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None, boot_log=b"log", ima=None)
    )
    assert not message.HasField("ima")


def challenge(**changes: int) -> attestation_pb2.Challenge:
    return attestation_pb2.Challenge(
        nonce=bytes(32),
        pcr_selection=Message(banks=[Message.Bank(hash=0xB, pcrs=[0])]),
        boot_id_known="boot",
        boot_log_known=b"digest",
        **changes,  # type: ignore[arg-type]  # fields of the message
    )


def test_a_challenge_says_what_the_verifier_knows() -> None:
    known = parse_challenge(challenge(ima_offset_known=7)).known
    assert known == KnownLogs(boot_id="boot", boot_log_sha256=b"digest", ima_offset=7)


def test_an_offset_that_no_file_has_is_refused() -> None:
    with pytest.raises(MalformedInput, match="IMA log"):
        parse_challenge(challenge(ima_offset_known=2**64 - 1))


def test_a_lease_id_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedInput):
        parse_lease_ids(["l-" + "a" * 26, "../x"])
