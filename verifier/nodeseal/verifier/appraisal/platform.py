"""Hold what is proved about the TPM itself against a golden's platform rules.

Maker and kind of the endorsement key were proved when the node enrolled: by the EK certificate and by the key that
TPM2_MakeCredential was made for. The firmware's version is in every quote (TPMS_ATTEST, firmwareVersion), signed, and
not obfuscated, because the attestation key belongs to the endorsement hierarchy (ADR 3). What is not known satisfies
no rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import PlatformRules
from nodeseal.verifier.appraisal.model import TpmFacts

_NOT_KNOWN = "not known"


def judge_platform(rules: PlatformRules, tpm: TpmFacts, firmware_version: int) -> Iterator[Finding]:
    """Iterate every way in which a TPM falls short of ``rules``.

    Args:
        rules: of a golden.
        tpm: what enrolment proved.
        firmware_version: as the quote states it: four numbers of 16 bits, the most significant first.
    """
    if rules.manufacturers is not None and tpm.manufacturer not in rules.manufacturers:
        yield _finding(FindingId.PLATFORM_MANUFACTURER, _either(rules.manufacturers), tpm.manufacturer)
    firmware = _numbers(firmware_version)
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
