"""A real machine with Debian 13, systemd-boot and a unified kernel image, by the evidence that its agent sent."""

from __future__ import annotations

import pytest

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import appraise_folder, observe
from nodeseal.cli.evidence import read_evidence
from nodeseal.evidence.folder import EvidenceFolder
from support.data import shared_data


def evidence(name: str) -> EvidenceFolder:
    return read_evidence(shared_data("debian13-uki", f"evidence-{name}"))


@pytest.mark.parametrize("rules", [False, True], ids=["values", "rules"])
def test_two_boots_make_a_golden_that_both_match(rules: bool) -> None:  # noqa: FBT001 - a table
    folders = [evidence("boot1"), evidence("boot2")]
    made = capture([observe(each).observation for each in folders], CaptureOptions(name="debian13", rules=rules))
    assert made.left_open() == ()
    for each in folders:
        appraisal = appraise_folder(each, [made.golden])
        assert appraisal.trusted, appraisal.findings


def test_loader_conf_is_no_partition_table() -> None:
    claims = observe(evidence("boot1")).observation.claims
    assert claims is not None
    assert len(claims.gpt) == 1
    assert [each.name for each in claims.loader_conf] == ["loader.conf (systemd-boot): loader.conf"]


def test_a_soft_reboot_keeps_pcr_11_proved_and_add_ons_are_known_by_digest() -> None:
    observation = observe(evidence("boot6-after-soft-reboot")).observation
    assert observation.log is not None
    assert observation.claims is not None
    assert observation.log.phases == ("sysinit", "ready", "shutdown", "final", "sysinit", "ready")
    assert 11 in observation.log.proved
    assert [each.name for each in observation.claims.addons] == ["Credentials initrd"]
    assert [line.text for line in observation.claims.command_lines if line.text] == ["addon.word=1"]
