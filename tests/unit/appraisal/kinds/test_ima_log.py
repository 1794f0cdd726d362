"""Rounds of an IMA log: what is proved, when it was measured, and what the next round goes on from (r02, r04)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nodeseal.appraisal.kinds import ima_log, ima_proof
from nodeseal.appraisal.kinds.ima_log import ImaRound, ImaVerdict, compile_runtime, judge_ima
from nodeseal.appraisal.kinds.ima_proof import LogPart, ReplayPlan, ReplayProof, unlisted_entries
from nodeseal.appraisal.kinds.ima_rules import CompiledRuntime
from nodeseal.evidence.logs import MAX_IMA_DELTA, ImaDelta
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import FileDigest, RuntimeRules, Window
from nodeseal.ima.log import ENTRY_HEADERS, ImaEntry, replay_ima, template_hash
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.quotes import quoted_pcrs
from support.runtime import (
    AGGREGATE,
    BEGINNING,
    BOOT_PCRS,
    SHA256,
    Scene,
    at,
    content,
    golden_of,
    ids,
    listing,
    listing_of,
    quote_of,
    ran,
)

SH, LS, CAT = ran("/usr/bin/sh"), ran("/usr/bin/ls"), ran("/usr/bin/cat")
KNOWN = listing("/usr/bin/sh", "/usr/bin/ls", "/usr/bin/cat")
CLEAN = ImaVerdict()
REPLAY = [FindingId.IMA_REPLAY]


def started(*entries: ImaEntry) -> Scene:
    """Return a machine whose log was judged once, at minute 0, and is good."""
    scene = Scene((KNOWN,))
    assert scene.round(0, *(entries or (SH,))).findings == ()
    assert scene.verdict() == CLEAN
    return scene


def version(text: str, start: int | None = None, end: int | None = None) -> FileDigest:
    window = Window(start=None if start is None else at(start), end=None if end is None else at(end))
    return FileDigest(digest=content(text), valid=window)


# What is proved


def test_a_whole_log_that_replays_to_the_quote_is_proved() -> None:
    scene = started(SH, LS)
    assert scene.progress is not None
    assert scene.progress.mark.offset == len(ima.log(scene.entries))
    assert scene.progress.mark.aggregates == {SHA256: replay_ima(scene.entries, SHA256)}
    assert (scene.progress.mark.first_at, scene.progress.mark.last_at) == (at(0), at(0))


def test_the_next_round_needs_only_what_is_new() -> None:
    scene = started()
    before = scene.progress
    assert scene.round(1, LS).findings == ()
    assert scene.verdict() == CLEAN
    assert scene.progress is not None
    assert (scene.progress.mark.first_at, scene.progress.mark.last_at) == (at(0), at(1))
    assert before is not None
    assert before.mark.offset < scene.progress.mark.offset


@pytest.mark.parametrize("log", [None, b""], ids=["no delta", "an empty delta"])
def test_nothing_new_is_fine_while_the_pcr_stands(log: bytes | None) -> None:
    scene = started()
    offset = len(ima.log(scene.entries))
    assert scene.send(1, log, offset).findings == ()
    assert scene.progress is not None
    assert scene.progress.mark.offset == offset
    assert scene.progress.mark.last_at == at(1)


def test_nothing_new_is_refused_when_the_pcr_has_moved() -> None:
    scene = started()
    outcome = scene.send(1, None, pcrs=quote_of((*scene.entries, LS)))
    assert ids(outcome.findings) == REPLAY


def test_r04_a_log_ahead_of_the_quote_is_proved_up_to_it_and_the_rest_comes_next_round() -> None:
    scene = Scene((KNOWN,))
    outcome = scene.round(0, SH, ahead=(ran("/opt/evil"),))
    assert outcome.findings == ()
    assert scene.verdict() == CLEAN
    assert scene.progress is not None
    assert scene.progress.mark.offset == len(ima.log((BEGINNING, SH)))
    assert scene.round(1, ran("/opt/evil")).findings == ()
    assert ids(scene.verdict().findings) == [FindingId.IMA_UNKNOWN_FILE]


def test_r04_a_delta_that_is_all_ahead_of_the_quote_proves_nothing_new() -> None:
    scene = started()
    known = scene.progress
    assert scene.round(1, ahead=(LS, CAT)).findings == ()
    assert known is not None
    assert scene.progress is not None
    assert scene.progress.mark == replace(known.mark, last_at=at(1))
    assert scene.progress.verdicts == known.verdicts


GOOD = (BEGINNING, SH, LS, CAT)
FORGED = {
    "an entry is missing": (BEGINNING, SH, CAT),
    "the last entry is missing": GOOD[:-1],
    "an entry was added": (BEGINNING, SH, LS, LS, CAT),
    "an entry was added in front": (SH, *GOOD),
    "two entries changed places": (BEGINNING, LS, SH, CAT),
    "an entry says something else": (BEGINNING, SH, ran("/usr/bin/ls", "other"), CAT),
    "an entry became a violation": (BEGINNING, SH, LS._replace(template_digest=bytes(20)), CAT),
    "an entry moved to another PCR": (BEGINNING, SH, LS._replace(pcr=11), CAT),
    "there is no entry": (),
}


@pytest.mark.parametrize("entries", [GOOD[1:], GOOD[2:]])
def test_r02_a_trimmed_log_proves_nothing_and_is_told_from_one_that_was_changed(
    entries: tuple[ImaEntry, ...],
) -> None:
    outcome = Scene((KNOWN,)).send(0, ima.log(entries), pcrs=quote_of(GOOD))
    assert ids(outcome.findings) == [FindingId.IMA_TRIMMED]
    assert outcome.progress is None


@pytest.mark.parametrize("entries", FORGED.values(), ids=FORGED)
def test_r02_a_log_that_does_not_replay_proves_nothing(entries: tuple[ImaEntry, ...]) -> None:
    scene = Scene((KNOWN,))
    assert scene.send(0, ima.log(GOOD), pcrs=quote_of(GOOD)).findings == ()
    scene = Scene((KNOWN,))
    outcome = scene.send(0, ima.log(entries), pcrs=quote_of(GOOD))
    assert ids(outcome.findings) == REPLAY
    assert outcome.progress is None


@pytest.mark.parametrize("entries", [e for e in FORGED.values() if e[:2] == GOOD[:2]])
def test_r02_a_delta_that_does_not_replay_leaves_progress_untouched(entries: tuple[ImaEntry, ...]) -> None:
    scene = started()
    known, start = scene.progress, len(ima.log(GOOD[:2]))
    outcome = scene.send(1, ima.log(entries)[start:], start, pcrs=quote_of(GOOD))
    assert ids(outcome.findings) == REPLAY
    assert outcome.progress is known
    assert scene.send(2, ima.log(GOOD)[start:], start, pcrs=quote_of(GOOD)).findings == ()


def test_a_refusal_says_how_many_entries_replayed_from_where_to_what() -> None:
    (finding,) = Scene((KNOWN,)).send(0, ima.log(GOOD[:3]), pcrs=quote_of(GOOD)).findings
    assert finding.where == "sha256 PCR 10"
    assert replay_ima(GOOD, SHA256).hex() in finding.expected
    assert replay_ima(GOOD[:3], SHA256).hex() in finding.seen
    assert "3 entries from byte 0 on" in finding.seen


def test_a_bank_that_an_old_kernel_extended_with_sha1_is_refused_and_named() -> None:
    value, entries = bytes(32), (BEGINNING, ima.violation(b"/x"), SH)
    for entry in entries:
        value = SHA256.digest(value + template_hash(entry, HashAlg.SHA1) + bytes(12))
    log = ima.log((*entries, LS, LS._replace(pcr=11)))
    (finding,) = Scene((KNOWN,)).send(0, log, pcrs=quoted_pcrs({SHA256: {**BOOT_PCRS, 10: value}})).findings
    assert finding.id is FindingId.IMA_REPLAY
    assert "as Linux before 5.8" in finding.seen
    (finding,) = Scene((KNOWN,)).send(0, log, pcrs=quoted_pcrs({SHA256: {**BOOT_PCRS, 10: content("x")}})).findings
    assert "Linux" not in finding.seen


def test_r02_a_delta_that_skips_entries_is_refused() -> None:
    scene = started()
    start = len(ima.log(scene.entries))
    outcome = scene.send(1, ima.log([CAT]), start + len(ima.log([LS])), pcrs=quote_of((*scene.entries, LS, CAT)))
    assert ids(outcome.findings) == REPLAY


@pytest.mark.parametrize("off_by", [-1, 1])
def test_r02_a_delta_must_say_where_it_really_begins(off_by: int) -> None:
    scene = started()
    start = len(ima.log(scene.entries))
    pcrs = quote_of((*scene.entries, LS))
    assert ids(scene.send(1, ima.log([LS]), start + off_by, pcrs).findings) == REPLAY
    assert scene.send(2, ima.log([LS]), start, pcrs).findings == ()


def test_a_whole_log_must_not_say_that_it_is_a_part() -> None:
    scene = Scene((KNOWN,))
    assert ids(scene.send(0, ima.log((BEGINNING, SH)), 1, quote_of((BEGINNING, SH))).findings) == REPLAY
    assert scene.send(1, ima.log((BEGINNING, SH)), 0, quote_of((BEGINNING, SH))).findings == ()


def test_a_delta_of_a_node_that_is_not_known_must_begin_at_the_beginning() -> None:
    outcome = Scene((KNOWN,)).send(0, ima.log([SH]), len(ima.log([BEGINNING])), pcrs=quote_of([BEGINNING, SH]))
    assert ids(outcome.findings) == REPLAY
    assert outcome.progress is None


@pytest.mark.parametrize("forget", [False, True], ids=["in one life of the verifier", "after its restart"])
def test_r02_a_log_that_is_shorter_than_last_time_is_refused(*, forget: bool) -> None:
    scene = started(SH, LS)
    if forget:
        scene.restart_verifier()
    shorter = (BEGINNING, SH)
    assert ids(scene.send(1, ima.log(shorter), pcrs=quote_of(shorter)).findings) == REPLAY


@pytest.mark.parametrize("forget", [False, True], ids=["in one life of the verifier", "after its restart"])
def test_r02_a_whole_log_must_pass_through_what_was_proved_before(*, forget: bool) -> None:
    scene = started(SH)
    scene.mark = scene.mark if forget else None
    if forget:
        scene.restart_verifier()
    other = (BEGINNING, LS, CAT)
    outcome = scene.send(1, ima.log(other), pcrs=quote_of(other))
    assert ids(outcome.findings) == REPLAY
    assert scene.round(2, LS, whole=True).findings == ()


def test_r02_a_whole_log_must_have_an_entry_end_where_the_mark_is() -> None:
    scene = started(SH)
    other = (BEGINNING, ran("/usr/bin/a-longer-path"), CAT)
    assert ids(scene.send(1, ima.log(other), pcrs=quote_of(other)).findings) == REPLAY


def test_a_quote_older_than_what_was_proved_is_refused() -> None:
    scene = started(SH, LS)
    outcome = scene.send(1, ima.log(scene.entries), pcrs=quote_of((BEGINNING, SH)))
    assert ids(outcome.findings) == REPLAY


def test_every_quoted_bank_must_be_met() -> None:
    entries = (BEGINNING, SH)
    for bank in (HashAlg.SHA1, HashAlg.SHA384):
        good = quote_of(entries, bank)
        scene = Scene((KNOWN,))
        assert scene.send(0, ima.log(entries), pcrs=good).findings == ()
        assert scene.progress is not None
        assert scene.progress.mark.aggregates == {SHA256: good.get(SHA256, 10), bank: good.get(bank, 10)}
        assert scene.send(1, ima.log([LS]), len(ima.log(entries)), quote_of((*entries, LS), bank)).findings == ()
        values = {SHA256: {**BOOT_PCRS, 10: replay_ima(entries, SHA256)}, bank: {10: bytes(bank.digest_size)}}
        assert ids(Scene((KNOWN,)).send(0, ima.log(entries), pcrs=quoted_pcrs(values)).findings) == REPLAY


@pytest.mark.parametrize("quoted", [{4: b"4" * 32}, None], ids=["another PCR", "SHA-1 only"])
def test_without_a_strong_quote_of_pcr_10_nothing_is_proved(quoted: dict[int, bytes] | None) -> None:
    entries = (BEGINNING, SH)
    weak = {HashAlg.SHA1: {10: replay_ima(entries, HashAlg.SHA1)}}
    pcrs = quoted_pcrs({SHA256: quoted} if quoted else weak)
    assert ids(Scene((KNOWN,)).send(0, ima.log(entries), pcrs=pcrs).findings) == REPLAY


@pytest.mark.parametrize("width", list(HashAlg))
def test_the_file_may_be_of_any_bank_since_digests_are_made_from_the_data(width: HashAlg) -> None:
    entries = tuple(entry._replace(template_digest=b"\1" * width.digest_size) for entry in (BEGINNING, SH))
    delta = ImaDelta(offset=0, entries=ima.log(entries), bank=width)
    outcome = judge_ima(
        ImaRound(delta=delta, pcrs=quote_of((BEGINNING, SH)), goldens=[compile_runtime(KNOWN)], now=at(0))
    )
    assert outcome.findings == ()
    assert outcome.progress is not None
    assert outcome.progress.verdicts == {KNOWN.digest: CLEAN}


def test_no_log_is_a_finding() -> None:
    outcome = Scene((KNOWN,)).send(0, None)
    assert ids(outcome.findings) == [FindingId.IMA_LOG_MISSING]
    assert outcome.progress is None


def test_a_pcr_that_nothing_was_measured_into_is_as_good_as_no_log() -> None:
    empty = quoted_pcrs({SHA256: {**BOOT_PCRS, 10: bytes(32)}})
    for log in (b"", ima.log([SH])):
        outcome = Scene((KNOWN,)).send(0, log, pcrs=empty)
        assert ids(outcome.findings) == [FindingId.IMA_LOG_MISSING]
        assert outcome.progress is None


@pytest.mark.parametrize("cut", range(1, len(ima.log([SH]))))
def test_a_log_that_is_cut_off_is_malformed_and_proves_nothing(cut: int) -> None:
    outcome = Scene((KNOWN,)).send(0, ima.log((BEGINNING, SH))[:-cut], pcrs=quote_of((BEGINNING, SH)))
    assert ids(outcome.findings) == [FindingId.IMA_LOG_MALFORMED]
    assert outcome.progress is None


def test_more_bytes_than_a_round_may_bring_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ima.log(GOOD)) <= MAX_IMA_DELTA
    monkeypatch.setattr(ima_proof, "MAX_IMA_DELTA", len(ima.log(GOOD)) - 1)
    outcome = Scene((KNOWN,)).send(0, ima.log(GOOD), pcrs=quote_of(GOOD))
    assert ids(outcome.findings) == [FindingId.IMA_LOG_MALFORMED]


@pytest.mark.parametrize("known", [0, 2])
def test_a_log_that_is_cut_off_where_a_round_brings_no_more_is_called_too_long(
    known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent sends whole entries only, so it may stop anywhere within the largest entry of the limit."""
    scene = Scene((KNOWN,), entries=GOOD[:known])
    if known:
        assert scene.round(0).findings == ()
    start, cut = len(ima.log(GOOD[:known])), ima.log(GOOD[:-1])
    for longest, found in ((0, FindingId.IMA_LOG_TOO_LONG), (1, FindingId.IMA_REPLAY)):
        monkeypatch.setattr(ima_proof, "_LONGEST", len(cut) - start - 1 + longest)
        assert ids(scene.send(1, cut[start:], start, pcrs=quote_of(GOOD)).findings) == [found]


def test_why_a_long_log_does_not_replay_is_not_found_out_entry_by_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = ima.log(GOOD[:-1])
    monkeypatch.setattr(ima_proof, "_EXPLAINED", len(cut) - 1)
    (finding,) = Scene((KNOWN,)).send(0, cut, pcrs=quote_of(GOOD)).findings
    assert f"({len(cut)} bytes from byte 0 on)" in finding.seen


@pytest.mark.parametrize("where", ["name", "data"])
def test_a_huge_size_is_refused(where: str) -> None:
    raw, at_byte = bytearray(ima.log([SH])), ENTRY_HEADERS[HashAlg.SHA1].size - 4
    at_byte += 4 + len("ima-ng") if where == "data" else 0
    raw[at_byte : at_byte + 4] = b"\xff" * 4
    outcome = Scene((KNOWN,)).send(0, ima.log([BEGINNING]) + raw, pcrs=quote_of((BEGINNING, SH)))
    assert ids(outcome.findings) == [FindingId.IMA_LOG_MALFORMED]


# How the log begins


def test_the_first_entry_must_be_the_aggregate_of_the_quoted_boot_pcrs() -> None:
    wrong = {
        "of other values": ima.entry("ima-ng", replace(AGGREGATE, digest=content("other"))),
        "missing": SH,
        "a violation": BEGINNING._replace(template_digest=bytes(20)),
        "unreadable": ima.entry("n", AGGREGATE),
        "in another PCR": BEGINNING._replace(pcr=11),
    }
    for entry in wrong.values():
        entries = (entry, SH)
        outcome = Scene((KNOWN,)).send(0, ima.log(entries), pcrs=quote_of(entries))
        assert ids(outcome.findings) == [FindingId.IMA_BOOT_AGGREGATE]


def test_a_wrong_beginning_is_found_in_every_round_of_the_boot() -> None:
    scene = Scene((KNOWN,), entries=(SH,))
    assert ids(scene.round(0).findings) == [FindingId.IMA_BOOT_AGGREGATE]
    assert ids(scene.round(1, LS).findings) == [FindingId.IMA_BOOT_AGGREGATE]
    assert ids(scene.round(2, whole=True).findings) == [FindingId.IMA_BOOT_AGGREGATE]
    assert ids(scene.send(3, b"", 7).findings) == [FindingId.IMA_BOOT_AGGREGATE, FindingId.IMA_REPLAY]


def test_an_aggregate_of_boot_pcrs_that_are_not_quoted_is_refused() -> None:
    entries = (BEGINNING, SH)
    pcrs = quoted_pcrs({SHA256: {10: replay_ima(entries, SHA256)}})
    assert ids(Scene((KNOWN,)).send(0, ima.log(entries), pcrs=pcrs).findings) == [FindingId.IMA_BOOT_AGGREGATE]


def test_an_aggregate_in_a_bank_that_is_not_quoted_passes_as_first_entry_only() -> None:
    sha1 = ima.entry("ima-ng", replace(AGGREGATE, algorithm="sha1", digest=b"1" * 20))
    scene = Scene((KNOWN,), entries=(sha1,))
    assert scene.round(0).findings == ()
    assert scene.verdict() == CLEAN
    scene.round(1, sha1)
    assert ids(scene.verdict().findings) == [FindingId.IMA_CARRIED]


def test_an_aggregate_in_a_weak_bank_that_is_quoted_must_be_right() -> None:
    values = {index: bytes([index + 1]) * 20 for index in range(8)}
    for digest, found in (
        (HashAlg.SHA1.digest(b"".join(values.values())), []),
        (b"1" * 20, [FindingId.IMA_BOOT_AGGREGATE]),
    ):
        entries = (ima.entry("ima-ng", replace(AGGREGATE, algorithm="sha1", digest=digest)),)
        pcr10 = {bank: replay_ima(entries, bank) for bank in (HashAlg.SHA1, SHA256)}
        pcrs = quoted_pcrs({HashAlg.SHA1: {**values, 10: pcr10[HashAlg.SHA1]}, SHA256: {10: pcr10[SHA256]}})
        assert ids(Scene((KNOWN,)).send(0, ima.log(entries), pcrs=pcrs).findings) == found


def test_a_kernel_started_by_kexec_may_measure_the_same_aggregate_again() -> None:
    scene = started(SH, BEGINNING, LS)
    scene.round(1, BEGINNING)
    assert scene.verdict() == CLEAN
    scene.round(2, ima.entry("ima-ng", replace(AGGREGATE, digest=content("other"))))
    assert ids(scene.verdict().findings) == [FindingId.IMA_CARRIED]


# What goldens object to


def test_what_a_golden_objects_to_stays_for_the_boot() -> None:
    scene = started()
    scene.round(1, ran("/opt/evil"))
    found = scene.verdict()
    assert ids(found.findings) == [FindingId.IMA_UNKNOWN_FILE]
    scene.round(2, LS)
    assert scene.verdict() == found
    scene.round(3, whole=True)
    assert scene.verdict() == found


def test_a_finding_names_the_entry_by_its_place_in_the_whole_log() -> None:
    scene = started()
    place = len(ima.log(scene.entries))
    scene.round(1, ran("/opt/evil"))
    assert scene.verdict().findings[0].event == f"IMA entry at byte {place}, template ima-ng, PCR 10"


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    scene = started()
    scene.round(1, *(ran(f"/opt/{number}") for number in range(99)))
    assert (len(scene.verdict().findings), scene.verdict().more) == (99, 0)
    scene.round(2, *(ran(f"/opt/{number}") for number in range(99, 103)))
    assert (len(scene.verdict().findings), scene.verdict().more) == (100, 3)


def test_what_ran_after_very_many_objections_is_not_judged_or_even_decoded_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = list[int]()

    def noted(plan: ReplayPlan, proof: ReplayProof) -> Iterator[tuple[LogPart, int, ImaEntry]]:
        for each in unlisted_entries(plan, proof):
            decoded.append(each[1])
            yield each

    monkeypatch.setattr(ima_log, "unlisted_entries", noted)
    monkeypatch.setattr(ima_log, "MAX_COUNTED", 3)
    scene = Scene((KNOWN,))
    scene.round(0, *(ran(f"/opt/{number}") for number in range(200)))
    scene.round(1, ran("/opt/more"))
    assert (len(scene.verdict().findings), scene.verdict().more) == (100, 3)
    assert len(decoded) == 1 + 100 + 3


def test_an_entry_that_comes_again_in_a_round_is_judged_once_and_counts_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged, judge = list[ImaEntry](), CompiledRuntime.judge

    def noted(golden: CompiledRuntime, entry: ImaEntry, *rest: Any) -> Finding | None:
        judged.append(entry)
        return judge(golden, entry, *rest)

    monkeypatch.setattr(CompiledRuntime, "judge", noted)
    scene, evil, other, violation = Scene((KNOWN,)), ran("/opt/evil"), ran("/opt/evil", "other"), ima.violation(b"/x")
    elsewhere = [evil._replace(pcr=11, template_digest=bytes([number]) * 20) for number in (1, 2, 3)]
    scene.round(0, evil, *elsewhere, violation, other, *elsewhere)
    assert [entry.data for entry in judged] == [evil.data, violation.data, other.data]
    assert len(scene.verdict().findings) == 9
    assert len({finding.event for finding in scene.verdict().findings}) == 9
    scene.round(1, evil._replace(pcr=11))
    assert len(judged) == 4


def test_the_same_data_is_judged_by_itself_as_a_violation_and_under_another_template() -> None:
    scene = Scene((KNOWN,))
    scene.round(0, SH, SH._replace(template_digest=bytes(20)), SH._replace(template="ima-buf"))
    assert ids(scene.verdict().findings) == [FindingId.IMA_VIOLATION, FindingId.IMA_TEMPLATE]


def test_each_golden_has_a_verdict_of_its_own() -> None:
    other = listing("/usr/bin/sh", "/usr/bin/other")
    scene = Scene((KNOWN, other))
    scene.round(0, SH, LS)
    assert scene.verdict(KNOWN) == CLEAN
    assert [finding.where for finding in scene.verdict(other).findings] == ["/usr/bin/ls, golden good"]
    scene.goldens = (other, KNOWN)
    scene.round(1, ran("/usr/bin/other"))
    assert ids(scene.verdict(KNOWN).findings) == [FindingId.IMA_UNKNOWN_FILE]
    assert len(scene.verdict(other).findings) == 1


def test_a_golden_that_is_new_has_no_verdict_until_the_whole_log_comes() -> None:
    scene = started()
    new = listing("/usr/bin/ls")
    scene.goldens = (KNOWN, new)
    scene.round(1, LS)
    assert scene.progress is not None
    assert scene.progress.verdicts == {KNOWN.digest: CLEAN}
    scene.round(2, whole=True)
    assert scene.verdict(KNOWN) == CLEAN
    assert [finding.where for finding in scene.verdict(new).findings] == ["/usr/bin/sh, golden good"]


def test_retiring_a_golden_needs_no_log() -> None:
    other = listing("/usr/bin/sh", "/usr/bin/ls")
    scene = Scene((KNOWN, other))
    scene.round(0, SH)
    scene.goldens = (other,)
    scene.round(1, LS)
    assert scene.progress is not None
    assert scene.progress.verdicts == {other.digest: CLEAN}


def test_entries_of_other_pcrs_are_judged_by_the_same_rules() -> None:
    scene = started(SH, LS._replace(pcr=11))
    scene.round(1, ran("/opt/evil")._replace(pcr=11), CAT)
    assert scene.verdict().findings[0].event.endswith("PCR 11")
    scene.round(2, ran("/opt/last")._replace(pcr=11))
    assert len(scene.verdict().findings) == 2


def test_a_golden_is_compiled_once_for_all_nodes() -> None:
    assert compile_runtime(KNOWN) is compile_runtime(listing("/usr/bin/sh", "/usr/bin/ls", "/usr/bin/cat"))
    with pytest.raises(ValueError, match="no runtime rules"):
        compile_runtime(replace(KNOWN, runtime=None))


# When entries were measured


def test_in_the_first_round_everything_counts_as_measured_now() -> None:
    for minutes, found in ((9, []), (10, []), (11, [FindingId.IMA_EXPIRED_FILE])):
        scene = Scene((golden_of(RuntimeRules(files={"/usr/bin/tool": (version("old", end=10),)})),))
        scene.round(minutes, ran("/usr/bin/tool", "old"))
        assert ids(scene.verdict().findings) == found


def test_a_new_entry_counts_as_measured_since_the_last_round() -> None:
    tool = golden_of(RuntimeRules(files={"/usr/bin/tool": (version("old", end=10),)}))
    for before, found in ((10, []), (11, [FindingId.IMA_EXPIRED_FILE])):
        scene = Scene((tool,))
        scene.round(before)
        scene.round(20, ran("/usr/bin/tool", "old"))
        assert ids(scene.verdict().findings) == found


def test_a_new_entry_counts_as_measured_since_the_last_quote_that_did_not_show_it() -> None:
    tool = golden_of(RuntimeRules(files={"/usr/bin/tool": (version("old", end=10),)}))
    for since, found in ((10, []), (11, [FindingId.IMA_EXPIRED_FILE])):
        scene = Scene((tool,))
        scene.round(0)
        entries = (BEGINNING, ran("/usr/bin/tool", "old"))
        delta = ImaDelta(offset=len(ima.log(entries[:1])), entries=ima.log(entries[1:]))
        judging = [compile_runtime(tool)]
        outcome = judge_ima(
            ImaRound(
                delta=delta,
                progress=scene.progress,
                pcrs=quote_of(entries),
                goldens=judging,
                now=at(20),
                settled_at=at(since),
            )
        )
        assert outcome.progress is not None
        assert ids(outcome.progress.verdicts[tool.digest].findings) == found


def test_a_file_measured_before_its_time_is_refused() -> None:
    scene = Scene((golden_of(RuntimeRules(files={"/usr/bin/tool": (version("new", start=10),)})),))
    scene.round(0)
    scene.round(9, ran("/usr/bin/tool", "new"))
    (finding,) = scene.verdict().findings
    assert finding.id is FindingId.IMA_EXPIRED_FILE
    assert at(10).isoformat() in finding.expected
    assert f"measured between {at(0).isoformat()} and {at(9).isoformat()}" in finding.seen


ROLLOUT = golden_of(
    RuntimeRules(
        files={"/usr/bin/tool": (version("old", end=30), version("new", start=10)), "/usr/bin/sh": (version("good"),)}
    )
)


def rolled_out() -> Scene:
    """Return a node that ran the old version at minute 5 and was updated at minute 20."""
    scene = Scene((ROLLOUT,))
    for minutes, entries in ((0, (SH,)), (5, (ran("/usr/bin/tool", "old"),)), (20, (ran("/usr/bin/tool", "new"),))):
        scene.round(minutes, *entries)
        assert scene.verdict() == CLEAN
    return scene


def test_a_package_update_on_a_running_node_keeps_it_good_after_the_old_version_has_ended() -> None:
    scene = rolled_out()
    scene.round(40, ran("/usr/bin/sh"))
    assert scene.verdict() == CLEAN


def test_after_a_restart_of_the_verifier_what_ran_before_the_mark_counts_as_measured_then() -> None:
    scene = rolled_out()
    scene.restart_verifier()
    assert scene.round(50).findings == ()
    assert scene.verdict() == CLEAN
    assert scene.mark is not None
    assert (scene.mark.first_at, scene.mark.last_at) == (at(0), at(50))


def test_after_a_restart_of_the_verifier_what_ran_behind_the_mark_counts_as_measured_since() -> None:
    scene = rolled_out()
    scene.restart_verifier()
    assert scene.mark is not None
    scene.mark = replace(scene.mark, last_at=at(31))
    scene.round(50, ran("/usr/bin/tool", "old"))
    assert ids(scene.verdict().findings) == [FindingId.IMA_EXPIRED_FILE]


def test_a_restart_of_the_verifier_excuses_nothing() -> None:
    scene = rolled_out()
    scene.round(31)
    good = scene.mark
    for minutes in (32, 33):
        scene.round(minutes, ran("/usr/bin/tool", "old"))
        assert ids(scene.verdict().findings)[:1] == [FindingId.IMA_EXPIRED_FILE]
        assert scene.mark == good
    for minutes in (50, 51):
        scene.restart_verifier()
        scene.round(minutes)
        assert ids(scene.verdict().findings) == [FindingId.IMA_EXPIRED_FILE] * 2
        assert scene.mark == good


def test_a_mark_is_kept_while_one_golden_or_none_at_all_objects_to_nothing() -> None:
    scene = Scene((listing("/usr/bin/other"), KNOWN))
    for minutes in (0, 1):
        scene.round(minutes, SH)
        assert scene.progress is not None
        assert scene.mark == scene.progress.mark
        scene.goldens = ()
    wrong = Scene((KNOWN,), entries=(SH,))
    wrong.round(0)
    assert wrong.mark is None


def test_a_fresh_boot_that_runs_the_old_version_after_its_time_is_refused() -> None:
    scene = Scene((ROLLOUT,))
    scene.round(31, SH, ran("/usr/bin/tool", "old"))
    assert ids(scene.verdict().findings) == [FindingId.IMA_EXPIRED_FILE]


def test_a_golden_activated_later_judges_old_entries_by_when_they_were_measured() -> None:
    scene = started()
    scene.round(5, ran("/usr/bin/cat"))
    late = golden_of(RuntimeRules(files={path: (version("good", end=5),) for path in ("/usr/bin/sh", "/usr/bin/cat")}))
    scene.goldens = (KNOWN, late)
    scene.round(60, whole=True)
    assert scene.verdict(late) == CLEAN
    scene.round(61, ran("/usr/bin/sh"))
    assert ids(scene.verdict(late).findings) == [FindingId.IMA_EXPIRED_FILE]


def test_sending_the_whole_log_again_washes_nothing_off() -> None:
    scene = Scene((ROLLOUT,))
    scene.round(0, SH)
    scene.round(31)
    scene.round(32, ran("/usr/bin/tool", "old"))
    found = scene.verdict()
    assert ids(found.findings) == [FindingId.IMA_EXPIRED_FILE]
    scene.round(33, whole=True)
    assert scene.verdict() == found


def test_a_mark_in_banks_that_are_not_quoted_any_more_proves_nothing_about_time() -> None:
    scene = rolled_out()
    scene.restart_verifier()
    assert scene.mark is not None
    scene.mark = replace(scene.mark, aggregates={HashAlg.SHA512: b"5" * 64})
    assert scene.round(50).findings == ()
    assert ids(scene.verdict().findings) == [FindingId.IMA_EXPIRED_FILE]


def test_a_captured_list_allows_what_it_was_made_from() -> None:
    entries = (BEGINNING, SH, ima.violation(b"/var/log/x"), ran("/with space\n"))
    scene = Scene((listing_of(entries),), entries=entries)
    assert scene.round(0).findings == ()
    assert scene.verdict() == CLEAN
