"""Kept evidence: what it proves, and what a golden may be made from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import appraise_folder, observe
from nodeseal.errors import ProofFailed
from nodeseal.findings import FindingId
from nodeseal.swtpm.sample_log import SampleBoot
from support.damage import flipped
from support.evidence_folders import folder_of
from support.rounds import measured, ran

MACHINE = measured()
FOLDER = folder_of(MACHINE)


def test_what_was_captured_from_evidence_judges_that_evidence_good() -> None:
    golden = capture([observe(FOLDER).observation], CaptureOptions(name="mine")).golden
    assert appraise_folder(FOLDER, [golden]).trusted


def test_what_was_captured_elsewhere_judges_it_bad_and_names_the_event() -> None:
    other = folder_of(measured(SampleBoot(boot_loader=b"another loader")))
    golden = capture([observe(other).observation], CaptureOptions(name="other")).golden
    appraisal = appraise_folder(FOLDER, [golden])
    assert not appraisal.trusted
    (finding,) = (f for f in appraisal.findings if f.where.startswith("sha256 PCR 4"))
    assert finding.id is FindingId.PCR_MISMATCH
    assert "grubx64.efi" in finding.event


def test_entries_beyond_the_quote_are_not_observed() -> None:
    ahead = MACHINE.running(ran("/usr/bin/later", b"later")).ima_log
    evidence = FOLDER.evidence._replace(ima=replace(MACHINE, ima_log=ahead).delta(0))
    seen, proved = observe(replace(FOLDER, evidence=evidence)), observe(FOLDER)
    assert seen.ima == proved.ima
    assert len(proved.ima) == 3


def test_a_log_that_does_not_replay_is_reported() -> None:
    evidence = FOLDER.evidence._replace(ima=replace(MACHINE, ima_log=flipped(MACHINE.ima_log or b"")).delta(0))
    seen = observe(replace(FOLDER, evidence=evidence))
    assert seen.ima == ()
    assert {finding.id for finding in seen.findings} & {FindingId.IMA_REPLAY, FindingId.IMA_LOG_MALFORMED}


def test_evidence_without_values_proves_nothing() -> None:
    with pytest.raises(ProofFailed, match="seen none"):
        observe(replace(FOLDER, evidence=FOLDER.evidence._replace(pcr_values=None)))


def test_evidence_for_another_challenge_proves_nothing() -> None:
    channel = replace(FOLDER.channel, certificate_sha256=bytes(32))
    with pytest.raises(ProofFailed, match=r"quote\.binding"):
        appraise_folder(replace(FOLDER, channel=channel), [])
