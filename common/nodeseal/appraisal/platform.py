"""Hold what is proved about the TPM itself against a golden's platform rules.

Maker and kind of the endorsement key were proved when the node enrolled: by the EK certificate and by the key that
TPM2_MakeCredential was made for. The firmware's version is in every quote (TPMS_ATTEST, firmwareVersion), signed by the
TPM. What is not known satisfies no rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeseal.appraisal.model import TpmFacts
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import PlatformRules
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest
from nodeseal.tpm.buffer import u32
from nodeseal.tpm.handles import PermanentHandle

_NOT_KNOWN = "not known"
_ALG_SIZE = 2


def believed_firmware(attest: Attest, ak_name: bytes) -> int | None:
    """Return the firmware version that a quote states; None: it may be obfuscated, so any TPM may pass for a new one.

    A TPM adds a secret number to it unless the key is of the endorsement or platform hierarchy (Part 2, TPMS_ATTEST).
    The qualified name of the key, which the TPM puts into the quote, tells its hierarchy: that of a primary key is the
    hash over the hierarchy's handle and the key's name (Part 1, "Qualified Name").

    Args:
        attest: the quote.
        ak_name: name of the key that signed it.
    """
    algorithm = ak_name[:_ALG_SIZE]
    digest = HashAlg(int.from_bytes(algorithm, "big")).digest(u32(PermanentHandle.ENDORSEMENT) + ak_name)
    return attest.firmware_version if attest.qualified_signer == algorithm + digest else None


def judge_platform(rules: PlatformRules, tpm: TpmFacts, firmware_version: int | None) -> Iterator[Finding]:
    """Iterate every way in which a TPM falls short of ``rules``.

    Args:
        rules: of a golden.
        tpm: what enrolment proved.
        firmware_version: as :func:`believed_firmware` has it: four numbers of 16 bits, the most significant first.
    """
    if rules.manufacturers is not None and tpm.manufacturer not in rules.manufacturers:
        yield _finding(FindingId.PLATFORM_MANUFACTURER, _either(rules.manufacturers), tpm.manufacturer)
    firmware = () if firmware_version is None else _numbers(firmware_version)
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
