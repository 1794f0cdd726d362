"""Claims: what an agent says of itself in every round, and its canonical JSON."""

from __future__ import annotations

from dataclasses import dataclass

from nodeseal import documents
from nodeseal.egress.claims import EgressClaims, egress_claims_plain, parse_egress_claims
from nodeseal.errors import MalformedInput
from nodeseal.ids import LeaseId, parse_lease_id

MAX_CLAIMS = 16 * 1024
"""Bytes of claims."""
MAX_CLAIMED_LEASES = 256
"""Leases that claims may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the agent says of itself. It is as trustworthy as the software that was measured.

    Attributes:
        boot_id: the kernel's random id of this boot.
        kernel: release string of the running kernel.
        agent_version: version of the agent.
        leases: ids of the leases whose keys this node still holds.
        firmware_vendor: the firmware's maker in SMBIOS; empty: not known.
        firmware_version: the firmware's version in SMBIOS; empty: not known.
        egress: its egress limits; None: it has none. The key is absent then, as in claims of agents that know none.
    """

    boot_id: str
    kernel: str
    agent_version: str
    leases: tuple[LeaseId, ...] = ()
    firmware_vendor: str = ""
    firmware_version: str = ""
    egress: EgressClaims | None = None


def encode_claims(claims: Claims) -> bytes:
    """Return the canonical JSON (RFC 8785) of ``claims``."""
    plain: dict[str, object] = {
        "agent_version": claims.agent_version,
        "boot_id": claims.boot_id,
        "firmware_vendor": claims.firmware_vendor,
        "firmware_version": claims.firmware_version,
        "kernel": claims.kernel,
        "leases": list(claims.leases),
    }
    if claims.egress is not None:
        plain["egress"] = egress_claims_plain(claims.egress)
    return documents.encode_json(plain)


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
        leases=tuple(map(parse_lease_id, fields.texts("leases", max_items=MAX_CLAIMED_LEASES))),
        firmware_vendor=fields.text("firmware_vendor", max_length=128),
        firmware_version=fields.text("firmware_version", max_length=128),
        egress=parse_egress_claims(fields.fields("egress")) if fields.has("egress") else None,
    )
    fields.done()
    return claims
