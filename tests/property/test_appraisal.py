"""Appraisal under arbitrary input: what must hold whatever a node sends and whatever goldens say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.appraisal.model import Baseline, Continuity, Policy
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.golden.difference import diff_goldens
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image
from nodeseal.ima.log import ima_entries
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.uefi.event_log import decode_event_log, replay
from support.rounds import CLAIMS, FILES, PCRS, SELECTION, SHA256, Round, exact_golden, measured, ran, runtime_rules

GOOD = Round()
EVIDENCE = GOOD.evidence()
SENT = (*PCRS.values(),)[:15]
FIELDS = ("claims", "attest", "signature")

values = st.sampled_from([bytes(32), b"\xff" * 32, b"a" * 32, b"b" * 32])
pcrs = st.fixed_dictionaries({index: values for _, index in SELECTION.indices()})
pinned = st.dictionaries(
    st.sampled_from([*range(10), *range(11, 15), 17]),
    st.frozensets(values, min_size=1),
    min_size=1,
    max_size=4,
)
goldens = st.builds(
    lambda name, rows: Golden(name=name, pcrs={SHA256: {4: frozenset({bytes(32)}), **rows}}),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True),
    pinned,
)
clocks = st.builds(
    ClockInfo,
    clock=st.integers(0, 2**64 - 1),
    reset_count=st.integers(0, 3),
    restart_count=st.integers(0, 3),
    safe=st.booleans(),
)
boots = st.sampled_from(["boot-1", "boot-2"])


def changed(field: str, raw: bytes) -> Evidence:
    change: dict[str, Any] = {field: raw}
    return EVIDENCE._replace(**change)


@given(st.sampled_from(FIELDS), st.data())
def test_no_changed_bit_of_evidence_is_accepted(field: str, data: st.DataObject) -> None:
    raw = bytearray(getattr(EVIDENCE, field))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((ProofFailed, MalformedInput)):
        GOOD.appraise(changed(field, bytes(raw)))


@given(st.sampled_from(FIELDS), st.binary(max_size=300))
def test_no_other_bytes_are_accepted(field: str, raw: bytes) -> None:
    with pytest.raises((ProofFailed, MalformedInput)):
        GOOD.appraise(changed(field, raw))


@given(st.lists(st.one_of(st.sampled_from(SENT), st.binary(max_size=40)), max_size=20).map(tuple))
def test_no_other_values_are_accepted(sent: tuple[bytes, ...]) -> None:
    if sent != EVIDENCE.pcr_values:
        with pytest.raises(ProofFailed):
            GOOD.appraise(EVIDENCE._replace(pcr_values=sent))


@given(pcrs, st.lists(goldens, max_size=3).map(tuple))
def test_a_node_is_trusted_only_if_a_golden_matches_whole_and_nothing_forbids_it(
    seen: dict[int, bytes], active: tuple[Golden, ...]
) -> None:
    round_ = replace(GOOD, pcrs=seen, policy=Policy(goldens=active, trust_seconds=60))
    matches = any(all(seen.get(index) in allowed for _, index, allowed in golden.rows()) for golden in active)
    measured = all(seen[index] not in (bytes(32), b"\xff" * 32) for index in range(8))
    appraisal = round_.appraise()
    assert appraisal.trusted is (matches and measured)
    assert bool(appraisal.findings) is not appraisal.trusted


@given(clocks, boots, clocks, boots)
def test_leases_run_on_only_in_the_same_boot_with_counters_that_stand_and_a_clock_that_does_not_go_back(
    before: ClockInfo, boot: str, seen: ClockInfo, next_boot: str
) -> None:
    baseline = Baseline(clock_info=before, boot_id=boot)
    claims = replace(CLAIMS, boot_id=next_boot)
    appraisal = replace(GOOD, baseline=baseline, clock_info=seen, claims=claims).appraise()
    if appraisal.keeps_leases:
        assert boot == next_boot
        assert (before.reset_count, before.restart_count) == (seen.reset_count, seen.restart_count)
        assert before.clock <= seen.clock
    if appraisal.continuity is Continuity.BROKEN:
        assert not appraisal.trusted
        assert appraisal.baseline is baseline
    else:
        assert appraisal.baseline.clock_info == seen


@given(st.lists(st.tuples(clocks, boots), max_size=6))
def test_the_baseline_never_goes_back_in_one_boot(rounds: list[tuple[ClockInfo, str]]) -> None:
    current = replace(GOOD, claims=replace(CLAIMS, boot_id="boot-1"))
    appraisal = current.appraise()
    for clock_info, boot in rounds:
        before = appraisal.baseline
        current = current.then(appraisal, clock_info=clock_info, claims=replace(CLAIMS, boot_id=boot))
        appraisal = current.appraise()
        after = appraisal.baseline
        if before.boot_id == after.boot_id:
            assert after.clock_info.reset_count == before.clock_info.reset_count
            assert after.clock_info.clock >= before.clock_info.clock


# Rounds with logs

KERNEL = Image(name="kernel", digests=frozenset({SHA256.digest(SampleBoot().kernel)}))
SHIM = Image(name="shim", digests=frozenset({SHA256.digest(SampleBoot().shim)}))
GRUB = Image(name="grub", digests=frozenset({SHA256.digest(SampleBoot().boot_loader)}))
MEASURED = measured()
EXACT = exact_golden(MEASURED)
BOOT = replace(EXACT, name="boot", pcrs={}, boot=BootRules(secure_boot=True, images=(SHIM, GRUB, KERNEL)))
RUNTIME = replace(EXACT, name="runtime", runtime=runtime_rules())
BOTH = replace(BOOT, name="both", runtime=runtime_rules())
WITH_LOGS = replace(MEASURED, policy=Policy(goldens=(BOTH,), trust_seconds=60))
LOGGED = WITH_LOGS.evidence()
BOOT_LOG, IMA_LOG = MEASURED.boot_log or b"", MEASURED.ima_log or b""


@st.composite
def mutations(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return ``raw`` with a bit changed, or a stretch dropped, doubled, moved or replaced."""
    start = draw(st.integers(0, len(raw) - 1))
    end = draw(st.integers(start, min(len(raw), start + 400)))
    stretch, rest = raw[start:end], raw[:start] + raw[end:]
    elsewhere = draw(st.integers(0, len(rest)))
    changed_bit = bytearray(raw)
    changed_bit[start] ^= 1 << draw(st.integers(0, 7))
    replaced = raw[:start] + draw(st.binary(max_size=40)) + raw[end:]
    ways = (bytes(changed_bit), rest, raw[:end] + raw[start:], rest[:elsewhere] + stretch + rest[elsewhere:], replaced)
    return draw(st.sampled_from(ways))


def replays(raw: bytes) -> bool:
    """Tell whether a boot log still leads to the values that were quoted."""
    try:
        values = replay(decode_event_log(raw), SHA256)
    except MalformedInput:
        return False
    return all(values.get(pcr) == MEASURED.pcrs[pcr] for pcr in range(8))


def says_the_same(raw: bytes, *, templates: bool) -> bool:
    """Tell whether an IMA log still begins with the entries that were quoted; no digest covers their templates."""
    try:
        said = [(entry.template if templates else "", entry.data) for _, entry in ima_entries(raw) if entry.pcr == 10]
    except MalformedInput:
        return False
    quoted = [(entry.template if templates else "", entry.data) for _, entry in ima_entries(IMA_LOG)]
    return said[: len(quoted)] == quoted


@given(mutations(BOOT_LOG), st.sampled_from([EXACT, BOOT]))
def test_b01_a_changed_boot_log_is_trusted_only_if_it_still_leads_to_the_quoted_values(
    raw: bytes, golden: Golden
) -> None:
    round_ = replace(WITH_LOGS, policy=Policy(goldens=(golden,), trust_seconds=60))
    appraisal = round_.appraise(LOGGED._replace(boot_log=raw))
    assert not appraisal.logs_required
    assert bool(appraisal.findings) is not appraisal.trusted
    assert replays(raw) or not appraisal.trusted


@given(mutations(IMA_LOG), st.sampled_from([EXACT, RUNTIME]))
def test_r02_a_changed_ima_log_is_trusted_only_if_it_still_says_what_was_measured(raw: bytes, golden: Golden) -> None:
    round_ = replace(WITH_LOGS, policy=Policy(goldens=(golden,), trust_seconds=60))
    appraisal = round_.appraise(LOGGED._replace(ima=ImaDelta(offset=0, entries=raw)))
    assert not appraisal.logs_required
    unread = golden is EXACT
    assert says_the_same(raw, templates=not unread) or not appraisal.trusted or (unread and not raw)


@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(0, 2**64), st.sampled_from(list(HashAlg)))
def test_logs_of_any_bytes_are_found_and_raise_nothing(boot: bytes, ima: bytes, offset: int, bank: HashAlg) -> None:
    appraisal = WITH_LOGS.appraise(LOGGED._replace(boot_log=boot, ima=ImaDelta(offset=offset, entries=ima, bank=bank)))
    assert not appraisal.trusted
    assert appraisal.findings


steps = st.one_of(
    st.sampled_from(["nothing", "boot pcr", "leave out values"]).map(lambda step: (step, None)),
    st.tuples(st.just("run"), st.sampled_from([*FILES, "/usr/bin/unknown"])),
    st.tuples(st.just("policy"), st.lists(st.sampled_from([EXACT, BOOT, RUNTIME, BOTH]), max_size=3, unique=True)),
)


def after(round_: Round, step: str, what: Any) -> Round:
    match step:
        case "boot pcr":
            return round_.extended(14)
        case "run":
            return round_.running(ran(what, FILES.get(what, b"")))
        case "policy":
            return replace(round_, logs=round_.asked.logs, policy=Policy(goldens=tuple(what), trust_seconds=60))
    return round_


@given(st.lists(steps, max_size=6))
def test_a_node_that_sends_what_is_new_is_judged_as_if_it_had_sent_everything(taken: list[tuple[str, Any]]) -> None:
    current, appraisal = WITH_LOGS, WITH_LOGS.appraise()
    for step, what in taken:
        before = current.pcrs
        current = after(current.then(appraisal, logs=None), step, what)
        appraisal = current.appraise(current.evidence(values=current.pcrs != before))
        if appraisal.logs_required:
            assert (appraisal.findings, appraisal.trusted) == ((), False)
            current = current.then(appraisal, logs=None)
            appraisal = current.appraise(current.evidence(values=False))
            assert not appraisal.logs_required
        whole = replace(current, baseline=None, logs=None).appraise()
        assert set(appraisal.goldens) <= set(whole.goldens)  # one that matches waits for no other
        assert appraisal.trusted is whole.trusted
        assert {finding.id for finding in appraisal.findings} == {finding.id for finding in whole.findings}


@given(goldens)
def test_a_dumped_golden_parses_back_to_the_same_digest(golden: Golden) -> None:
    again = parse_golden(dump_golden(golden), "dump")
    assert again == golden
    assert list(again.rows()) == list(golden.rows())
    assert diff_goldens(golden, again) == ()


@given(goldens, goldens)
def test_goldens_have_one_digest_exactly_when_they_say_the_same(one: Golden, other: Golden) -> None:
    same = one.name == other.name and diff_goldens(one, other) == ()
    assert (one.digest == other.digest) is same


@given(st.binary(max_size=200))
def test_random_bytes_are_no_golden(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse_golden(raw, "file")
