"""Appraisal under arbitrary input: what must hold whatever a node sends and whatever goldens say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence import Evidence
from nodeseal.golden.difference import diff_goldens
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.tcg.attest import ClockInfo
from nodeseal.verifier.appraisal.model import Baseline, Continuity, Policy
from support.rounds import CLAIMS, PCRS, SELECTION, SHA256, Round

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
    return replace(EVIDENCE, **change)


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
            GOOD.appraise(replace(EVIDENCE, pcr_values=sent))


@given(pcrs, st.lists(goldens, max_size=3).map(tuple))
def test_a_node_is_trusted_only_if_a_golden_matches_whole_and_nothing_forbids_it(
    seen: dict[int, bytes], active: tuple[Golden, ...]
) -> None:
    round_ = replace(GOOD, pcrs=seen, policy=Policy(goldens=active, trust_seconds=60))
    matches = any(all(seen.get(index) in allowed for _, index, allowed in golden.rows()) for golden in active)
    measured = all(seen[index] not in (bytes(32), b"\xff" * 32) for index in range(8))
    appraisal = round_.appraise()
    assert appraisal.trusted is (matches and measured and seen[15] == bytes(32))
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
