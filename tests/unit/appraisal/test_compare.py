"""What a round proved against policy: what is found, where, and against which golden (q10)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from nodeseal.appraisal.compare import compare
from nodeseal.appraisal.kinds.boot import BootState, BootVerdict
from nodeseal.appraisal.kinds.ima_log import ImaMark, ImaProgress, ImaVerdict
from nodeseal.appraisal.model import UNKNOWN_TPM, Facts, Judgement, Policy, TpmFacts
from nodeseal.evidence.logs import KnownLogs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, PlatformRules, Window
from nodeseal.tpm.pcr import PcrSelection
from support.facts import facts, found, judged_values, proved
from support.rounds import ALL, GOLDEN, NOW, PCRS, SHA256, golden_of, runtime_rules

OTHER = b"n" * 32


def test_values_that_match_one_golden_whole_are_found_good() -> None:
    judgement = judged_values(PCRS, GOLDEN)
    assert judgement.findings == ()
    assert judgement.goldens == (GOLDEN,)


def test_no_golden_means_nothing_is_trusted() -> None:
    judgement = judged_values(PCRS)
    assert found(judgement) == [(FindingId.GOLDEN_NONE, "")]
    assert judgement.goldens == ()


def test_any_one_of_several_goldens_is_enough_and_all_that_match_are_named() -> None:
    other = golden_of({**PCRS, 4: OTHER}, name="rack-b")
    wider = golden_of(PCRS, only=range(9), name="rack-c")
    judgement = judged_values(PCRS, other, GOLDEN, wider)
    assert judgement.findings == ()
    assert judgement.goldens == (GOLDEN, wider)


def test_matching_one_half_of_each_of_two_goldens_is_not_enough() -> None:
    first = golden_of({**PCRS, 4: OTHER}, name="rack-a")
    second = golden_of({**PCRS, 7: OTHER}, name="rack-b")
    assert judged_values(PCRS, first, second).goldens == ()


def test_each_pcr_that_differs_is_a_finding_with_what_was_expected_and_seen() -> None:
    judgement = judged_values({**PCRS, 4: OTHER, 7: OTHER}, GOLDEN)
    assert found(judgement) == [
        (FindingId.PCR_MISMATCH, "sha256 PCR 4, golden rack-a"),
        (FindingId.PCR_MISMATCH, "sha256 PCR 7, golden rack-a"),
    ]
    assert judgement.findings[0].expected == PCRS[4].hex()
    assert judgement.findings[0].seen == OTHER.hex()


def test_differences_are_told_against_the_nearest_golden() -> None:
    far = golden_of({**PCRS, 1: OTHER, 2: OTHER}, name="far")
    near = golden_of({**PCRS, 4: OTHER}, name="near")
    for order in ((far, near), (near, far)):
        assert found(judged_values(PCRS, *order)) == [(FindingId.PCR_MISMATCH, "sha256 PCR 4, golden near")]


def test_of_two_goldens_as_near_the_first_by_name_is_told() -> None:
    a, b = golden_of({**PCRS, 1: OTHER}, name="a"), golden_of({**PCRS, 2: OTHER}, name="b")
    for order in ((a, b), (b, a)):
        assert found(judged_values(PCRS, *order)) == [(FindingId.PCR_MISMATCH, "sha256 PCR 1, golden a")]


# Logs, the TPM and the time that goldens count

IMA_MARK = ImaMark(offset=100, aggregates={SHA256: b"i" * 32}, first_at=NOW, last_at=NOW)
BOOT_GOLDEN = replace(GOLDEN, boot=BootRules(secure_boot=True))
RUNTIME_GOLDEN = replace(GOLDEN, runtime=runtime_rules())
UNSIGNED = Finding(id=FindingId.UEFI_SECURE_BOOT, expected="on", seen="off")
UNKNOWN = Finding(id=FindingId.IMA_UNKNOWN_FILE, expected="a known file", seen="another")
REPLAY = Finding(id=FindingId.UEFI_REPLAY, expected="the quoted value", seen="another")
IMA_REPLAY = Finding(id=FindingId.IMA_REPLAY, expected="the quoted value", seen="another")
QUIRK = Finding(id=FindingId.UEFI_QUIRK, expected="a log that replays", seen="one with a quirk")
LEFT_OUT = KnownLogs(boot_id="b", boot_log_sha256=b"l" * 32, ima_offset=100)


def booted(golden: Golden, *findings: Finding, **changes: Any) -> BootState:
    """Return what a boot log proved that one golden objects to."""
    state = BootState(
        log_sha256=b"l" * 32,
        pcrs_sha256=b"p" * 32,
        findings=(),
        proved=tuple(range(10)),
        verdicts={golden.digest: BootVerdict(findings=findings)},
    )
    return replace(state, **changes)


def ran(golden: Golden, *findings: Finding, more: int = 0) -> ImaProgress:
    """Return what an IMA log proved that one golden objects to."""
    return ImaProgress(mark=IMA_MARK, verdicts={golden.digest: ImaVerdict(findings=findings, more=more)})


def judged(seen: Facts, *goldens: Golden) -> Judgement:
    return compare(seen, Policy(goldens=goldens, trust_seconds=60), NOW)


@pytest.mark.parametrize(
    ("golden", "seen"),
    [
        pytest.param(BOOT_GOLDEN, facts(boot=booted(BOOT_GOLDEN)), id="boot rules and a log that satisfies them"),
        pytest.param(RUNTIME_GOLDEN, facts(ima=ran(RUNTIME_GOLDEN)), id="runtime rules and a log that satisfies them"),
        pytest.param(GOLDEN, facts(ima=ran(RUNTIME_GOLDEN, UNKNOWN)), id="no runtime rules, so any file may run"),
        pytest.param(GOLDEN, facts(boot=booted(BOOT_GOLDEN, UNSIGNED)), id="no boot rules, so any log will do"),
        pytest.param(replace(GOLDEN, nodes={"pool": "a"}), facts(labels={"pool": "a"}), id="labels that the node has"),
        pytest.param(replace(GOLDEN, valid=Window(start=NOW, end=NOW)), facts(), id="a window that is open"),
        pytest.param(
            replace(GOLDEN, platform=PlatformRules(firmware=(1, 0, 0, 0))),
            facts(firmware_version=1 << 48),
            id="a TPM that satisfies the platform rules",
        ),
    ],
)
def test_a_golden_matches_with_all_its_rules(golden: Golden, seen: Facts) -> None:
    judgement = judged(seen, golden)
    assert judgement.findings == ()
    assert judgement.goldens == (golden,)
    assert not judgement.logs_required


@pytest.mark.parametrize(
    ("golden", "seen", "finding"),
    [
        pytest.param(BOOT_GOLDEN, facts(boot=booted(BOOT_GOLDEN, UNSIGNED)), UNSIGNED.id, id="boot rules"),
        pytest.param(BOOT_GOLDEN, facts(), FindingId.UEFI_LOG_MISSING, id="no boot log"),
        pytest.param(
            BOOT_GOLDEN,
            facts(boot=booted(BOOT_GOLDEN, verdicts={})),
            FindingId.UEFI_LOG_MISSING,
            id="no boot log since the golden is active",
        ),
        pytest.param(RUNTIME_GOLDEN, facts(ima=ran(RUNTIME_GOLDEN, UNKNOWN)), UNKNOWN.id, id="runtime rules"),
        pytest.param(RUNTIME_GOLDEN, facts(), FindingId.IMA_LOG_MISSING, id="no IMA log"),
        pytest.param(
            RUNTIME_GOLDEN,
            facts(ima=ran(GOLDEN)),
            FindingId.IMA_LOG_MISSING,
            id="no IMA log since the golden is active",
        ),
        pytest.param(
            RUNTIME_GOLDEN,
            facts(pcrs=proved(PCRS), ima=ran(RUNTIME_GOLDEN)),
            FindingId.IMA_LOG_MISSING,
            id="an IMA log of earlier, and PCR 10 not quoted",
        ),
        pytest.param(replace(GOLDEN, nodes={"pool": "a"}), facts(), FindingId.GOLDEN_NOT_VALID, id="labels"),
        pytest.param(
            replace(GOLDEN, valid=Window(end=NOW - datetime.resolution)),
            facts(),
            FindingId.GOLDEN_NOT_VALID,
            id="a window that has closed",
        ),
        pytest.param(
            replace(GOLDEN, platform=PlatformRules(firmware=(1, 0, 0, 1))),
            facts(firmware_version=1 << 48),
            FindingId.PLATFORM_FIRMWARE,
            id="TPM firmware",
        ),
        pytest.param(
            replace(GOLDEN, platform=PlatformRules(manufacturers=frozenset({"IFX"}))),
            facts(tpm=TpmFacts(manufacturer="STM")),
            FindingId.PLATFORM_MANUFACTURER,
            id="the TPM's maker",
        ),
        pytest.param(GOLDEN, facts(boot=booted(GOLDEN, findings=(REPLAY,))), REPLAY.id, id="a boot log that lies"),
        pytest.param(GOLDEN, facts(ima_findings=(IMA_REPLAY,)), IMA_REPLAY.id, id="an IMA log that lies"),
        pytest.param(
            RUNTIME_GOLDEN, facts(ima_findings=(IMA_REPLAY,)), IMA_REPLAY.id, id="an IMA log that lies, with rules"
        ),
    ],
)
def test_one_rule_that_does_not_hold_is_the_one_finding(golden: Golden, seen: Facts, finding: FindingId) -> None:
    judgement = judged(seen, golden)
    assert [each.id for each in judgement.findings] == [finding]
    assert not judgement.logs_required


def test_a_log_that_lies_is_found_though_a_golden_matches() -> None:
    judgement = judged(facts(boot=booted(GOLDEN, findings=(REPLAY,)), ima_findings=(IMA_REPLAY,)), GOLDEN)
    assert judgement.findings == (REPLAY, IMA_REPLAY)
    assert judgement.goldens == (GOLDEN,)


def test_a_quirk_is_reported_and_a_golden_matches_all_the_same() -> None:
    judgement = judged(facts(boot=booted(BOOT_GOLDEN, findings=(QUIRK,))), BOOT_GOLDEN)
    assert judgement.findings == (QUIRK,)
    assert judgement.goldens == (BOOT_GOLDEN,)


@pytest.mark.parametrize(
    ("golden", "seen"),
    [
        pytest.param(BOOT_GOLDEN, facts(asked=LEFT_OUT), id="a boot log, since a boot PCR has moved"),
        pytest.param(BOOT_GOLDEN, facts(asked=LEFT_OUT, boot=booted(GOLDEN)), id="a boot log, since the golden is new"),
        pytest.param(RUNTIME_GOLDEN, facts(asked=LEFT_OUT, ima=ran(GOLDEN)), id="an IMA log, since the golden is new"),
    ],
)
def test_a_log_that_the_node_was_told_to_leave_out_leaves_the_outcome_open(golden: Golden, seen: Facts) -> None:
    judgement = judged(seen, golden)
    assert judgement.logs_required
    assert judgement.findings == ()
    assert judgement.goldens == ()
    assert not judged(seen, golden, replace(golden, name="exact", boot=None, runtime=None)).logs_required


def test_a_warning_does_not_decide_what_a_log_that_was_left_out_leaves_open() -> None:
    judgement = judged(facts(asked=LEFT_OUT, boot=booted(GOLDEN, findings=(QUIRK,))), BOOT_GOLDEN)
    assert judgement.findings == (QUIRK,)
    assert judgement.logs_required


@pytest.mark.parametrize(
    ("seen", "finding"),
    [
        pytest.param(facts(asked=LEFT_OUT, ima_findings=(IMA_REPLAY,)), IMA_REPLAY.id, id="a log that lies"),
        pytest.param(
            facts(asked=LEFT_OUT, pcrs=proved({**PCRS, 4: OTHER}, ALL)), FindingId.PCR_MISMATCH, id="another value"
        ),
    ],
)
def test_what_no_log_can_mend_is_decided_without_it(seen: Facts, finding: FindingId) -> None:
    judgement = judged(seen, BOOT_GOLDEN)
    assert not judgement.logs_required
    assert [each.id for each in judgement.findings] == [finding]


@pytest.mark.parametrize(
    ("boot", "event"),
    [
        pytest.param(None, "", id="no log: nothing"),
        pytest.param(
            booted(GOLDEN, verdicts={GOLDEN.digest: BootVerdict(differences={4: "event 7: shim"})}),
            "event 7: shim",
            id="a log and a reference: the first event that differs",
        ),
        pytest.param(booted(GOLDEN), "", id="a log without a difference: nothing"),
        pytest.param(booted(GOLDEN, verdicts={}), "", id="a log from before the golden was active: nothing"),
        pytest.param(
            booted(GOLDEN, proved=frozenset()),
            "the boot log does not account for this PCR",
            id="a log that does not lead to the value: that",
        ),
    ],
)
def test_a_value_that_differs_is_explained_by_the_boot_log(boot: BootState | None, event: str) -> None:
    (finding,) = judged(facts(pcrs=proved({**PCRS, 4: OTHER}, ALL), boot=boot), GOLDEN).findings
    assert finding.event == event


def test_of_a_pcr_that_no_boot_log_speaks_of_nothing_is_explained() -> None:
    golden = golden_of(PCRS, only=range(17, 18))
    quoted_17 = proved({**PCRS, 17: OTHER}, PcrSelection.of({SHA256: [*range(8), 15, 17]}))
    (finding,) = judged(facts(pcrs=quoted_17, boot=booted(golden, proved=frozenset())), golden).findings
    assert (finding.id, finding.event) == (FindingId.PCR_MISMATCH, "")


def test_all_kinds_of_differences_from_the_nearest_golden_are_told_at_once() -> None:
    rules = replace(BOOT_GOLDEN, runtime=runtime_rules(), platform=PlatformRules(ek_algorithms=frozenset({"rsa2048"})))
    seen = facts(
        pcrs=proved({**PCRS, 4: OTHER}, ALL), boot=booted(rules, UNSIGNED), ima=ran(rules, UNKNOWN), tpm=UNKNOWN_TPM
    )
    assert [finding.id for finding in judged(seen, rules).findings] == [
        FindingId.PCR_MISMATCH,
        FindingId.PLATFORM_EK,
        FindingId.UEFI_SECURE_BOOT,
        FindingId.IMA_UNKNOWN_FILE,
    ]


def test_what_was_left_out_makes_a_golden_no_nearer() -> None:
    near, far = replace(GOLDEN, name="near", runtime=runtime_rules()), replace(RUNTIME_GOLDEN, name="far")
    verdicts = {
        near.digest: ImaVerdict(findings=(UNKNOWN, UNKNOWN)),
        far.digest: ImaVerdict(findings=(UNKNOWN,), more=9),
    }
    judgement = judged(facts(ima=ImaProgress(mark=IMA_MARK, verdicts=verdicts)), far, near)
    assert judgement.findings == (UNKNOWN, UNKNOWN)


def test_many_findings_are_counted() -> None:
    many = booted(BOOT_GOLDEN, *[UNSIGNED] * 60)
    both = replace(BOOT_GOLDEN, runtime=runtime_rules())
    seen = facts(
        boot=replace(many, verdicts={both.digest: many.verdicts[BOOT_GOLDEN.digest]}),
        ima=ran(both, *[UNKNOWN] * 100, more=9900),
    )
    judgement = judged(seen, both)
    assert len(judgement.findings) == 101
    assert judgement.findings[99] == UNKNOWN
    assert judgement.findings[100].id is FindingId.IMA_UNKNOWN_FILE
    assert judgement.findings[100].seen == "9960 more findings"


def test_goldens_that_do_not_count_now_are_named() -> None:
    goldens = [golden_of(PCRS, name=f"rack-{letter}") for letter in "edcba"]
    judgement = judged(facts(), *(replace(golden, nodes={"pool": "a"}) for golden in goldens))
    assert [finding.seen for finding in judgement.findings] == ["active: rack-a, rack-b, rack-c and 2 more"]


def test_a_golden_that_does_not_count_is_not_the_nearest() -> None:
    closed = replace(GOLDEN, name="closed", valid=Window(end=NOW - datetime.resolution))
    far = golden_of({**PCRS, 1: OTHER, 2: OTHER}, name="far")
    assert {finding.id for finding in judged(facts(), closed, far).findings} == {FindingId.PCR_MISMATCH}
