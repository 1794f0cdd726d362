from __future__ import annotations

import re

import pytest

from nodeseal.findings import BY_CODE, Finding, FindingId, Severity

EVERY = pytest.mark.parametrize("finding", list(FindingId), ids=lambda finding: finding.code)


def test_codes_are_distinct() -> None:
    assert len(BY_CODE) == len(FindingId) == len(FindingId.__members__)


@EVERY
def test_a_code_is_group_dot_name(finding: FindingId) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", finding.code)
    assert BY_CODE[finding.code] is finding


@EVERY
def test_meaning_and_remedy_are_sentences_without_a_capital_or_period(finding: FindingId) -> None:
    for text in (finding.meaning, finding.remedy):
        assert text
        assert not text.endswith(".")
        assert not re.match(r"[A-Z][a-z]", text)
        assert text.isprintable()


def test_a_finding_reads_as_place_expectation_and_observation() -> None:
    finding = Finding(id=FindingId.PCR_MISMATCH, expected="aa", seen="bb", where="sha256:4")
    assert str(finding) == "pcr.mismatch (sha256:4): expected aa, seen bb"


def test_a_finding_without_a_place_reads_without_brackets() -> None:
    assert str(Finding(id=FindingId.GOLDEN_NONE, expected="a golden", seen="none")) == (
        "golden.none: expected a golden, seen none"
    )


def test_the_remedy_is_the_one_of_the_id() -> None:
    assert Finding(id=FindingId.PCR_UNEXTENDED, expected="", seen="").remedy == FindingId.PCR_UNEXTENDED.remedy


@pytest.mark.parametrize(
    ("finding", "severity"),
    [
        (FindingId.CLOCK_UNSAFE, Severity.WARNING),
        (FindingId.CLOCK_ROLLBACK, Severity.QUARANTINE),
        (FindingId.CLOCK_RESET, Severity.UNTRUSTED),
        (FindingId.PCR_MISMATCH, Severity.UNTRUSTED),
    ],
)
def test_severities_that_operators_rely_on(finding: FindingId, severity: Severity) -> None:
    assert finding.severity is severity


def test_only_an_unsafe_clock_and_known_quirks_leave_trust_alone() -> None:
    warnings = {finding for finding in FindingId if finding.severity is Severity.WARNING}
    assert warnings == {FindingId.CLOCK_UNSAFE, FindingId.UEFI_QUIRK}
