"""The state of a node as the claims of an EAR, for relying parties that do not know nodeseal. Pure.

An EAT Attestation Result (draft-fv-rats-ear-05 §3) is an Entity Attestation Token (RFC 9711), here a JSON Web Token.
Its profile is the one that Veraison's and Trustee's libraries read; later drafts, from draft-ietf-rats-ear-03 on, spell
the claims with underscores under a profile that these libraries refuse. The token expires with the node's trust
(``exp``), so a stored token proves nothing beyond that.

The trustworthiness vector (draft-ietf-rats-ar4si §2.3.4, "Specific Claims") is made of findings and of what the
matching goldens judge. A claim that no golden judges is 0, "no claim": file systems, memory encryption and storage.
``docs/ear.md`` says how findings become claims. The findings themselves are under the private claim ``nodeseal``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.ids import NodeId
from nodeseal.tpm.pcr_usage import SECURE_BOOT_PCR
from nodeseal.verifier.states import NodeState
from nodeseal.wire.findings import plain_finding

PROFILE: Final = "tag:github.com,2023:veraison/ear"
DEVELOPER: Final = "nodeseal"
MIN_NONCE, MAX_NONCE = 8, 64
_FIRMWARE_CODE_PCR: Final = 0
_PCR: Final = re.compile(r"\bPCR (\d+)\b")


class Claim(IntEnum):
    """Values of trustworthiness claims (draft-ietf-rats-ar4si §2.3.4); the lower, the better."""

    NONE = 0
    """Nothing is asserted."""
    APPROVED = 2
    """What was seen is known and approved."""
    APPROVED_BOOT = 3
    """Of executables: what was loaded during boot is; what ran since then was not judged as a whole."""
    CONTRAINDICATED = 96
    """What was seen must not be trusted."""
    UNRECOGNISED = 97
    """It is not recognised, but should be."""
    INVALID = 99
    """Its proof failed."""


_ALL: Final = (
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "instance-identity",
    "runtime-opaque",
    "sourced-data",
    "storage-opaque",
)
_OF_PCRS: Final[Mapping[int, tuple[str, Claim]]] = {
    0: ("hardware", Claim.UNRECOGNISED),
    2: ("hardware", Claim.UNRECOGNISED),
    4: ("executables", Claim.CONTRAINDICATED),
    9: ("executables", Claim.CONTRAINDICATED),
    11: ("executables", Claim.CONTRAINDICATED),
    13: ("executables", Claim.CONTRAINDICATED),
}
"""The claim that a PCR is about (PC Client Platform Firmware Profile, "PCR Usage"; UAPI.7); else the configuration."""
_OF_KINDS: Final[Mapping[str, tuple[str, Claim]]] = {
    "quote": ("instance-identity", Claim.INVALID),
    "clock": ("instance-identity", Claim.CONTRAINDICATED),
    "platform": ("hardware", Claim.CONTRAINDICATED),
    "uefi": ("configuration", Claim.CONTRAINDICATED),
    "ima": ("executables", Claim.CONTRAINDICATED),
    "egress": ("configuration", Claim.CONTRAINDICATED),
}
_OF_FINDINGS: Final[Mapping[FindingId, tuple[str, Claim]]] = {
    FindingId.PCR_DIGEST: ("instance-identity", Claim.INVALID),
    FindingId.PCR_UNEXTENDED: ("hardware", Claim.UNRECOGNISED),
    FindingId.PCR_NO_BANK: ("hardware", Claim.UNRECOGNISED),
    FindingId.PCR_BANK: ("configuration", Claim.NONE),
    FindingId.UEFI_REPLAY: ("configuration", Claim.INVALID),
    FindingId.UEFI_EVENT: ("configuration", Claim.INVALID),
    FindingId.UEFI_LOG_MALFORMED: ("configuration", Claim.INVALID),
    FindingId.UEFI_LOG_MISSING: ("configuration", Claim.NONE),
    FindingId.UEFI_FIRMWARE_ERROR: ("hardware", Claim.CONTRAINDICATED),
    FindingId.UEFI_IMAGE: ("executables", Claim.CONTRAINDICATED),
    FindingId.UEFI_DRIVER: ("hardware", Claim.UNRECOGNISED),
    FindingId.UEFI_SIGNER: ("executables", Claim.CONTRAINDICATED),
    FindingId.UEFI_SECTION: ("executables", Claim.CONTRAINDICATED),
    FindingId.UEFI_FILE: ("executables", Claim.CONTRAINDICATED),
    FindingId.IMA_REPLAY: ("executables", Claim.INVALID),
    FindingId.IMA_TRIMMED: ("executables", Claim.INVALID),
    FindingId.IMA_BOOT_AGGREGATE: ("executables", Claim.INVALID),
    FindingId.IMA_LOG_MALFORMED: ("executables", Claim.INVALID),
    FindingId.IMA_LOG_TOO_LONG: ("executables", Claim.INVALID),
    FindingId.IMA_LOG_MISSING: ("executables", Claim.NONE),
    FindingId.GOLDEN_NONE: ("configuration", Claim.NONE),
    FindingId.GOLDEN_NOT_VALID: ("configuration", Claim.NONE),
}
_REFUSED: Final = frozenset({NodeState.UNTRUSTED, NodeState.QUARANTINED, NodeState.RETIRED})
_BY_PEOPLE: Final = frozenset({NodeState.QUARANTINED, NodeState.RETIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node as relying parties see it at one moment.

    Attributes:
        node_id: the node.
        trust_domain: of the verifier.
        boot_id: the boot that was judged.
        state: what an operator would see now.
        findings: of the last round.
        goldens: those that the last good round matched.
        certified: whether an EK certificate proved the TPM's maker.
        expires: the end of trust; for a node that is not trusted, when to ask again.
    """

    node_id: NodeId
    trust_domain: str
    boot_id: str
    state: NodeState
    findings: Sequence[Finding]
    goldens: Sequence[Golden]
    certified: bool
    expires: datetime


def ear_claims(view: NodeView, issued: datetime, nonce: bytes, build: str) -> dict[str, object]:
    """Return the claims of a token.

    Args:
        view: the node.
        issued: now.
        nonce: chosen by the relying party, 8 to 64 bytes; empty: none.
        build: this program's version.

    Raises:
        MalformedInput: a nonce of another size (RFC 9711 §4.1).
    """
    claims: dict[str, object] = {
        "eat_profile": PROFILE,
        "iat": int(issued.timestamp()),
        "exp": int(view.expires.timestamp()),
        "ear.verifier-id": {"developer": DEVELOPER, "build": build},
        "submods": {view.node_id: _appraisal(view)},
    }
    if nonce:
        if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
            raise MalformedInput(f"nonce: {len(nonce)} bytes, neither none nor {MIN_NONCE} to {MAX_NONCE}")
        claims["eat_nonce"] = base64url(nonce)
    return claims


def _appraisal(view: NodeView) -> dict[str, object]:
    vector = trust_vector(view)
    appraisal: dict[str, object] = {
        "ear.status": _status(view.state, vector.values()),
        "ear.trustworthiness-vector": {name: int(value) for name, value in vector.items()},
        "nodeseal": {
            "boot_id": view.boot_id,
            "findings": [_finding(finding) for finding in view.findings],
            "state": view.state.value,
            "trust_domain": view.trust_domain,
        },
    }
    if view.goldens:
        appraisal["ear.appraisal-policy-id"] = " ".join(sorted(f"golden:{each.digest}" for each in view.goldens))
    return appraisal


def trust_vector(view: NodeView) -> dict[str, Claim]:
    """Return all eight claims: the worst that findings say of each, else what the matching goldens affirm."""
    vector = dict.fromkeys(_ALL, Claim.NONE)
    if view.state is NodeState.TRUSTED and view.goldens:
        vector |= _affirmed(view)
    for name, claim in _contradicted(view):
        vector[name] = max(vector[name], claim)
    return vector


def _affirmed(view: NodeView) -> Iterator[tuple[str, Claim]]:
    """Say what a trusted node's goldens judged; of several, all must have."""
    goldens = view.goldens
    whole = all(golden.runtime is not None and not golden.runtime.excludes for golden in goldens)
    yield "instance-identity", Claim.APPROVED
    yield "executables", Claim.APPROVED if whole else Claim.APPROVED_BOOT
    if all(map(_covers_configuration, goldens)):
        yield "configuration", Claim.APPROVED
    if view.certified and all(_pins(golden, _FIRMWARE_CODE_PCR) for golden in goldens):
        yield "hardware", Claim.APPROVED


def _covers_configuration(golden: Golden) -> bool:
    return _pins(golden, SECURE_BOOT_PCR) or (golden.boot is not None and golden.boot.secure_boot)


def _pins(golden: Golden, pcr: int) -> bool:
    return any(index == pcr for _, index, _ in golden.rows())


def _contradicted(view: NodeView) -> Iterator[tuple[str, Claim]]:
    if view.state in _BY_PEOPLE:
        yield "instance-identity", Claim.CONTRAINDICATED
    for finding in view.findings:
        if finding.id.severity is not Severity.WARNING:
            yield _claim_of(finding)


def _claim_of(finding: Finding) -> tuple[str, Claim]:
    pcr = _PCR.search(finding.where)
    if finding.id is FindingId.PCR_MISMATCH and pcr is not None:
        return _OF_PCRS.get(int(pcr[1]), ("configuration", Claim.CONTRAINDICATED))
    kind = finding.id.code.partition(".")[0]
    return _OF_FINDINGS.get(finding.id) or _OF_KINDS.get(kind, ("configuration", Claim.CONTRAINDICATED))


def _status(state: NodeState, vector: Iterable[Claim]) -> str:
    """Return the tier (draft-ietf-rats-ar4si §2.3.2): never better than the worst claim, affirming only with trust."""
    if state in _REFUSED or max(vector) >= Claim.CONTRAINDICATED:
        return "contraindicated"
    return "affirming" if state is NodeState.TRUSTED else "none"


def _finding(finding: Finding) -> dict[str, str]:
    return {name: text for name, text in plain_finding(finding).items() if text}


def base64url(raw: bytes) -> str:
    """Return base64url without padding, as binary data stands in JSON (RFC 9711 §7.2.2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
