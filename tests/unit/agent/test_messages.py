from __future__ import annotations

import pytest

from nodeseal.agent.messages import evidence_message, parse_findings, parse_lease_ids, parse_nonce, parse_selection
from nodeseal.errors import MalformedInput
from nodeseal.evidence import Evidence
from nodeseal.findings import FindingId
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.pcr import PcrSelection
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
        attestation_pb2.Finding(id="pcr.mismatch", where="sha256:4", expected="a", seen="b"),
        attestation_pb2.Finding(id="future.finding"),
    ]
    assert [finding.id for finding in parse_findings(messages)] == [FindingId.PCR_MISMATCH]


def test_values_that_did_not_change_do_not_travel() -> None:
    message = evidence_message(Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None))
    assert message == attestation_pb2.Evidence(claims=b"c", attest=b"a", signature=b"s")


def test_a_lease_id_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedInput):
        parse_lease_ids(["l-" + "a" * 26, "../x"])
