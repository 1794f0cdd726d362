"""Continuous attestation: one stream to the verifier, which leads (DESIGN §5).

What a verdict says about time is counted from when the challenge that it answers arrived, by the monotonic clock,
so the node's end of trust is never later than the verifier's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from nodeseal.agent.calls.channels import Link, receive, send, translated
from nodeseal.agent.calls.messages import parse_challenge, parse_lease_ids
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.release.leases import Leases
from nodeseal.causes import EndCause
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed
from nodeseal.evidence.binding import Purpose
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.v1 import attestation_pb2, attestation_pb2_grpc
from nodeseal.wire.evidence import evidence_to_proto
from nodeseal.wire.messages import cause_from_proto, findings_from_proto, state_from_proto

_log = structlog.get_logger("nodeseal.agent.attest")


@dataclass(slots=True)
class AgentStatus:
    """What the verifier last said of this node.

    Attributes:
        state: one of the seven states, ``enrolling`` before the first verdict, ``disconnected`` without a stream.
        findings: of the last verdict.
        since: when this state began.
        heard: when the last verdict came, or None.
        problem: why there is no connection; empty while there is one.
        remedy: what to do about it, or empty.
    """

    state: str = "enrolling"
    findings: tuple[Finding, ...] = field(default=())
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    heard: datetime | None = None
    problem: str = ""
    remedy: str = ""

    def judged(self, state: str, findings: tuple[Finding, ...]) -> bool:
        """Take a verdict; return whether it says anything new."""
        news = (state, findings) != (self.state, self.findings)
        self._become(state)
        self.findings, self.heard, self.problem, self.remedy = findings, datetime.now(UTC), "", ""
        return news

    def disconnected(self, error: NodesealError) -> None:
        """Take note of why the connection ended; a verifier that knows the node as retired has said so."""
        if isinstance(error, ProofFailed | PolicyRefused):
            self.findings = error.findings
        retired = any(finding.id is FindingId.NODE_RETIRED for finding in self.findings)
        self._become("retired" if retired else "disconnected")
        self.problem, self.remedy = str(error), error.remedy

    def _become(self, state: str) -> None:
        if state != self.state:
            self.state, self.since = state, datetime.now(UTC)


class AttestationStream:
    """One stream, from its opening to its end.

    Args:
        link: the connection.
        attester: makes evidence.
        leases: whose end of trust verdicts move.
        status: takes the verdicts, for people.
        clock: monotonic seconds, the one of ``leases``.
    """

    def __init__(
        self, link: Link, attester: Attester, leases: Leases, status: AgentStatus, clock: Callable[[], float]
    ) -> None:
        self._link: Final = link
        self._attester: Final = attester
        self._leases: Final = leases
        self._status: Final = status
        self._clock: Final = clock
        self._challenged_at = clock()
        self._sent: tuple[bytes, ...] = ()
        self._accepted: tuple[bytes, ...] = ()
        self.heard = False
        """Whether this stream brought a verdict."""

    async def run(self) -> None:
        """Answer challenges until the stream breaks.

        Raises:
            NodesealError: always: why the stream ended.
        """
        with translated(self._link.address):
            call = attestation_pb2_grpc.AttestationStub(self._link.channel).Attest()
            try:
                while True:
                    instruction = await receive(call, attestation_pb2.Instruction, self._link.address)
                    for message in await self._follow(instruction):
                        await send(call, message)
            finally:
                call.cancel()

    async def _follow(self, instruction: attestation_pb2.Instruction) -> Iterable[attestation_pb2.Evidence]:
        received = self._clock()
        if instruction.HasField("revocation"):
            self._revoke(instruction.revocation)
        if instruction.HasField("verdict"):
            self._take_verdict(instruction.verdict)
        if not instruction.HasField("challenge"):
            return ()
        self._challenged_at = received
        return evidence_to_proto(await self._answer(instruction.challenge))

    def _revoke(self, revocation: attestation_pb2.Revocation) -> None:
        lease_ids = parse_lease_ids(revocation.lease_ids)
        self._leases.end(cause_from_proto(revocation.cause), f"revoked: {revocation.reason}", lease_ids or None)

    def _take_verdict(self, verdict: attestation_pb2.Verdict) -> None:
        self.heard = True
        state, findings = state_from_proto(verdict.state), findings_from_proto(verdict.findings)
        news = self._status.judged(state, findings)
        trusted = verdict.state == attestation_pb2.NODE_STATE_TRUSTED
        self._accepted = self._sent if trusted else ()
        if trusted:
            self._leases.extend_trust(self._challenged_at + verdict.trusted_for_ms / 1000)
        elif verdict.state == attestation_pb2.NODE_STATE_STALE:
            self._leases.fall_silent("the verifier has heard no good round in time")
        else:
            self._leases.end(EndCause.DISTRUST, f"the verifier's verdict is {state}")
        if news:
            _log.info("verdict", state=state, findings=[str(finding) for finding in findings])

    async def _answer(self, message: attestation_pb2.Challenge) -> Evidence:
        challenge, banks = parse_challenge(message), await self._attester.banks()
        if not {bank for bank, _ in challenge.selection.banks} <= set(banks):
            return Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, banks=banks)
        made = await self._attester.answer(Purpose.ATTEST, challenge, self._link.identity.channel, self._leases.ids())
        self._sent = made.quoted.values
        known = challenge.known.boot_id == made.boot_id and self._sent == self._accepted
        return made.evidence(with_values=challenge.values_required or not known)
