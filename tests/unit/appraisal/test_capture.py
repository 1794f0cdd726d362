"""Goldens made from what machines proved: what is pinned, what rules judge, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.capture import CaptureOptions, Observation, PcrCoverage, PcrNote, Stability, capture
from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.boot.claims import boot_claims
from nodeseal.boot.proved import prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ids import node_id_of
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog
from support.boot_logs import SHA256, good_log, place_of, values_of, without
from support.quotes import quoted_pcrs

WANTED = CaptureOptions(name="rack-a")
STATIC = frozenset(range(15)) - {10}


def _boot(
    log: EventLog, node: str = "one", boot: str = "first", extended: dict[int, bytes] | None = None
) -> Observation:
    values = dict.fromkeys(range(16), bytes(32)) | values_of(log) | (extended or {})
    pcrs = quoted_pcrs({SHA256: values})
    proved = prove_boot_log(log, pcrs, FirmwareFacts(vendor="", version=""))
    return Observation(
        node_id=node_id_of(node.encode()), boot_id=boot, pcrs=pcrs, log=proved, claims=boot_claims(proved)
    )


def _without_log(observation: Observation) -> Observation:
    return replace(observation, log=None, claims=None)


def _note(notes: tuple[PcrNote, ...], pcr: int) -> PcrNote:
    (note,) = (note for note in notes if note.pcr == pcr)
    return note


ONE = _boot(good_log())
OTHER_KERNEL = good_log(SampleBoot(kernel=b"another kernel"))


def test_one_boot_pins_every_static_pcr_and_says_that_nobody_knows_the_next_boot() -> None:
    captured = capture([ONE], WANTED)
    assert captured.golden.pcrs[SHA256].keys() == STATIC
    assert {note.stability for note in captured.notes} == {Stability.ONE_BOOT}
    assert captured.golden.boot is None


def test_neither_what_ima_measures_nor_the_identity_of_one_machine_is_pinned() -> None:
    assert not {10, 15} & capture([ONE], WANTED).golden.pcrs[SHA256].keys()


def test_the_identity_of_one_machine_is_pinned_if_somebody_asks_for_it() -> None:
    wanted = replace(WANTED, pcrs=frozenset({4, 15}))
    assert capture([ONE], wanted).golden.pcrs[SHA256].keys() == {4, 15}


def test_two_boots_of_one_machine_that_agree_show_that_values_hold_still() -> None:
    captured = capture([ONE, _boot(good_log(), boot="second")], WANTED)
    assert {note.stability for note in captured.notes} == {Stability.SAME}


def test_machines_that_differ_are_both_allowed_and_the_difference_is_named() -> None:
    boots = [
        _boot(log, node, boot)
        for node, log in (("one", good_log()), ("two", OTHER_KERNEL))
        for boot in ("first", "second")
    ]
    captured = capture(boots, WANTED)
    note = _note(captured.notes, 4)
    assert (note.stability, note.values, note.judged) == (Stability.BY_MACHINE, 2, PcrCoverage.VALUE)
    assert note.difference.startswith("event ")
    assert len(captured.golden.pcrs[SHA256][4]) == 2


def test_a_pcr_that_a_reboot_changes_is_judged_by_rules_and_never_pinned() -> None:
    boots = [ONE, _boot(OTHER_KERNEL, boot="second")]
    captured = capture(boots, WANTED)
    assert _note(captured.notes, 4).judged is PcrCoverage.RULES
    assert 4 not in captured.golden.pcrs[SHA256]
    assert captured.golden.boot is not None
    assert captured.golden.boot.images is not None
    for boot in boots:
        assert boot.claims is not None
        assert judge_boot(boot.claims, captured.golden.boot) == ()


def test_a_chain_allows_at_each_place_what_ran_there() -> None:
    rules = capture([ONE, _boot(OTHER_KERNEL, boot="second")], WANTED).golden.boot
    assert rules is not None
    assert [len(image.digests) for image in rules.images or ()] == [1, 1, 2]
    assert [image.name.split(". ")[0] for image in rules.images or ()] == ["1", "2", "3"]


def test_boots_of_chains_of_another_length_make_no_golden() -> None:
    grub = place_of(good_log(), 4, "grubx64".encode("utf-16-le"))
    with pytest.raises(MalformedInput, match="judges what boots"):
        capture([ONE, _boot(without(good_log(), grub), boot="second")], WANTED)


def test_a_pcr_that_a_reboot_changes_and_no_rule_can_judge_is_left_open() -> None:
    boots = [ONE, _boot(good_log(), boot="second", extended={13: b"x" * 32})]
    captured = capture(boots, WANTED)
    assert _note(captured.notes, 13).judged is PcrCoverage.OPEN
    assert 13 not in captured.golden.pcrs[SHA256]


def test_rules_are_taken_wherever_there_are_some_if_asked_for() -> None:
    captured = capture([ONE], replace(WANTED, rules=True))
    rules = captured.golden.boot
    assert rules is not None
    assert rules.secure_boot
    assert rules.signers
    assert ONE.claims is not None
    assert judge_boot(ONE.claims, rules) == ()
    judged = {note.pcr for note in captured.notes if note.judged is PcrCoverage.RULES}
    assert {4, 7} <= judged
    assert not judged & captured.golden.pcrs[SHA256].keys()


def test_what_a_rule_does_not_know_it_refuses() -> None:
    rules = capture([ONE], replace(WANTED, rules=True)).golden.boot
    other = _boot(OTHER_KERNEL).claims
    assert rules is not None
    assert other is not None
    assert judge_boot(other, rules) != ()


def test_load_options_that_no_command_line_explains_are_judged_as_they_were_measured() -> None:
    log = good_log(SampleBoot(sections=((".linux", b"kernel"),)))
    silent = _boot(without(log, place_of(log, 12)))
    assert silent.claims is not None
    assert [line.text for line in silent.claims.command_lines] == [None]
    rules = capture([silent], replace(WANTED, rules=True)).golden.boot
    assert rules is not None
    assert rules.command_lines is None
    assert judge_boot(silent.claims, rules) == ()


def test_the_captured_golden_survives_being_written_down() -> None:
    runtime = RuntimeRules(files={"/usr/bin/true": (FileDigest(digest=bytes(32)),)})
    for wanted in (WANTED, replace(WANTED, rules=True), replace(WANTED, runtime=runtime)):
        golden = capture([ONE], wanted).golden
        assert golden.reference
        assert parse_golden(dump_golden(golden), "golden").digest == golden.digest


def test_systemds_separator_is_pinned_and_is_among_the_events_that_explain() -> None:
    log = good_log()
    word, pcrs = SHA256.digest(b"os-separator"), (*range(8), 9, 12, 13, 14)
    values = dict.fromkeys(pcrs, bytes(32)) | values_of(log)
    separated = {pcr: SHA256.digest(values[pcr] + word) for pcr in pcrs}
    golden = capture([_boot(log, extended=separated)], WANTED).golden
    assert golden.pcrs[SHA256][7] == {separated[7]}
    assert parse_golden(dump_golden(golden), "golden") == golden
    assert [event.pcr for event in golden.reference if event.digests[SHA256] == word] == sorted(pcrs)


def test_without_logs_values_alone_are_pinned() -> None:
    captured = capture([_without_log(ONE)], replace(WANTED, rules=True))
    assert {note.judged for note in captured.notes} == {PcrCoverage.VALUE}
    assert captured.golden.reference == ()


def test_only_the_wanted_pcrs_are_pinned() -> None:
    captured = capture([ONE], replace(WANTED, pcrs=frozenset({4, 7})))
    assert captured.golden.pcrs[SHA256].keys() == {4, 7}


@pytest.mark.parametrize(
    ("observations", "wanted", "complaint"),
    [
        pytest.param([], WANTED, "names no evidence", id="nothing"),
        pytest.param([ONE], replace(WANTED, pcrs=frozenset({4, 17})), r"\[17\] are not quoted", id="not quoted"),
        pytest.param([ONE], replace(WANTED, pcrs=frozenset({4, 10})), "IMA measures", id="IMA's own PCR"),
        pytest.param([ONE], replace(WANTED, pcrs=frozenset({0})), "judges what boots", id="no boot image"),
        pytest.param(
            [_without_log(ONE), _without_log(_boot(OTHER_KERNEL, boot="second"))],
            WANTED,
            "judges what boots",
            id="boots that differ, and no log",
        ),
        pytest.param(
            [ONE, replace(ONE, pcrs=quoted_pcrs({HashAlg.SHA384: {4: bytes(48)}}))],
            WANTED,
            "different PCR banks",
            id="other banks",
        ),
        pytest.param(
            [ONE, replace(ONE, pcrs=quoted_pcrs({SHA256: {4: bytes(32)}}))], WANTED, "different PCRs", id="other PCRs"
        ),
    ],
)
def test_what_cannot_become_a_golden_is_refused(
    observations: list[Observation], wanted: CaptureOptions, complaint: str
) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        capture(observations, wanted)
