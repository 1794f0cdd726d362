"""Rounds with logs: what each kind of log proves, what may be left out, and what a change makes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from nodeseal.appraisal.appraise import known_logs
from nodeseal.appraisal.kinds import boot, ima
from nodeseal.appraisal.kinds.ima import ImaMark
from nodeseal.appraisal.model import Appraisal, Continuity, Policy, TpmFacts
from nodeseal.boot.claims import BootClaims
from nodeseal.boot.difference import reference_events
from nodeseal.evidence.logs import NOTHING_KNOWN, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, FileDigest, Image, PlatformRules, RuntimeRules, Window
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.attest import decode_attest, encode_attest
from nodeseal.uefi.event_log import decode_event_log
from support.quotes import OWNER
from support.rounds import (
    CLAIMS,
    FILES,
    NOW,
    SELECTION,
    SHA256,
    Round,
    booted,
    exact_golden,
    golden_of,
    marked,
    measured,
    measured_so_far,
    ran,
    runtime_rules,
)

SECOND = timedelta(seconds=1)
OTHER_BOOT = replace(CLAIMS, boot_id="3f0c7c9e-0000-4000-8000-000000000002")
CHAIN = SampleBoot()
IMAGES = tuple(
    Image(name=name, digests=frozenset({SHA256.digest(content)}))
    for name, content in (("shim", CHAIN.shim), ("grub", CHAIN.boot_loader), ("kernel", CHAIN.kernel))
)
BOOT_RULES = BootRules(secure_boot=True, images=IMAGES, command_lines=("/vmlinuz root=LABEL=* ro quiet",))
TOOL = ran("/usr/bin/tool", b"tool 1")


def ids(appraisal: Appraisal) -> list[FindingId]:
    return [finding.id for finding in appraisal.findings]


def under(round_: Round, *goldens: Golden) -> Round:
    return replace(round_, policy=Policy(goldens=goldens, trust_seconds=60))


def judging(round_: Round, **rules: Any) -> Round:
    """Return the round under the exact golden of its machine, with further rules."""
    return under(round_, replace(exact_golden(round_), **rules))


MACHINE = measured()
BOOT = judging(MACHINE, boot=BOOT_RULES)
RUNTIME = judging(MACHINE, runtime=runtime_rules())
WHOLE = judging(
    MACHINE,
    boot=BOOT_RULES,
    runtime=runtime_rules(),
    platform=PlatformRules(manufacturers=frozenset({"IFX"}), firmware=(0, 0, 0, 1)),
    nodes={"pool": "a"},
)
WHOLE = replace(WHOLE, labels={"pool": "a"}, tpm=TpmFacts(manufacturer="IFX"))


def restarted(round_: Round, appraisal: Appraisal) -> Round:
    """Return the next round of a verifier that kept clock, boot id and mark over a restart."""
    kept = appraisal.baseline._replace(claims_raw=b"", claims=None, judgement=None, proved_at=None)
    return round_.then(appraisal._replace(baseline=kept))


# What logs prove


@pytest.mark.parametrize(
    "round_",
    [
        pytest.param(MACHINE, id="exact values, and logs that nobody asked for"),
        pytest.param(replace(MACHINE, boot_log=None, ima_log=None), id="exact values, no logs"),
        pytest.param(BOOT, id="boot rules"),
        pytest.param(under(MACHINE, replace(exact_golden(MACHINE), pcrs={}, boot=BOOT_RULES)), id="boot rules alone"),
        pytest.param(RUNTIME, id="runtime rules"),
        pytest.param(WHOLE, id="every kind of rule"),
    ],
)
def test_a_machine_is_trusted_under_a_golden_of_its_own(round_: Round) -> None:
    appraisal = round_.appraise()
    assert appraisal.findings == ()
    assert appraisal.trusted
    assert not appraisal.logs_required


def booting(**changes: Any) -> Round:
    """Return the round of a machine that boots something else, under the golden of every kind of rule."""
    other = measured(SampleBoot(**changes))
    return replace(WHOLE, pcrs=other.pcrs, boot_log=other.boot_log, ima_log=other.ima_log)


@pytest.mark.parametrize(
    ("round_", "finding"),
    [
        pytest.param(replace(WHOLE, labels={}), FindingId.GOLDEN_NOT_VALID, id="its labels"),
        pytest.param(replace(WHOLE, tpm=TpmFacts(manufacturer="STM")), FindingId.PLATFORM_MANUFACTURER, id="its TPM"),
        pytest.param(replace(WHOLE, firmware=0), FindingId.PLATFORM_FIRMWARE, id="the TPM's firmware"),
        pytest.param(replace(WHOLE, boot_log=None), FindingId.UEFI_LOG_MISSING, id="no boot log"),
        pytest.param(replace(WHOLE, ima_log=None), FindingId.IMA_LOG_MISSING, id="no IMA log"),
        pytest.param(replace(WHOLE, ima_log=b""), FindingId.IMA_LOG_MISSING, id="an empty IMA log"),
        pytest.param(replace(WHOLE, boot_log=b"no log"), FindingId.UEFI_LOG_MALFORMED, id="a boot log that is none"),
        pytest.param(replace(WHOLE, ima_log=b"no log"), FindingId.IMA_LOG_MALFORMED, id="an IMA log that is none"),
        pytest.param(WHOLE.extended(2), FindingId.UEFI_REPLAY, id="an event that the boot log does not have"),
        pytest.param(WHOLE.extended(10), FindingId.IMA_REPLAY, id="an entry that the IMA log does not have"),
        pytest.param(WHOLE.running(TOOL), FindingId.IMA_UNKNOWN_FILE, id="a file that nobody knows"),
        pytest.param(booting(secure_boot=False), FindingId.UEFI_SECURE_BOOT, id="secure boot"),
        pytest.param(booting(kernel=b"another"), FindingId.UEFI_IMAGE, id="the kernel"),
        pytest.param(booting(command_line="/vmlinuz init=/bin/sh"), FindingId.UEFI_COMMAND_LINE, id="its command line"),
    ],
)
def test_one_changed_fact_is_found(round_: Round, finding: FindingId) -> None:
    appraisal = round_.appraise()
    assert finding in ids(appraisal)
    assert not appraisal.trusted
    assert not appraisal.logs_required


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        pytest.param({"boot_log": b"no log"}, FindingId.UEFI_LOG_MALFORMED, id="a boot log that is none"),
        pytest.param(
            {"boot_log": sample_boot_log(SampleBoot(kernel=b"k"))}, FindingId.UEFI_REPLAY, id="another boot's"
        ),
        pytest.param({"ima_log": b"no log"}, FindingId.IMA_LOG_MALFORMED, id="an IMA log that is none"),
        pytest.param({"ima_log": measured(files={}).ima_log}, FindingId.IMA_REPLAY, id="an IMA log without entries"),
    ],
)
def test_a_log_that_lies_is_found_even_if_no_golden_asks_for_one(changes: dict[str, Any], finding: FindingId) -> None:
    appraisal = replace(MACHINE, **changes).appraise()
    assert set(ids(appraisal)) == {finding}
    assert not appraisal.trusted
    assert appraisal.goldens == MACHINE.policy.goldens


@pytest.mark.parametrize("ima_log", [b"", measured(files={}).ima_log])
def test_a_kernel_that_measures_nothing_into_the_tpm_harms_no_golden_that_asks_for_nothing(ima_log: bytes) -> None:
    silent = replace(MACHINE, pcrs={**MACHINE.pcrs, 10: bytes(32)}, ima_log=ima_log)
    assert replace(silent).appraise().trusted
    assert ids(judging(silent, runtime=runtime_rules()).appraise()) == [FindingId.IMA_LOG_MISSING]


def test_a_broken_boot_log_hides_nothing_else() -> None:
    wrong = replace(WHOLE.running(TOOL), boot_log=b"no log", firmware=0)
    found = ids(wrong.appraise())
    assert found == [FindingId.UEFI_LOG_MALFORMED, FindingId.PLATFORM_FIRMWARE, FindingId.IMA_UNKNOWN_FILE]


def test_a_golden_that_judges_the_boot_log_does_not_match_one_that_does_not_parse() -> None:
    assert replace(BOOT, boot_log=b"no log").appraise().goldens == ()


def test_a_quote_by_a_key_of_another_hierarchy_proves_no_firmware_version() -> None:
    """The TPM adds a secret number to it, so any version could be stated."""
    signed = WHOLE.sign()
    attest = decode_attest(signed.attest)._replace(qualified_signer=WHOLE.key.qualified_name(OWNER))
    raw = encode_attest(attest)
    appraisal = WHOLE.appraise(WHOLE.evidence()._replace(attest=raw, signature=WHOLE.key.sign(raw)))
    assert ids(appraisal) == [FindingId.PLATFORM_FIRMWARE]
    assert appraisal.findings[0].seen == "not known"


def test_a_value_that_differs_is_explained_by_the_first_event_that_does() -> None:
    log = decode_event_log(MACHINE.boot_log or b"")
    golden = replace(exact_golden(MACHINE), reference=reference_events(log, [SHA256]))
    other = measured(SampleBoot(kernel=b"another"))
    (finding,) = [each for each in under(other, golden).appraise().findings if "PCR 4" in each.where]
    assert finding.id is FindingId.PCR_MISMATCH
    assert "vmlinuz" in finding.event
    later = under(other, golden)
    later = later.then(later.appraise()).running(TOOL)
    assert finding in later.appraise(later.evidence()).findings


def test_what_the_boot_log_proves_is_shown_in_the_round_that_brings_it() -> None:
    first = BOOT.appraise()
    claims = first.detail(BootClaims)
    assert claims is not None
    assert claims.command_lines[0].text == CHAIN.command_line
    second = BOOT.then(first)
    assert second.appraise(second.evidence(values=False)).details == ()


def test_a_log_that_was_not_asked_for_is_judged_again() -> None:
    second = BOOT.then(BOOT.appraise())
    lie = second.evidence(values=False)._replace(boot_log=sample_boot_log(SampleBoot(kernel=b"another")))
    assert FindingId.UEFI_REPLAY in ids(second.appraise(lie))


def counted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[Any]:
    """Return the first arguments of every call of a function from now on."""
    calls, real = list[Any](), getattr(module, name)

    def call(first: Any, *rest: Any) -> Any:
        calls.append(first)
        return real(first, *rest)

    monkeypatch.setattr(module, name, call)
    return calls


def test_the_same_boot_log_again_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = counted(monkeypatch, boot, "conclude_boot")
    first = WHOLE.appraise()
    second = WHOLE.then(first)
    appraisal = second.appraise(second.evidence()._replace(boot_log=WHOLE.boot_log))
    assert judged == [WHOLE.boot_log]
    assert appraisal.keeps_leases
    assert booted(appraisal) is booted(first)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda first: WHOLE.extended(2).then(first), id="a boot PCR has moved"),
        pytest.param(lambda first: newer(WHOLE.then(first), first, exact_golden(WHOLE, "b")), id="a golden is new"),
        pytest.param(
            lambda first: WHOLE.then(first, boot_log=sample_boot_log(SampleBoot(kernel=b"another"))), id="another log"
        ),
        pytest.param(lambda first: WHOLE.then(first, claims=OTHER_BOOT), id="another boot"),
    ],
)
def test_a_boot_log_is_judged_again_when(second: Callable[[Appraisal], Round], monkeypatch: pytest.MonkeyPatch) -> None:
    later = second(WHOLE.appraise())
    judged = counted(monkeypatch, boot, "conclude_boot")
    later.appraise(later.evidence()._replace(boot_log=later.boot_log))
    assert judged == [later.boot_log]


def test_a_whole_ima_log_that_nobody_asked_for_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents send what the challenge does not name; see :mod:`nodeseal.agent.evidence.logs`."""
    judged = counted(monkeypatch, ima, "judge_ima")
    first = WHOLE.appraise()
    second = WHOLE.then(first).running(TOOL)
    refused = second.appraise(second.evidence()._replace(ima=second.delta(0)))
    assert ids(refused) == [FindingId.IMA_REPLAY]
    assert len(judged) == 1
    assert measured_so_far(refused) is measured_so_far(first)
    third = WHOLE.then(refused)
    assert third.appraise(third.evidence()).trusted


def test_what_was_wrong_with_the_ima_log_stays_so_when_another_comes_unasked() -> None:
    wrong = under(measured(), exact_golden(MACHINE))
    wrong = replace(wrong, ima_log=b"", pcrs={**wrong.pcrs, 10: bytes(32)}).running(TOOL)
    first = wrong.appraise()
    assert ids(first) == [FindingId.IMA_BOOT_AGGREGATE]
    second = wrong.then(first)
    unasked = second.appraise(second.evidence()._replace(ima=second.delta(0)))
    assert ids(unasked) == [FindingId.IMA_BOOT_AGGREGATE, FindingId.IMA_REPLAY]


def test_the_findings_of_a_node_are_bounded() -> None:
    many = RUNTIME.running(*(ran(f"/opt/{number}", b"x") for number in range(1000)))
    findings = many.appraise().findings
    assert len(findings) == 101
    assert findings[-1].seen == "900 more findings"


def test_evidence_is_judged_without_database_network_or_rpc() -> None:
    """Whoever has a key, a golden and evidence can judge for themselves."""
    script = "import sys, nodeseal.appraisal.appraise; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {"grpc", "google.protobuf", "sqlalchemy", "structlog", "nodeseal.v1"} & set(done.stdout.split())


# What a round may leave out


def test_a_challenge_names_what_was_judged() -> None:
    assert known_logs(WHOLE.known, WHOLE.policy) == NOTHING_KNOWN
    known = WHOLE.then(WHOLE.appraise()).asked.logs
    assert known.boot_id == CLAIMS.boot_id
    assert known.boot_log_sha256 == SHA256.digest(WHOLE.boot_log or b"")
    assert known.ima_offset == len(WHOLE.ima_log or b"")


def test_a_steady_round_brings_no_logs_and_is_not_judged_again() -> None:
    first = WHOLE.appraise()
    second = WHOLE.then(first)
    evidence = second.evidence(values=False)
    assert (evidence.boot_log, evidence.ima) == (None, None)
    for sent in (evidence, evidence._replace(ima=ImaDelta(offset=second.asked.logs.ima_offset, entries=b""))):
        appraisal = second.appraise(sent)
        assert appraisal.keeps_leases
        assert appraisal.baseline.judgement is first.baseline.judgement
        assert measured_so_far(appraisal) is measured_so_far(first)
        assert booted(appraisal) is booted(first)


def test_values_that_come_again_unchanged_are_not_judged_again() -> None:
    first = WHOLE.appraise()
    assert WHOLE.then(first).appraise().baseline.judgement is first.baseline.judgement


@pytest.mark.parametrize("entries", [b"", b"no entries"])
def test_r02_a_stretch_that_does_not_follow_on_is_found_though_pcr_10_rests_and_is_forgotten_after(
    entries: bytes,
) -> None:
    second = RUNTIME.then(RUNTIME.appraise())
    skipped = second.appraise(second.evidence(values=False)._replace(ima=ImaDelta(offset=7, entries=entries)))
    assert ids(skipped) == [FindingId.IMA_REPLAY]
    third = second.then(skipped)
    assert third.appraise(third.evidence(values=False)).trusted


def test_entries_that_do_not_parse_are_found_though_pcr_10_rests() -> None:
    second = RUNTIME.then(RUNTIME.appraise())
    stretch = ImaDelta(offset=second.asked.logs.ima_offset, entries=b"\xff" * 64)
    assert ids(second.appraise(second.evidence(values=False)._replace(ima=stretch))) == [FindingId.IMA_LOG_MALFORMED]


def test_without_a_quoted_pcr_10_nothing_is_made_of_an_ima_log() -> None:
    unquoted = replace(MACHINE, challenge=MACHINE.challenge._replace(selection=SELECTION))
    appraisal = unquoted.appraise()
    assert appraisal.trusted
    assert measured_so_far(appraisal) is None


def test_logs_are_held_against_goldens_that_serve_the_node_and_no_others() -> None:
    mine, other = WHOLE.policy.goldens[0], replace(WHOLE.policy.goldens[0], name="other", nodes={"pool": "b"})
    both = under(WHOLE, mine, other)
    appraisal = both.appraise()
    boot_state, progress = booted(appraisal), measured_so_far(appraisal)
    assert boot_state is not None
    assert progress is not None
    assert {*boot_state.verdicts} == {*progress.verdicts} == {mine.digest}
    assert both.then(appraisal).asked.logs == WHOLE.then(WHOLE.appraise()).asked.logs


def test_new_entries_come_alone_and_are_judged_with_what_is_known() -> None:
    first = WHOLE.appraise()
    more = WHOLE.then(first).running(ran("/usr/bin/agent", FILES["/usr/bin/agent"]))
    evidence = more.evidence()
    assert evidence.boot_log is None
    assert evidence.ima is not None
    assert evidence.ima.offset == len(WHOLE.ima_log or b"")
    second = more.appraise(evidence)
    assert second.keeps_leases
    assert booted(second) is booted(first)
    bad = more.then(second).running(TOOL)
    assert ids(bad.appraise()) == [FindingId.IMA_UNKNOWN_FILE]


def test_what_ran_once_is_held_against_the_node_until_it_reboots() -> None:
    bad = RUNTIME.running(TOOL)
    later = bad.then(bad.appraise())
    assert ids(later.appraise(later.evidence(values=False))) == [FindingId.IMA_UNKNOWN_FILE]
    after = later.then(later.appraise()).running(ran("/usr/bin/agent", FILES["/usr/bin/agent"]))
    assert ids(after.appraise()) == [FindingId.IMA_UNKNOWN_FILE]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(lambda evidence: evidence._replace(ima=None), id="left out"),
        pytest.param(lambda evidence: evidence._replace(ima=evidence.ima._replace(entries=b"")), id="empty"),
        pytest.param(lambda evidence: evidence._replace(ima=evidence.ima._replace(offset=0)), id="at another place"),
        pytest.param(
            lambda evidence: evidence._replace(ima=ImaDelta(offset=0, entries=WHOLE.ima_log or b"")), id="shrunk"
        ),
    ],
)
def test_r02_entries_that_do_not_come_are_found_and_may_come_later(sent: Callable[[Evidence], Evidence]) -> None:
    first = WHOLE.appraise()
    more = WHOLE.then(first).running(ran("/usr/bin/agent", FILES["/usr/bin/agent"]))
    short = more.appraise(sent(more.evidence()))
    assert ids(short) == [FindingId.IMA_REPLAY]
    assert measured_so_far(short) == measured_so_far(first)
    whole = more.then(short)
    assert whole.appraise(whole.evidence(values=False)).trusted


def test_r04_entries_that_run_ahead_of_the_quote_are_judged_in_the_next_round() -> None:
    ahead = RUNTIME.running(TOOL)
    early = replace(RUNTIME, ima_log=ahead.ima_log).appraise()
    assert early.trusted
    mark = marked(early)
    assert mark is not None
    assert mark.offset == len(RUNTIME.ima_log or b"")
    assert ids(ahead.then(early).appraise()) == [FindingId.IMA_UNKNOWN_FILE]


def test_the_log_is_replayed_even_if_no_golden_judges_what_runs() -> None:
    appraisal = MACHINE.appraise()
    mark = marked(appraisal)
    assert mark is not None
    assert mark.offset == len(MACHINE.ima_log or b"")


@pytest.mark.parametrize("pcr", [0, 7, 8, 9, 11, 12, 13, 14])
def test_a_boot_pcr_that_moves_asks_for_the_boot_log_again(pcr: int) -> None:
    rules = under(MACHINE, replace(golden_of(MACHINE.pcrs, only=range(1, 7)), boot=BootRules(images=IMAGES)))
    first = rules.appraise()
    moved = rules.then(first).extended(pcr)
    open_ = moved.appraise()
    assert open_.logs_required
    assert open_.findings == ()
    assert not open_.trusted
    again = moved.then(open_)
    assert again.asked.logs.boot_log_sha256 == b""
    assert again.asked.logs.ima_offset
    decided = again.appraise(again.evidence(values=False))
    assert decided.trusted is (pcr >= 8)
    missing = again.evidence(values=False)._replace(boot_log=None)
    assert ids(again.appraise(missing)) == [FindingId.UEFI_LOG_MISSING]


@pytest.mark.parametrize("pcr", [10, 15])
def test_other_pcrs_say_nothing_about_the_boot_log(pcr: int) -> None:
    first = BOOT.appraise()
    moved = BOOT.then(first).extended(pcr)
    assert booted(moved.appraise()) is booted(first)


def test_a_boot_pcr_that_moves_matters_to_no_golden_of_other_values() -> None:
    moved = MACHINE.then(MACHINE.appraise()).extended(14)
    appraisal = moved.appraise()
    assert appraisal.keeps_leases
    assert moved.then(appraisal).asked.logs.boot_log_sha256 == b""


# A policy that changes


def newer(round_: Round, appraisal: Appraisal, *goldens: Golden) -> Round:
    """Return the next round, asked under the old policy and judged under the new one."""
    later = round_.then(appraisal)
    return under(replace(later, logs=later.asked.logs), *goldens)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param({"boot": BOOT_RULES}, id="boot rules"),
        pytest.param({"runtime": runtime_rules()}, id="runtime rules"),
    ],
)
def test_a_golden_activated_after_the_challenge_asks_for_logs_and_decides_nothing(rules: dict[str, Any]) -> None:
    golden = replace(exact_golden(MACHINE), name="new", **rules)
    changed = newer(MACHINE, MACHINE.appraise(), golden)
    open_ = changed.appraise(changed.evidence(values=False))
    assert open_.logs_required
    assert open_.continuity is Continuity.CONTINUES
    assert open_.findings == ()
    asked = replace(changed.then(open_), logs=None)
    assert asked.evidence().boot_log is not None
    decided = asked.appraise(asked.evidence(values=False))
    assert decided.keeps_leases
    assert decided.goldens == (golden,)


def test_a_golden_activated_before_the_challenge_gets_the_logs_at_once() -> None:
    golden = replace(WHOLE.policy.goldens[0], name="new")
    changed = under(WHOLE.then(WHOLE.appraise()), golden)
    assert changed.asked.logs.boot_log_sha256 == b""
    assert changed.asked.logs.ima_offset == 0
    assert changed.appraise(changed.evidence(values=False)).keeps_leases


def test_a_golden_that_matches_as_before_waits_for_no_other_golden() -> None:
    stricter = replace(WHOLE.policy.goldens[0], name="stricter", runtime=runtime_rules({"/usr/bin/none": b""}))
    changed = newer(WHOLE, WHOLE.appraise(), *WHOLE.policy.goldens, stricter)
    appraisal = changed.appraise(changed.evidence(values=False))
    assert appraisal.keeps_leases
    assert not appraisal.logs_required
    assert replace(changed.then(appraisal), logs=None).asked.logs.ima_offset == 0


def test_a_retired_golden_counts_no_more() -> None:
    other = replace(WHOLE.policy.goldens[0], name="other", runtime=runtime_rules({"/usr/bin/none": b""}))
    both = under(WHOLE, *WHOLE.policy.goldens, other)
    first = both.appraise()
    assert first.trusted
    retired = under(both.then(first), other)
    appraisal = retired.appraise(retired.evidence(values=False))
    assert not appraisal.logs_required
    assert set(ids(appraisal)) == {FindingId.IMA_UNKNOWN_FILE}


def test_labels_that_change_are_applied_to_a_node_that_does_not() -> None:
    first = WHOLE.appraise()
    moved = replace(WHOLE.then(first), labels={"pool": "b"})
    assert ids(moved.appraise(moved.evidence(values=False))) == [FindingId.GOLDEN_NOT_VALID]


def test_a_node_that_gets_other_labels_is_asked_at_once_for_the_logs_that_its_new_goldens_need() -> None:
    mine, other = WHOLE.policy.goldens[0], replace(WHOLE.policy.goldens[0], name="other", nodes={"pool": "b"})
    both = under(WHOLE, mine, other)
    moved = replace(both.then(both.appraise()), labels={"pool": "b"})
    assert moved.asked.logs._replace(boot_id="") == NOTHING_KNOWN
    assert moved.appraise(moved.evidence(values=False)).keeps_leases


def test_a_tpm_that_says_another_firmware_is_judged_again() -> None:
    old = replace(WHOLE.then(WHOLE.appraise()), firmware=0)
    assert ids(old.appraise(old.evidence(values=False))) == [FindingId.PLATFORM_FIRMWARE]


def test_enrolment_that_proves_something_else_about_the_tpm_is_applied() -> None:
    other = replace(WHOLE.then(WHOLE.appraise()), tpm=TpmFacts(manufacturer="STM"))
    assert ids(other.appraise(other.evidence(values=False))) == [FindingId.PLATFORM_MANUFACTURER]


@pytest.mark.parametrize(
    ("window", "before", "after"),
    [
        pytest.param(Window(end=NOW + SECOND), [], [FindingId.GOLDEN_NOT_VALID], id="that closes"),
        pytest.param(Window(start=NOW + 2 * SECOND), [FindingId.GOLDEN_NOT_VALID], [], id="that opens"),
    ],
)
def test_a_window_ends_a_judgement_though_nothing_else_changes(
    window: Window, before: list[FindingId], after: list[FindingId]
) -> None:
    first_round = judging(MACHINE, boot=BOOT_RULES, runtime=runtime_rules(), valid=window)
    first = first_round.appraise()
    assert ids(first) == before
    second = first_round.then(first)
    assert second.asked.logs.ima_offset
    assert ids(second.appraise(second.evidence(values=False))) == after


def test_a_verifier_whose_clock_went_back_judges_by_the_windows_of_then() -> None:
    first_round = judging(MACHINE, valid=Window(start=NOW))
    first = first_round.appraise()
    assert first.trusted
    earlier = MACHINE.challenge._replace(issued=NOW - 9 * SECOND)
    back = replace(first_round.then(first), challenge=earlier, now=NOW - 8 * SECOND)
    assert ids(back.appraise(back.evidence(values=False))) == [FindingId.GOLDEN_NOT_VALID]


# Reboots and restarts


def test_a_reboot_that_sends_everything_is_judged_at_once() -> None:
    first = WHOLE.appraise()
    info = WHOLE.clock_info
    rebooted = WHOLE.then(first, claims=OTHER_BOOT, clock_info=info._replace(reset_count=9, clock=info.clock + 5000))
    evidence = rebooted.evidence()
    assert evidence.boot_log is not None
    assert evidence.ima is not None
    assert evidence.ima.offset == 0
    appraisal = rebooted.appraise(evidence)
    assert appraisal.continuity is Continuity.REBOOTED
    assert appraisal.trusted
    assert not appraisal.keeps_leases


def test_a_reboot_takes_nothing_over_from_the_boot_before() -> None:
    first = WHOLE.appraise()
    info = WHOLE.clock_info
    rebooted = WHOLE.then(first, claims=OTHER_BOOT, clock_info=info._replace(reset_count=9, clock=info.clock + 5000))
    silent = rebooted.appraise(rebooted.evidence()._replace(boot_log=None, ima=None))
    assert ids(silent) == [FindingId.UEFI_LOG_MISSING, FindingId.IMA_LOG_MISSING]
    assert not silent.logs_required
    assert (booted(silent), measured_so_far(silent), marked(silent)) == (None, None, None)


def test_a_round_that_breaks_continuity_decides_without_logs_that_were_left_out() -> None:
    golden = replace(exact_golden(MACHINE), name="new", boot=BOOT_RULES)
    broken = replace(newer(MACHINE, MACHINE.appraise(), golden), clock_info=MACHINE.clock_info._replace(reset_count=9))
    appraisal = broken.appraise()
    assert FindingId.CLOCK_RESET in ids(appraisal)
    assert not appraisal.logs_required


def test_a_restarted_verifier_takes_entries_before_the_mark_for_as_old_as_they_were() -> None:
    valid = Window(end=NOW + SECOND)
    files = {path: (FileDigest(digest=SHA256.digest(content), valid=valid),) for path, content in FILES.items()}
    first_round = judging(MACHINE, runtime=RuntimeRules(files=files))
    first = first_round.appraise()
    assert first.trusted
    resumed = restarted(first_round, first)
    assert resumed.asked.logs.ima_offset == 0
    assert resumed.appraise().keeps_leases
    forgotten = replace(resumed, baseline=first.baseline._replace(judgement=None, kept=()))
    assert set(ids(forgotten.appraise())) == {FindingId.IMA_EXPIRED_FILE}


def test_a_mark_outlives_rounds_without_logs_but_not_the_boot() -> None:
    resumed = restarted(MACHINE, MACHINE.appraise())
    silent = resumed.evidence()._replace(boot_log=None, ima=None)
    assert resumed.baseline is not None
    assert resumed.baseline.kept_of(ImaMark) is not None
    assert marked(resumed.appraise(silent)) == resumed.baseline.kept_of(ImaMark)
    info = resumed.clock_info._replace(reset_count=9)
    rebooted = replace(resumed, claims=OTHER_BOOT, clock_info=info, boot_log=None, ima_log=None)
    assert marked(rebooted.appraise()) is None


def test_a_restart_keeps_the_mark_up_to_which_the_log_was_good_and_none_after_it() -> None:
    good, later = (ImaMark(offset=offset, aggregates={}, first_at=NOW, last_at=NOW) for offset in (1, 2))
    objected = ima.ImaOutcome(progress=ima.ImaProgress(mark=later, verdicts={}, kept=good))
    assert ima.keep(objected, ()) is good


def test_what_is_new_was_measured_after_the_last_round_that_showed_nothing_new() -> None:
    late = NOW + timedelta(hours=1)
    files = dict(runtime_rules().files) | {
        "/usr/bin/tool": (FileDigest(digest=SHA256.digest(b"tool 1"), valid=Window(end=NOW + timedelta(minutes=30))),)
    }
    first_round = judging(MACHINE, runtime=RuntimeRules(files=files))
    quiet = first_round.then(first_round.appraise())
    quiet = replace(
        quiet, now=late, challenge=quiet.challenge._replace(issued=late - SECOND, answer_by=late + 10 * SECOND)
    )
    between = quiet.appraise(quiet.evidence(values=False))
    assert between.trusted
    assert ids(quiet.then(between).running(TOOL).appraise()) == [FindingId.IMA_EXPIRED_FILE]


def test_an_hour_of_silence_does_not_make_an_entry_newer_than_it_may_be() -> None:
    """What was not asked for may be as old as the last round."""
    start = datetime.max.replace(tzinfo=NOW.tzinfo)
    files = dict(runtime_rules().files) | {
        "/usr/bin/tool": (FileDigest(digest=SHA256.digest(b"tool 1"), valid=Window(start=start)),)
    }
    first_round = judging(MACHINE, runtime=RuntimeRules(files=files))
    assert ids(first_round.then(first_round.appraise()).running(TOOL).appraise()) == [FindingId.IMA_EXPIRED_FILE]


def test_entries_that_were_withheld_may_be_as_old_as_the_last_round_that_showed_none() -> None:
    valid = Window(end=NOW + SECOND)
    files = dict(runtime_rules().files) | {"/usr/bin/tool": (FileDigest(digest=SHA256.digest(b"tool 1"), valid=valid),)}
    first_round = judging(MACHINE, runtime=RuntimeRules(files=files))
    current = first_round.then(first_round.appraise()).running(TOOL)
    for _ in range(3):
        withheld = current.appraise(current.evidence()._replace(ima=None))
        assert ids(withheld) == [FindingId.IMA_REPLAY]
        current = current.then(withheld)
    assert current.appraise().trusted


def test_what_was_proved_of_a_boot_and_its_files_stands_in_a_new_lease_epoch() -> None:
    first = judging(MACHINE, boot=BOOT_RULES, runtime=runtime_rules())
    before = first.appraise()
    after = first.then(before, pcrs={**first.pcrs, 23: b"e" * 32}).appraise()
    assert (before.trusted, after.findings, after.goldens) == (True, (), before.goldens)
    assert (after.keeps_leases, after.values_required, after.logs_required) == (True, False, False)
    assert booted(after) is booted(before)
