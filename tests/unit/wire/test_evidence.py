from __future__ import annotations

import os

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import MAX_LOG_PIECE, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.evidence import evidence_from_proto, evidence_to_proto


def test_values_that_did_not_change_do_not_travel() -> None:
    (message,) = evidence_to_proto(Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None))
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
    *first, last = messages = list(evidence_to_proto(sent))
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
    (message,) = evidence_to_proto(
        Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None, boot_log=b"log", ima=None)
    )
    assert not message.HasField("ima")


@pytest.mark.parametrize("values", [None, (b"v", b"w")])
def test_evidence_in_one_message_comes_back(values: tuple[bytes, ...] | None) -> None:
    sent = Evidence(
        claims=b"c",
        attest=b"a",
        signature=b"s",
        pcr_values=values,
        boot_log=b"boot",
        ima=ImaDelta(offset=5, entries=b"entries", bank=HashAlg.SHA384),
    )
    (message,) = evidence_to_proto(sent)
    assert evidence_from_proto(message) == sent


def test_an_ima_log_of_an_unknown_bank_is_refused() -> None:
    message = attestation_pb2.Evidence(ima=attestation_pb2.ImaStretch(hash=0x12))
    with pytest.raises(MalformedInput, match="IMA log: unknown bank 0x0012"):
        evidence_from_proto(message)
