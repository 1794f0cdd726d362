"""What the attestation stream does with the verifier's messages, without a verifier."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from nodeseal.agent.attest import AgentStatus, AttestationStream
from nodeseal.agent.release.leases import Leases
from nodeseal.evidence.round import Evidence
from nodeseal.v1.attestation_pb2 import (
    NODE_STATE_QUARANTINED,
    NODE_STATE_TRUSTED,
    Challenge,
    Instruction,
    PcrSelection,
    Verdict,
)
from support.failing_logs import let_logs_fail


def test_a_verdict_ends_trust_before_a_word_is_said_of_it() -> None:
    unused: Any = None
    leases, status = Leases(lambda: 0.0, lambda _reason: None), AgentStatus()
    stream = AttestationStream(unused, unused, leases, status, lambda: 0.0)
    leases.extend_trust(60.0)
    let_logs_fail()
    with suppress(BrokenPipeError):
        stream._take_verdict(Verdict(state=NODE_STATE_QUARANTINED))
    assert not leases.trusted
    assert status.state == "quarantined"


class SlowTpm:
    """An attester whose TPM takes its time, by a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    async def banks(self) -> tuple[int, ...]:
        return (0x000B,)

    async def answer(self, *_: object) -> Any:
        self.now += 20.0
        return SimpleNamespace(
            boot_id="b", quoted=SimpleNamespace(values=()), evidence=lambda **_: Evidence(b"", b"", b"", None)
        )


def test_t04_trust_counts_from_when_the_challenge_arrived_and_not_from_its_answer() -> None:
    tpm: Any = SlowTpm()
    link: Any = SimpleNamespace(identity=SimpleNamespace(channel=None))
    leases = Leases(lambda: tpm.now, lambda _reason: None)
    stream = AttestationStream(link, tpm, leases, AgentStatus(), lambda: tpm.now)
    banks = [PcrSelection.Bank(hash=0x000B, pcrs=[0])]
    challenge = Challenge(nonce=bytes(32), pcr_selection=PcrSelection(banks=banks))

    async def case() -> None:
        await stream._follow(Instruction(challenge=challenge))
        tpm.now += 5.0
        await stream._follow(Instruction(verdict=Verdict(state=NODE_STATE_TRUSTED, trusted_for_ms=60_000)))

    asyncio.run(case())
    assert leases.trusted_until_steady == 160.0
