"""The fast loop comes to what the codec comes to, entry by entry, and remembers what needs a closer look."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.appraisal.kinds import ima_replay
from nodeseal.appraisal.kinds.ima_log import compile_runtime
from nodeseal.appraisal.kinds.ima_replay import Stretch, replay
from nodeseal.errors import MalformedInput
from nodeseal.ima.log import ImaEntry, replay_ima
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.runtime import BEGINNING, SHA256, listing, ran

LISTED, UNLISTED = ran("/usr/bin/sh"), ran("/usr/bin/other")
GOLDEN = compile_runtime(listing("/usr/bin/sh"))
WIDER = compile_runtime(listing("/usr/bin/sh", "/usr/bin/other"))
entries = st.lists(
    st.builds(
        lambda entry, pcr: entry._replace(pcr=pcr),
        st.sampled_from((*ima.examples(), LISTED, UNLISTED, BEGINNING)),
        st.sampled_from([10, 10, 10, 11]),
    ),
    max_size=12,
).map(tuple)


def stretch(log: bytes, stop: int | None = None, width: HashAlg = HashAlg.SHA1) -> Stretch:
    return Stretch(log=log, width=width, start=0, stop=len(log) if stop is None else stop)


@given(entries, st.sampled_from(HashAlg), st.sampled_from(HashAlg))
def test_the_value_is_that_of_the_codec_in_every_bank_and_width(
    measured: tuple[ImaEntry, ...], bank: HashAlg, width: HashAlg
) -> None:
    marks = {True: bytes(width.digest_size), False: b"\1" * width.digest_size}
    log = ima.log(entry._replace(template_digest=marks[entry.violation]) for entry in measured)
    for goldens in ((), (GOLDEN,), (GOLDEN, WIDER)):
        found = replay(stretch(log, width=width), bank, bytes(bank.digest_size), None, goldens)
        assert (found.value, found.end) == (replay_ima(measured, bank), len(log))


def offsets(*wanted: ImaEntry, log: tuple[ImaEntry, ...]) -> list[int]:
    return [len(ima.log(log[:number])) for number, entry in enumerate(log) if entry in wanted]


def test_an_entry_is_remembered_unless_every_golden_lists_it() -> None:
    violation, elsewhere = ima.violation(b"/usr/bin/sh"), UNLISTED._replace(pcr=11)
    log = (LISTED, UNLISTED, violation, LISTED, LISTED._replace(pcr=11), elsewhere)
    for goldens, wanted in (
        ((GOLDEN,), (UNLISTED, violation, elsewhere)),
        ((WIDER,), (violation,)),
        ((WIDER, GOLDEN), (UNLISTED, violation, elsewhere)),
        ((GOLDEN, WIDER), (UNLISTED, violation, elsewhere)),
    ):
        found = replay(stretch(ima.log(log)), SHA256, bytes(32), None, goldens)
        assert list(found.unlisted) == offsets(*wanted, log=log)


def test_the_wanted_value_is_met_where_it_is_last_seen() -> None:
    log = (BEGINNING, LISTED, UNLISTED._replace(pcr=11), UNLISTED)
    met = {
        len(ima.log(log[:0])): bytes(32),
        len(ima.log(log[:1])): replay_ima(log[:1], SHA256),
        len(ima.log(log[:3])): replay_ima(log[:2], SHA256),
        len(ima.log(log)): replay_ima(log, SHA256),
        None: b"other",
    }
    for place, value in met.items():
        assert replay(stretch(ima.log(log)), SHA256, bytes(32), value, (GOLDEN,)).met == place


def test_a_stretch_ends_where_it_is_told_to_or_where_the_entry_there_ends() -> None:
    log, first = ima.log((LISTED, UNLISTED)), len(ima.log([LISTED]))
    for stop, end in ((0, 0), (1, first), (first, first), (first + 1, len(log)), (len(log) + 1, len(log))):
        assert replay(stretch(log, stop), SHA256, bytes(32), None, (GOLDEN,)).end == end


def test_an_entry_of_a_pcr_that_cannot_be_is_malformed_though_it_is_listed() -> None:
    with pytest.raises(MalformedInput, match="PCR 24"):
        replay(stretch(ima.log([LISTED._replace(pcr=24)])), SHA256, bytes(32), None, (GOLDEN,))


@pytest.mark.parametrize("size", range(1, len(ima.log([LISTED]))))
def test_an_entry_that_is_cut_off_is_malformed(size: int) -> None:
    with pytest.raises(MalformedInput):
        replay(stretch(ima.log([LISTED])[:size]), SHA256, bytes(32), None, (GOLDEN,))


@pytest.mark.parametrize("entry", [LISTED, UNLISTED, ima.violation(b"/usr/bin/sh")], ids=["listed", "not", "violation"])
def test_entries_of_other_pcrs_are_bounded(entry: ImaEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ima_replay, "MAX_OTHERS", 2)
    other = entry._replace(pcr=11)
    many, more = (ima.log((LISTED, UNLISTED, LISTED, *[other] * count)) for count in (2, 3))
    assert replay(stretch(many), SHA256, bytes(32), None, (GOLDEN,)).end == len(many)
    with pytest.raises(MalformedInput, match="more than 2 entries of other PCRs than 10"):
        replay(stretch(more), SHA256, bytes(32), None, (GOLDEN,))
