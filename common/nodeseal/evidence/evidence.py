"""Evidence: what an attester sends in one round, and what its quote is bound to (DESIGN §5).

The qualifying data of every quote and certification is a SHA-256 over a fixed layout, so that a quote cannot be
carried into another purpose, trust domain, node, TLS channel or set of claims. Nothing here is proved: proofs
are made in :mod:`nodeseal.evidence.quote` and in the verifier's appraisal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from nodeseal import documents
from nodeseal.errors import MalformedInput
from nodeseal.ids import LeaseId, NodeId, Nonce, parse_lease_id
from nodeseal.tpm.algorithms import SHA256_SIZE, HashAlg

_LABEL = b"nodeseal binding v1\0"
NONCE_SIZE = 32
MAX_CLAIMS = 16 * 1024
MAX_LEASES = 256
MAX_BOOT_LOG = 4 * 1024 * 1024
"""Bytes of one boot log."""
MAX_IMA_DELTA = 64 * 1024 * 1024
"""Bytes of the IMA log that one round may bring; a log of half a million entries."""
MAX_LOG_PIECE = 256 * 1024
"""Bytes of logs that one message carries."""


class Purpose(Enum):
    """What a quote was asked for; a quote for one purpose is worth nothing for another."""

    ATTEST = 1
    RELEASE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where evidence travels: facts both ends know without being told in the exchange.

    Attributes:
        trust_domain: the verifier's SPIFFE trust domain.
        node_id: the node that the TLS client certificate names.
        certificate_sha256: SHA-256 of that certificate in DER.
    """

    trust_domain: str
    node_id: NodeId
    certificate_sha256: bytes


def qualifying_data(purpose: Purpose, nonce: Nonce, channel: Channel, claims: bytes) -> bytes:
    """Return the 32 bytes that a quote or certification must carry as extraData (TPMS_ATTEST, TPM 2.0 Part 2).

    Layout: label, purpose (1 byte), nonce (32), length and text of trust domain and node id (2 bytes big-endian
    each), SHA-256 of the TLS client certificate (32), SHA-256 of the claims (32).

    Raises:
        MalformedInput: the nonce or the certificate's digest has another size, so the layout would be ambiguous.
    """
    if len(nonce) != NONCE_SIZE or len(channel.certificate_sha256) != SHA256_SIZE:
        raise MalformedInput("binding: nonce and certificate digest have 32 bytes each")
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
            )
        )
    ).digest()


class ImaDelta(NamedTuple):
    """A stretch of the IMA log of this boot; only what replays into the quoted PCR 10 is believed.

    Attributes:
        offset: bytes of the log before it.
        entries: whole entries as the kernel writes them (``binary_runtime_measurements``).
        bank: what the width of the entries' template digest field says: SHA-1 for the file that every kernel has,
            else the bank of the file (``binary_runtime_measurements_sha256``).
    """

    offset: int
    entries: bytes
    bank: HashAlg = HashAlg.SHA1


class Evidence(NamedTuple):
    """One round's evidence as it arrived: nothing in it is proved.

    Attributes:
        claims: canonical JSON, hashed as sent, decoded only after the signature held.
        attest: TPMS_ATTEST of the quote.
        signature: TPMT_SIGNATURE by the attestation key over ``attest``.
        pcr_values: claimed values in the order of the quoted selection (bank by bank, index ascending), or None
            when they have not changed since the last accepted round.
        boot_log: the boot event log as firmware left it, or None when the verifier knows it or there is none.
        ima: what the IMA log has beyond what the verifier knows, or None when there is no such log.
    """

    claims: bytes
    attest: bytes
    signature: bytes
    pcr_values: tuple[bytes, ...] | None
    boot_log: bytes | None = None
    ima: ImaDelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the agent says of itself; as trustworthy as the software that was measured.

    Attributes:
        boot_id: the kernel's random id of this boot.
        kernel: release string of the running kernel.
        agent_version: version of the agent.
        leases: ids of the leases whose keys this node still holds.
        firmware_vendor: maker of the firmware as SMBIOS names it; empty: not known.
        firmware_version: its version, likewise.
    """

    boot_id: str
    kernel: str
    agent_version: str
    leases: tuple[LeaseId, ...] = ()
    firmware_vendor: str = ""
    firmware_version: str = ""


def encode_claims(claims: Claims) -> bytes:
    """Return the canonical JSON (RFC 8785) of ``claims``."""
    return documents.encode_json(
        {
            "agent_version": claims.agent_version,
            "boot_id": claims.boot_id,
            "firmware_vendor": claims.firmware_vendor,
            "firmware_version": claims.firmware_version,
            "kernel": claims.kernel,
            "leases": list(claims.leases),
        }
    )


def decode_claims(raw: bytes) -> Claims:
    """Parse claims bytes.

    Raises:
        MalformedInput: not canonical JSON, an unknown or missing field, a wrong type, or too large.
    """
    if len(raw) > MAX_CLAIMS:
        raise MalformedInput(f"claims: {len(raw)} bytes, at most {MAX_CLAIMS}")
    fields = documents.Fields(documents.decode_json(raw, "claims"), "claims")
    claims = Claims(
        boot_id=fields.text("boot_id", max_length=64),
        kernel=fields.text("kernel", max_length=128),
        agent_version=fields.text("agent_version", max_length=64),
        leases=tuple(map(parse_lease_id, fields.texts("leases", max_items=MAX_LEASES))),
        firmware_vendor=fields.text("firmware_vendor", max_length=128),
        firmware_version=fields.text("firmware_version", max_length=128),
    )
    fields.done()
    return claims
