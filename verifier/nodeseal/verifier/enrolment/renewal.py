"""Renewal of a node's certificate: for a fresh quote that names the new TLS key, never for the old TLS key alone.

A renewal is a round like any other, so what it proves counts for and against the node. Its challenge is made for this
purpose and for one certificate request: whoever has stolen a node's TLS key cannot quote, and a quote that was made for
another purpose or another request is of no use here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from nodeseal.crypto.tls_key import requested_key
from nodeseal.errors import PolicyRefused, Unavailable
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.round import Evidence
from nodeseal.findings import Finding, FindingId
from nodeseal.verifier.enrolment.certificates import Certificates, untrusted
from nodeseal.verifier.fleet.exchange import Asked
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.rounds.rounds import Rounds

_PER_MINUTE: Final = 10
UNQUOTED: Final = Finding(
    id=FindingId.RENEWAL_QUOTE, expected="a quote by the node's TPM for the new certificate", seen="none"
)
"""For a node that does not answer the challenge, as agents of the first release do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A renewal that waits for its proof.

    Attributes:
        node: who asks.
        certificate_request: PKCS #10 for the new certificate.
        asked: the challenge.
    """

    node: Node
    certificate_request: bytes
    asked: Asked


class Renewals:
    """Renews certificates."""

    def __init__(self, rounds: Rounds, certificates: Certificates) -> None:
        self._rounds: Final = rounds
        self._certificates: Final = certificates
        self._limit: Final = RateLimit(_PER_MINUTE, "renewals")

    def begin(self, node: Node, channel: Channel, certificate_request: bytes, address: str) -> Renewal:
        """Challenge a node that wants a certificate.

        Args:
            node: who asks.
            channel: on which it asks.
            certificate_request: PKCS #10 for the new TLS key.
            address: it comes from; whoever stole the TLS key does not use up what the node may ask for.

        Raises:
            MalformedInput: the request does not parse.
            ProofFailed: ``tls.request``: it is not signed by its own key.
            PolicyRefused: the node is not trusted now.
            TooManyRequests: it asks too often.
        """
        now = self._rounds.clock.steady()
        self._limit.take(f"{node.record.node_id} at {address}", now)
        requested_key(certificate_request)
        if not node.trusted(now):
            raise PolicyRefused(untrusted(node.state_at(now)))
        about = replace(channel, request_sha256=sha256(certificate_request).digest())
        asked = self._rounds.ask(node, Purpose.RENEW, about)
        return Renewal(node=node, certificate_request=certificate_request, asked=asked)

    async def finish(self, renewal: Renewal, evidence: Evidence, began: float) -> tuple[bytes, ...]:
        """Judge the evidence and return the new certificate, leaf first.

        Args:
            renewal: what was asked.
            evidence: the answer.
            began: steady time when its first message arrived.

        Raises:
            ProofFailed: the evidence is not authentic.
            PolicyRefused: what it proves is not allowed.
            TooManyRequests: the node brings long logs too often.
            Unavailable: it cannot be recorded now, or logs or a quote of other banks must be sent.
        """
        outcome = await self._rounds.conclude(renewal.node, evidence, renewal.asked, began)
        appraisal = outcome.authentic()
        if appraisal.logs_required or appraisal.values_required:
            raise Unavailable("the goldens changed during the renewal", remedy="ask again")
        if not appraisal.trusted:
            raise PolicyRefused(*(appraisal.findings or (untrusted(outcome.verdict.state),)))
        return await self._certificates.renew(renewal.node, renewal.certificate_request, evidence.attest)
