"""What the attestation stream does with the verifier's messages, without a verifier."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from nodeseal.agent.attest import AgentStatus, AttestationStream
from nodeseal.agent.release.leases import Leases
from nodeseal.v1.attestation_pb2 import NODE_STATE_QUARANTINED, Verdict
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
