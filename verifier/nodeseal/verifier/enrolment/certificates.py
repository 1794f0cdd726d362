"""Certificates of nodes: issued at enrolment, renewed by nodes that are trusted, replaced once the new one is used.

A node has one certificate that speaks for it. Between a renewal and its first use there are two, so that a node
whose renewal got lost on the way is not locked out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import NodeId
from nodeseal.verifier.fleet.fleet import Fleet, Transaction
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger import audit
from nodeseal.verifier.store.nodes import NodeRecord, save_certificates


class Certificates:
    """Issues certificates to nodes and knows which of them count."""

    def __init__(self, fleet: Fleet, authority: CertificateAuthority, trust_domain: str, lifetime: timedelta) -> None:
        self._fleet: Final = fleet
        self._authority: Final = authority
        self._lifetime: Final = lifetime
        self.trust_domain: Final = trust_domain

    def issue(self, node_id: NodeId, request_der: bytes) -> tuple[bytes, ...]:
        """Return a new certificate for a node, leaf first, in DER; the caller records it.

        Raises:
            MalformedInput: the request does not parse.
            ProofFailed: ``tls.request``: it is not signed by its own key.
        """
        now = self._fleet.clock.wall()
        leaf = self._authority.issue_node(request_der, self.trust_domain, node_id, now, self._lifetime)
        return leaf, self._authority.certificate_der

    async def renew(self, node: Node, request_der: bytes) -> tuple[bytes, ...]:
        """Return a fresh certificate for a node that is trusted now; it counts from its first use on.

        Raises:
            PolicyRefused: the node is not trusted now.
            Unavailable: it cannot be recorded now.
        """
        chain = self.issue(node.record.node_id, request_der)
        following = sha256(chain[0]).digest()

        def prepare() -> Transaction[None]:
            if not node.trusted(self._fleet.clock.steady()):
                seen = node.state_at(self._fleet.clock.steady()).value
                raise PolicyRefused(Finding(id=FindingId.NODE_NOT_TRUSTED, expected="a trusted node", seen=seen))
            return self._replacement(node, "node.renewed", node.record.certificate_sha256, following)

        await self._fleet.transact(prepare)
        return chain

    async def speaks_for(self, node: Node, certificate_sha256: bytes) -> bool:
        """Tell whether a certificate counts; the first use of a renewed one ends the one before.

        Raises:
            Unavailable: the first use cannot be recorded now.
        """
        record = node.record
        if compare_digest(record.certificate_sha256, certificate_sha256):
            return True
        following = record.next_certificate_sha256
        if following is None or not compare_digest(following, certificate_sha256):
            return False
        await self._fleet.transact(
            lambda: self._replacement(node, "node.certificate-replaced", certificate_sha256, None)
        )
        return True

    def _replacement(self, node: Node, action: str, current: bytes, following: bytes | None) -> Transaction[None]:
        at = self._fleet.clock.wall()
        details = {"certificate_sha256": current.hex(), "next_certificate_sha256": following.hex() if following else ""}
        record = audit.Record(time=at, actor=node.actor, action=action, subject=node.actor, details=details)

        def work(connection: sa.Connection) -> None:
            save_certificates(connection, node.record.node_id, current, following)
            audit.append(connection, record)

        def effect(_: None) -> None:
            node.record = _with(node.record, current, following)

        return Transaction(work=work, effect=effect)


def _with(record: NodeRecord, current: bytes, following: bytes | None) -> NodeRecord:
    return replace(record, certificate_sha256=current, next_certificate_sha256=following)
