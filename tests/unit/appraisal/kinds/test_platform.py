"""Platform rules: what is proved about the TPM itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.kinds import platform
from nodeseal.appraisal.kinds.platform import PlatformProof
from nodeseal.appraisal.model import UNKNOWN_TPM, Facts, TpmFacts
from nodeseal.findings import FindingId
from nodeseal.golden.rules import PlatformRules
from support.quotes import quoted_pcrs
from support.rounds import GOLDEN
from support.runtime import BOOT_PCRS, SHA256

FACTS = Facts(pcrs=quoted_pcrs({SHA256: BOOT_PCRS}), labels={}, proofs=())
TPM = TpmFacts(manufacturer="IFX", ek_algorithm="ecc-p256")
FIRMWARE = 0x0007_0055_11CB_0000
"""7.85.4555.0 as TPMS_ATTEST has it."""


def found(rules: PlatformRules | None, tpm: TpmFacts = TPM) -> list[tuple[FindingId, str, str]]:
    return findings(rules, PlatformProof(FIRMWARE, tpm))


def findings(rules: PlatformRules | None, proof: PlatformProof | None) -> list[tuple[FindingId, str, str]]:
    verdict = platform.judge(proof, replace(GOLDEN, platform=rules), FACTS)
    assert (verdict.more, verdict.open) == (0, False)
    return [(finding.id, finding.expected, finding.seen) for finding in verdict.findings]


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(None, id="no rule"),
        pytest.param(PlatformRules(manufacturers=frozenset({"IFX", "STM"})), id="one of several makers"),
        pytest.param(PlatformRules(firmware=(7, 85, 4555, 0)), id="the lowest firmware that will do"),
        pytest.param(PlatformRules(firmware=(7, 84, 60000, 0)), id="newer firmware, by the number that counts more"),
        pytest.param(PlatformRules(ek_algorithms=frozenset({"ecc-p256"})), id="the kind of endorsement key"),
    ],
)
def test_a_tpm_that_satisfies_the_rules_is_found_good(rules: PlatformRules | None) -> None:
    assert found(rules) == []


@pytest.mark.parametrize(
    ("rules", "finding"),
    [
        pytest.param(
            PlatformRules(manufacturers=frozenset({"STM", "NTC"})),
            (FindingId.PLATFORM_MANUFACTURER, "NTC or STM", "IFX"),
            id="another maker",
        ),
        pytest.param(
            PlatformRules(firmware=(7, 85, 4555, 1)),
            (FindingId.PLATFORM_FIRMWARE, "7.85.4555.1 or later", "7.85.4555.0"),
            id="older firmware by the last number",
        ),
        pytest.param(
            PlatformRules(firmware=(8, 0, 0, 0)),
            (FindingId.PLATFORM_FIRMWARE, "8.0.0.0 or later", "7.85.4555.0"),
            id="older firmware by the first number",
        ),
        pytest.param(
            PlatformRules(ek_algorithms=frozenset({"rsa2048"})),
            (FindingId.PLATFORM_EK, "rsa2048", "ecc-p256"),
            id="another kind of endorsement key",
        ),
    ],
)
def test_a_tpm_that_falls_short_of_a_rule_is_found(rules: PlatformRules, finding: tuple[FindingId, str, str]) -> None:
    assert found(rules) == [finding]


def test_what_is_not_known_of_a_tpm_satisfies_no_rule() -> None:
    rules = PlatformRules(manufacturers=frozenset({"IFX"}), ek_algorithms=frozenset({"ecc-p256"}))
    assert found(rules, UNKNOWN_TPM) == [
        (FindingId.PLATFORM_MANUFACTURER, "IFX", "not known"),
        (FindingId.PLATFORM_EK, "ecc-p256", "not known"),
    ]
    assert findings(PlatformRules(firmware=(0, 0, 0, 1)), PlatformProof(None, TPM)) == [
        (FindingId.PLATFORM_FIRMWARE, "0.0.0.1 or later", "not known"),
    ]
    assert findings(PlatformRules(ek_algorithms=frozenset({"ecc-p256"})), None) == [
        (FindingId.PLATFORM_EK, "ecc-p256", "not known"),
    ]
