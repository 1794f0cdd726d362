"""Certificates of nodes: issued at enrolment, renewed by nodes that are trusted, replaced once the new one is used.

A node has one certificate that speaks for it. Between a renewal and its first use there are two, so that a node
whose renewal got lost on the way is not locked out.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final

import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import NodeId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.ledger.acts import CertificateRenewed, CertificateReplaced
from nodeseal.verifier.ledger.decided import Decided
from nodeseal.verifier.states import NodeState
from nodeseal.verifier.store.nodes import find_node


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

    async def renew(self, node: Node, request_der: bytes, attest: bytes) -> tuple[bytes, ...]:
        """Return a fresh certificate for a node that has proved itself for it; it counts from its first use on.

        Args:
            node: the node.
            request_der: PKCS #10.
            attest: the quote (TPMS_ATTEST) that is bound to the request.

        Raises:
            PolicyRefused: the node is not trusted now.
            Unavailable: it cannot be recorded now.
        """
        node_id = node.record.node_id
        chain = self.issue(node_id, request_der)
        following, request, quote = (sha256(each).digest() for each in (chain[0], request_der, attest))

        now = self._fleet.clock.steady()
        if not node.trusted(now):
            raise PolicyRefused(untrusted(node.state_at(now)))
        await self._fleet.ledger.commit(
            node.actor, lambda connection: _renewal(connection, node_id, following, request, quote), share=node_id
        )
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
        node_id = record.node_id
        committed = await self._fleet.ledger.commit(
            node.actor, lambda connection: _first_use(connection, node_id, certificate_sha256), share=node_id
        )
        return committed.result


def _renewal(
    connection: sa.Connection, node_id: NodeId, following: bytes, request: bytes, quote: bytes
) -> Decided[None]:
    stored = find_node(connection, node_id)
    if stored is None or stored.standing.state is not NodeState.TRUSTED:
        raise PolicyRefused(untrusted(stored.standing.state if stored else NodeState.RETIRED))
    record = stored.record
    act = CertificateRenewed(
        node_id=node_id,
        ak_name=record.ak_name,
        certificate_sha256=record.certificate_sha256,
        next_certificate_sha256=following,
        request_sha256=request,
        quote_sha256=quote,
    )
    return Decided(None, (act,))


def _first_use(connection: sa.Connection, node_id: NodeId, used: bytes) -> Decided[bool]:
    """Decide on the rows of the moment whether a certificate counts: another call or enrolment may be first."""
    stored = find_node(connection, node_id)
    if stored is None or stored.record.next_certificate_sha256 != used:
        return Decided(stored is not None and stored.record.certificate_sha256 == used)
    act = CertificateReplaced(
        node_id=node_id, ak_name=stored.record.ak_name, certificate_sha256=used, next_certificate_sha256=b""
    )
    return Decided(True, (act,))


def untrusted(state: NodeState) -> Finding:
    """Return the finding that a node is not trusted."""
    return Finding(id=FindingId.NODE_NOT_TRUSTED, expected="a trusted node", seen=state.value)
