"""How kept evidence stands to a golden: every PCR that it looks at, and the events that differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.explanation import Explanation, HeldPcr, explain_folder
from nodeseal.appraisal.offline import observe
from nodeseal.errors import ProofFailed
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import Window
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from support.evidence_folders import folder_of
from support.rounds import NOW, Round, measured, ran, runtime_rules

SHA256 = HashAlg.SHA256
MACHINE = measured()
OTHER = measured(SampleBoot(boot_loader=b"another loader"))
WANTED = CaptureOptions(name="rack-a")
GOLDEN = capture([observe(folder_of(MACHINE)).observation], WANTED).golden
RULES = capture([observe(folder_of(MACHINE)).observation], replace(WANTED, rules=True)).golden


def explained(machine: Round, golden: Golden = GOLDEN) -> Explanation:
    return explain_folder(folder_of(machine), golden)


def pcr_4(explanation: Explanation) -> HeldPcr:
    (held,) = (each for each in explanation.pcrs if each.pcr == 4)
    return held


def test_a_golden_that_matches_leaves_nothing_to_explain() -> None:
    explanation = explained(MACHINE)
    assert (explanation.matches, explanation.trusted, explanation.findings) == (True, True, ())
    assert [each.pcr for each in explanation.pcrs] == sorted(GOLDEN.pcrs[SHA256])
    assert not any(each.differs or each.differences or each.unexplained for each in explanation.pcrs)


def test_the_pcr_that_differs_is_told_with_both_events() -> None:
    explanation = explained(OTHER)
    assert not explanation.matches
    assert [each.pcr for each in explanation.pcrs if each.differs] == [4]
    held = pcr_4(explanation)
    (step,) = held.differences
    assert step.golden is not None
    assert step.seen is not None
    assert step.golden.digest == SHA256.digest(b"nodeseal sample boot loader")
    assert step.seen.digest == SHA256.digest(b"another loader")
    assert "grubx64.efi" in held.first
    assert [(f.id, f.event) for f in explanation.findings] == [(FindingId.PCR_MISMATCH, held.first)]


def test_pcrs_under_rules_are_told_with_what_differs_too() -> None:
    explanation = explained(OTHER, RULES)
    held = pcr_4(explanation)
    assert (held.pinned, held.differs, held.first != "") == (False, False, True)
    assert held.differences
    assert FindingId.UEFI_IMAGE in {finding.id for finding in explanation.findings}


def test_a_match_is_no_trust_while_something_else_speaks_against_the_node() -> None:
    explanation = explained(replace(MACHINE, boot_log=OTHER.boot_log))
    assert (explanation.matches, explanation.trusted) == (True, False)
    assert {finding.id for finding in explanation.findings} == {FindingId.UEFI_REPLAY}


def test_what_ran_is_found_beside_pcrs_that_match() -> None:
    golden = replace(GOLDEN, runtime=runtime_rules())
    explanation = explained(MACHINE.running(ran("/opt/miner", b"x")), golden)
    assert not explanation.matches
    assert not any(each.differs for each in explanation.pcrs)
    assert [finding.id for finding in explanation.findings] == [FindingId.IMA_UNKNOWN_FILE]


@pytest.mark.parametrize(
    ("machine", "golden", "reason"),
    [
        pytest.param(replace(OTHER, boot_log=None), GOLDEN, "there is no boot log that can be read", id="no log"),
        pytest.param(
            replace(OTHER, boot_log=b"\0" * 9), GOLDEN, "there is no boot log that can be read", id="no log at all"
        ),
        pytest.param(
            MACHINE.extended(4), GOLDEN, "the boot log does not account for this PCR", id="a log of something else"
        ),
        pytest.param(
            OTHER,
            replace(GOLDEN, reference=()),
            "the golden has no reference events to compare with",
            id="no reference",
        ),
    ],
)
def test_what_cannot_be_explained_is_said_with_the_reason(machine: Round, golden: Golden, reason: str) -> None:
    held = pcr_4(explained(machine, golden))
    assert (held.differs, held.unexplained, held.first, held.differences) == (True, reason, "", ())


def test_a_golden_that_does_not_count_does_not_match() -> None:
    explanation = explained(MACHINE, replace(GOLDEN, valid=Window(end=NOW.replace(year=2020))))
    assert not explanation.matches
    assert [finding.id for finding in explanation.findings] == [FindingId.GOLDEN_NOT_VALID]


def test_evidence_that_proves_nothing_is_not_explained() -> None:
    folder = folder_of(MACHINE)
    with pytest.raises(ProofFailed):
        explain_folder(replace(folder, evidence=folder.evidence._replace(pcr_values=None)), GOLDEN)
