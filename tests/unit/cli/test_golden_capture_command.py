"""``nodeseal golden capture`` from kept evidence: what it pins, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nodeseal.appraisal.offline import appraise_folder
from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed, Unavailable
from nodeseal.evidence.binding import Channel
from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import node_id_of
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import decode_event_log, encode_event_log
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import appended
from support.boot_logs import measured as event_of
from support.evidence_folders import folder_of, write_folder
from support.rounds import FILES, Round, measured, ran

SHA256 = HashAlg.SHA256
MACHINE = measured()
OTHER_KERNEL = SampleBoot(kernel=b"another kernel")


def named(machine: Round, node: str = "ek", boot: str = "0001") -> Round:
    """Return the round as that of another node or of another boot."""
    channel: Channel = replace(machine.challenge.channel, node_id=node_id_of(node.encode()))
    claims = replace(machine.claims, boot_id=f"{machine.claims.boot_id[:-4]}{boot}")
    return replace(machine, challenge=machine.challenge._replace(channel=channel), claims=claims)


def run(folder: Path, machines: Sequence[Round], *options: str) -> Result:
    kept = [str(write_folder(machine, folder / f"evidence-{at}")) for at, machine in enumerate(machines)]
    return CliRunner().invoke(app, ["golden", "capture", *kept, "--name", "rack-a", *options])


def captured(folder: Path, machines: Sequence[Round], *options: str) -> tuple[Golden, str]:
    """Capture to stdout; return the golden and its text."""
    result = run(folder, machines, *options)
    assert result.exit_code == 0, result.output
    return parse_golden(result.stdout.encode(), "captured"), result.stdout


def told(folder: Path, machines: Sequence[Round], *options: str, exit_code: int = 0) -> Any:
    result = run(folder, machines, *options, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def refusal(folder: Path, machines: Sequence[Round], *options: str) -> NodesealError:
    error = run(folder, machines, *options).exception
    assert isinstance(error, NodesealError)
    return error


def test_one_machine_is_trusted_under_what_was_captured_from_it(tmp_path: Path) -> None:
    golden, text = captured(tmp_path, [MACHINE])
    assert appraise_folder(folder_of(MACHINE), [golden]).trusted
    assert golden.pcrs[SHA256].keys() == {*range(10), 11, 12, 13, 14}
    assert "# - sha256 PCR 0-9, 11-14: seen in one boot of each machine only; pinned\n" in text


def test_every_machine_and_boot_is_trusted_and_comments_say_what_holds_still(tmp_path: Path) -> None:
    machines = [
        named(measured(chain), node, boot)
        for node, chain in (("one", SampleBoot()), ("two", OTHER_KERNEL))
        for boot in ("0001", "0002")
    ]
    golden, text = captured(tmp_path, machines)
    for machine in machines:
        assert appraise_folder(folder_of(machine), [golden]).trusted
    same, *differing = (line for line in text.splitlines() if line.startswith("# -"))
    assert same == "# - sha256 PCR 0-3, 5-8, 11-14: the same in every boot of every machine; pinned"
    said = "differs between machines, the same in every boot of each, 2 values; pinned (event "
    assert [line.partition(said)[0] for line in differing] == ["# - sha256 PCR 4: ", "# - sha256 PCR 9: "]
    assert len(golden.pcrs[SHA256][4]) == 2


def test_what_a_reboot_changes_is_judged_by_rules(tmp_path: Path) -> None:
    boots = [named(MACHINE, boot="0001"), named(measured(OTHER_KERNEL), boot="0002")]
    golden, text = captured(tmp_path, boots)
    for boot in boots:
        assert appraise_folder(folder_of(boot), [golden]).trusted
    assert not appraise_folder(folder_of(measured(SampleBoot(kernel=b"a third kernel"))), [golden]).trusted
    assert 4 not in golden.pcrs[SHA256]
    assert "differs between boots of one machine, 2 values; judged by rules over its events" in text


def test_rules_judge_where_there_are_rules_if_asked_for(tmp_path: Path) -> None:
    golden, _ = captured(tmp_path, [MACHINE], "--rules")
    assert golden.boot is not None
    assert golden.boot.secure_boot
    assert not {4, 7} & golden.pcrs[SHA256].keys()
    assert appraise_folder(folder_of(MACHINE), [golden]).trusted
    assert not appraise_folder(folder_of(measured(SampleBoot(shim=b"another shim"))), [golden]).trusted


def test_files_that_ran_may_run_and_no_others_if_asked_for(tmp_path: Path) -> None:
    golden, _ = captured(tmp_path, [MACHINE, named(MACHINE.running(ran("/opt/job", b"job")), "two")], "--runtime")
    assert golden.runtime is not None
    assert golden.runtime.files.keys() == {*FILES, "/opt/job"}
    assert appraise_folder(folder_of(MACHINE), [golden]).trusted
    assert not appraise_folder(folder_of(MACHINE.running(ran("/opt/miner", b"x"))), [golden]).trusted


def test_without_being_asked_nothing_is_said_about_what_runs(tmp_path: Path) -> None:
    assert captured(tmp_path, [MACHINE])[0].runtime is None


def test_only_the_pcrs_asked_for_are_pinned(tmp_path: Path) -> None:
    golden, text = captured(tmp_path, [MACHINE], "--pcrs", "0,4,7")
    assert golden.pcrs[SHA256].keys() == {0, 4, 7}
    assert "# - sha256 PCR 0, 4, 7: " in text


def test_a_file_gets_the_golden_and_people_what_became_of_each_pcr(tmp_path: Path) -> None:
    out = tmp_path / "rack-a.yaml"
    result = run(tmp_path, [MACHINE], "-o", str(out))
    assert result.exit_code == 0, result.output
    golden = parse_golden(out.read_bytes(), str(out))
    assert golden.digest in result.stdout
    assert "• sha256 PCR 0-9, 11-14: seen in one boot of each machine only; pinned\n" in result.stdout
    assert "format:" not in result.stdout


def test_json_holds_document_and_notes(tmp_path: Path) -> None:
    said = told(tmp_path, [MACHINE], "--pcrs", "4")
    golden = parse_golden(said["document"].encode(), "captured")
    assert (said["name"], said["digest"], said["findings"]) == ("rack-a", golden.digest, [])
    note = {"bank": "sha256", "pcr": 4, "stability": "one-boot", "values": 1, "judged": "value", "difference": ""}
    assert said["pcrs"] == [note]


def test_what_would_keep_the_machine_untrusted_all_the_same_is_told(tmp_path: Path) -> None:
    lying = replace(MACHINE, boot_log=measured(OTHER_KERNEL).boot_log)
    assert {each["id"] for each in told(tmp_path, [lying], exit_code=1)["findings"]} == {"uefi.replay"}
    (tmp_path / "again").mkdir()
    result = run(tmp_path / "again", [lying])
    assert result.exit_code == 1
    assert "uefi.replay" in result.stderr
    assert "uefi.replay" not in result.stdout


def test_boots_before_and_after_a_firmware_update_leave_pcrs_open_and_that_is_no_success(tmp_path: Path) -> None:
    updated = measured(SampleBoot(firmware=b"the update"))
    boots = [named(MACHINE, boot="0001"), named(updated, boot="0002")]
    assert told(tmp_path, boots, exit_code=1)["left_open"] == ["sha256:0"]
    (tmp_path / "again").mkdir()
    result = run(tmp_path / "again", boots)
    assert result.exit_code == 1
    assert "capture boots after the change alone" in " ".join(result.stderr.split())
    (tmp_path / "on-purpose").mkdir()
    assert run(tmp_path / "on-purpose", boots, "--pcrs", "2,4,7").exit_code == 0


def test_words_of_the_firmware_are_written_down_and_decide_on_dma_protection(tmp_path: Path) -> None:
    golden, text = captured(tmp_path, [MACHINE], "--rules")
    assert golden.boot is not None
    assert golden.boot.dma_protection
    assert "firmware says" not in text
    (tmp_path / "unprotected").mkdir()
    log = decode_event_log(sample_boot_log(SampleBoot()))
    log = appended(log, event_of(7, EventType.EFI_ACTION, b"DMA Protection Disabled"))
    golden, text = captured(tmp_path / "unprotected", [measured(boot_log=encode_event_log(log))], "--rules")
    assert golden.boot is not None
    assert not golden.boot.dma_protection
    assert '# - firmware says in PCR 7: "DMA Protection Disabled"\n' in text


def test_reference_events_explain_later_differences(tmp_path: Path) -> None:
    golden, _ = captured(tmp_path, [MACHINE])
    other = appraise_folder(folder_of(measured(OTHER_KERNEL)), [golden])
    (event,) = {finding.event for finding in other.findings if finding.where.startswith("sha256 PCR 4,")}
    assert "event " in event


def test_a_golden_without_a_boot_log_behind_it_is_said_to_explain_nothing(tmp_path: Path) -> None:
    note = "no boot log accounts for these PCRs"
    assert note in run(tmp_path, [Round()], "--rules", "-o", str(tmp_path / "blind.yaml")).stderr
    (tmp_path / "again").mkdir()
    assert note not in run(tmp_path / "again", [MACHINE], "-o", str(tmp_path / "seeing.yaml")).stderr


@pytest.mark.parametrize(
    ("machines", "options", "complaint"),
    [
        pytest.param([MACHINE], ("--pcrs", "4,17"), r"\[17\] are not quoted", id="a PCR that is not quoted"),
        pytest.param([MACHINE], ("--pcrs", "4,10"), "IMA measures", id="the PCR of IMA"),
        pytest.param([MACHINE], ("--pcrs", "4,23"), "lease epoch", id="the lease epoch"),
        pytest.param([MACHINE], ("--pcrs", "0"), "judges what boots", id="nothing that judges what boots"),
        pytest.param([replace(MACHINE, ima_log=None)], ("--runtime",), "no IMA log was proved", id="no IMA log"),
    ],
)
def test_what_cannot_become_a_golden_is_refused(
    tmp_path: Path, machines: Sequence[Round], options: Sequence[str], complaint: str
) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        raise refusal(tmp_path, machines, *options)


def test_evidence_that_proves_nothing_makes_no_golden(tmp_path: Path) -> None:
    folder = write_folder(MACHINE, tmp_path / "changed")
    signature = bytearray((folder / "signature.bin").read_bytes())
    signature[-1] ^= 1
    (folder / "signature.bin").write_bytes(signature)
    out = tmp_path / "rack-a.yaml"
    result = CliRunner().invoke(app, ["golden", "capture", str(folder), "--name", "rack-a", "-o", str(out)])
    assert isinstance(result.exception, ProofFailed)
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--pcrs", "0,99"), id="a PCR that does not exist"),
        pytest.param(("--pcrs", "0,,4"), id="a gap in the list"),
        pytest.param(("--name", "A B"), id="a name with a space"),
    ],
)
def test_misuse_is_told_before_anything_is_asked(tmp_path: Path, options: Sequence[str]) -> None:
    assert run(tmp_path, [MACHINE], *options).exit_code == 2


def test_what_is_neither_node_nor_folder_is_refused_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["golden", "capture", str(tmp_path / "absent"), "--name", "rack-a"])
    assert isinstance(result.exception, MalformedInput)
    assert "is neither a node nor a folder" in str(result.exception)


def test_a_golden_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    out = tmp_path / "absent" / "rack-a.yaml"
    with pytest.raises(Unavailable, match=r"absent/rack-a\.yaml: No such file"):
        raise refusal(tmp_path, [MACHINE], "-o", str(out))
