"""Binding: what a quote is made for, and the qualifying data that ties it to one exchange.

The qualifying data of every quote and certification is a SHA-256 over a fixed layout. So a quote cannot be carried into
another purpose, trust domain, node, TLS channel or set of claims.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from nodeseal.errors import MalformedInput
from nodeseal.ids import NodeId, Nonce
from nodeseal.tpm.algorithms import SHA256_SIZE

_LABEL = b"nodeseal binding v1\0"
NONCE_SIZE = 32


class Purpose(Enum):
    """What a quote is made for. A quote for one purpose does not serve another."""

    ATTEST = 1
    RELEASE = 2
    RENEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """The channel that evidence travels on: facts that both ends know beforehand.

    Attributes:
        trust_domain: the verifier's SPIFFE trust domain.
        node_id: the node that the TLS client certificate names.
        certificate_sha256: SHA-256 of that certificate in DER.
        request_sha256: SHA-256 of the request (PKCS #10, DER) for the certificate that is to follow it; only where the
            purpose is a renewal.
    """

    trust_domain: str
    node_id: NodeId
    certificate_sha256: bytes
    request_sha256: bytes = b""


def qualifying_data(purpose: Purpose, nonce: Nonce, channel: Channel, claims: bytes) -> bytes:
    """Return the 32 bytes that a quote or certification must carry as extraData (TPMS_ATTEST, TPM 2.0 Part 2).

    Layout: label, purpose (1 byte), nonce (32), length and text of trust domain and node id (2 bytes big-endian
    each), SHA-256 of the TLS client certificate (32), SHA-256 of the claims (32); for a renewal also SHA-256 of the
    certificate request (32), so that the quote names the new TLS key.

    Raises:
        MalformedInput: the nonce or a digest does not have 32 bytes, or there is a request where none belongs.
    """
    if len(nonce) != NONCE_SIZE or len(channel.certificate_sha256) != SHA256_SIZE:
        raise MalformedInput("binding: nonce and certificate digest have 32 bytes each")
    if len(channel.request_sha256) != (SHA256_SIZE if purpose is Purpose.RENEW else 0):
        raise MalformedInput("binding: a renewal is about one certificate request, and nothing else is about any")
    domain, node = channel.trust_domain.encode(), channel.node_id.encode()
    return hashlib.sha256(
        b"".join(
            (
                _LABEL,
                purpose.value.to_bytes(1, "big"),
                nonce,
                len(domain).to_bytes(2, "big"),
                domain,
                len(node).to_bytes(2, "big"),
                node,
                channel.certificate_sha256,
                hashlib.sha256(claims).digest(),
                channel.request_sha256,
            )
        )
    ).digest()
