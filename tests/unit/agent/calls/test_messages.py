from __future__ import annotations

import pytest

from nodeseal.agent.calls.messages import (
    parse_challenge,
    parse_lease_ids,
    parse_nonce,
)
from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import KnownLogs
from nodeseal.v1 import attestation_pb2
from nodeseal.v1.attestation_pb2 import PcrSelection as Message


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput):
        parse_nonce(bytes(size))


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
