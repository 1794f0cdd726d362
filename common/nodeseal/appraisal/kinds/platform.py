"""The platform kind: what is proved about the TPM itself, held against a golden's platform rules.

Maker and kind of the endorsement key were proved when the node enrolled: by the EK certificate and by the key that
TPM2_MakeCredential was made for. The firmware's version is in every quote (TPMS_ATTEST, firmwareVersion), signed by the
TPM. What is not known satisfies no rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nodeseal.appraisal.kinds.kind import NO_OBJECTION, KindVerdict, Proved, Round
from nodeseal.appraisal.model import UNKNOWN_TPM, AuthenticEvidence, Facts, Proof, TpmFacts
from nodeseal.evidence.logs import KnownLogs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import PlatformRules
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest
from nodeseal.tpm.buffer import u32
from nodeseal.tpm.handles import PermanentHandle

_NOT_KNOWN: Final = "not known"
_ALG_SIZE: Final = 2


@dataclass(frozen=True, slots=True)
class PlatformProof:
    """What is proved about a TPM.

    Attributes:
        firmware_version: four numbers of 16 bits, the most significant first, as the quote states them; None: the TPM
            may have obfuscated them.
        tpm: what enrolment proved.
    """

    firmware_version: int | None
    tpm: TpmFacts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Nothing: any TPM will do unless a golden has rules."""
        return ()


_UNKNOWN: Final = PlatformProof(firmware_version=None, tpm=UNKNOWN_TPM)


def known(proof: PlatformProof, goldens: Sequence[Golden], logs: KnownLogs) -> KnownLogs:
    """Add nothing: all of this is in the quote or was proved at enrolment."""
    return logs


def unchanged(proof: PlatformProof | None, evidence: AuthenticEvidence) -> bool:
    """Tell whether quote and enrolment still state the same facts, and truly."""
    if proof is None:
        return False
    tpm = evidence.node.tpm
    return proof.firmware_version == evidence.attest.firmware_version and (proof.tpm is tpm or proof.tpm == tpm)


def prove(round_: Round, before: PlatformProof | None, earlier: Sequence[Proof | None]) -> Proved[PlatformProof]:
    """Prove the firmware's version from the quote, and take over what enrolment proved."""
    node = round_.evidence.node
    return Proved(PlatformProof(believed_firmware(round_.evidence.attest, node.keys.ak_name), node.tpm))


def judge(proof: PlatformProof | None, golden: Golden, facts: Facts) -> KindVerdict:
    """Hold the golden's platform rules against the TPM."""
    if golden.platform is None:
        return NO_OBJECTION
    return KindVerdict(tuple(_objections(golden.platform, proof or _UNKNOWN)))


def keep(proof: PlatformProof | None, kept: Sequence[object]) -> None:
    """Keep nothing: the next quote states it again."""


def believed_firmware(attest: Attest, ak_name: bytes) -> int | None:
    """Return the firmware version that a quote states; None: the TPM may have obfuscated it.

    A TPM adds a secret number to it unless the key is of the endorsement or platform hierarchy (Part 2, TPMS_ATTEST).
    The quote holds the key's qualified name, which tells the hierarchy: a primary key's qualified name is the hash over
    the hierarchy's handle and the key's name (Part 1, "Qualified Name").

    Args:
        attest: the quote.
        ak_name: TPM name of the key that signed it.
    """
    algorithm = ak_name[:_ALG_SIZE]
    digest = HashAlg(int.from_bytes(algorithm, "big")).digest(u32(PermanentHandle.ENDORSEMENT) + ak_name)
    return attest.firmware_version if attest.qualified_signer == algorithm + digest else None


def _objections(rules: PlatformRules, proof: PlatformProof) -> Iterator[Finding]:
    tpm = proof.tpm
    if rules.manufacturers is not None and tpm.manufacturer not in rules.manufacturers:
        yield _finding(FindingId.PLATFORM_MANUFACTURER, _either(rules.manufacturers), tpm.manufacturer)
    firmware = () if proof.firmware_version is None else _numbers(proof.firmware_version)
    if rules.firmware is not None and firmware < rules.firmware:
        yield _finding(FindingId.PLATFORM_FIRMWARE, f"{_dotted(rules.firmware)} or later", _dotted(firmware))
    if rules.ek_algorithms is not None and tpm.ek_algorithm not in rules.ek_algorithms:
        yield _finding(FindingId.PLATFORM_EK, _either(rules.ek_algorithms), tpm.ek_algorithm)


def _numbers(version: int) -> tuple[int, ...]:
    return tuple(version >> shift & 0xFFFF for shift in (48, 32, 16, 0))


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _either(allowed: frozenset[str]) -> str:
    return " or ".join(sorted(allowed))


def _finding(finding_id: FindingId, expected: str, seen: str) -> Finding:
    return Finding(id=finding_id, expected=expected, seen=seen or _NOT_KNOWN, where="TPM")
