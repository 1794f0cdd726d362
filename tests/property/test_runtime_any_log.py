"""IMA logs under arbitrary change: what a golden objects to cannot be talked away, and nothing crashes (r01, r02, r05).

The log holds an unknown file, so it must never be judged good, whatever is done to the bytes that the node sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from nodeseal.appraisal.kinds.ima_log import ImaOutcome, ImaRound, ImaVerdict, compile_runtime, judge_ima
from nodeseal.evidence.logs import ImaDelta
from nodeseal.findings import FindingId
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import ImaEntry
from nodeseal.ima.template import TEMPLATES
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.runtime import BEGINNING, Scene, at, content, golden_of, quote_of, ran

PATHS = ("/usr/bin/sh", "/usr/bin/ls", "/var/cache/x")
EVIL = ran("/usr/bin/evil", "evil", template="ima-sig")
ENTRIES = (BEGINNING, *(ran(path) for path in PATHS), EVIL, ran("/usr/bin/sh", template="ima-sig"))
LOG = ima.log(ENTRIES)
RULES = RuntimeRules(files={path: (FileDigest(digest=content("good")),) for path in PATHS}, excludes=("/var/cache/",))
GOLDEN = compile_runtime(golden_of(RULES))
QUOTE = quote_of(ENTRIES)
EXPECTED = {FindingId.IMA_REPLAY, FindingId.IMA_LOG_MALFORMED, FindingId.IMA_LOG_MISSING, FindingId.IMA_TRIMMED}

Change = Callable[[list[ImaEntry]], list[ImaEntry]]
places = st.integers(0, len(ENTRIES) - 1)
templates = st.sampled_from([*TEMPLATES, "d-ng|n-ng", "d-ng|n-ng|buf", "n-ng|d-ng", "sig", "x"])
pcrs = st.integers(0, 23)
digests = st.sampled_from([bytes(20), b"\xff" * 20])


def replaced(place: int, **fields: Any) -> Change:
    return lambda entries: [
        entry._replace(**fields) if number == place else entry for number, entry in enumerate(entries)
    ]


changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda place, template: replaced(place, template=template), places, templates),
    st.builds(lambda place, pcr: replaced(place, pcr=pcr), places, pcrs),
    st.builds(lambda place, digest: replaced(place, template_digest=digest), places, digests),
    st.builds(lambda place: lambda entries: entries[:place] + entries[place + 1 :], places),
    st.builds(
        lambda place, entry: lambda entries: [*entries[:place], entry, *entries[place:]],
        places,
        st.sampled_from(ENTRIES),
    ),
    st.builds(lambda place: lambda entries: entries[place:] + entries[:place], places),
)


def judged(log: bytes, offset: int = 0, width: HashAlg = HashAlg.SHA1) -> ImaOutcome:
    return judge_ima(
        ImaRound(delta=ImaDelta(offset=offset, entries=log, bank=width), pcrs=QUOTE, goldens=[GOLDEN], now=at(0))
    )


def good(outcome: ImaOutcome) -> bool:
    clean = outcome.progress is not None and outcome.progress.verdicts[GOLDEN.digest] == ImaVerdict()
    return clean and not outcome.findings


def test_the_log_is_proved_and_objected_to_as_it_is_and_good_without_the_unknown_file() -> None:
    assert judged(LOG).progress is not None
    assert not good(judged(LOG))
    scene = Scene((golden_of(RULES),))
    assert scene.round(0, *(entry for entry in ENTRIES[1:] if entry is not EVIL)).findings == ()
    assert scene.verdict() == ImaVerdict()


@given(st.lists(changes, min_size=1, max_size=4))
def test_no_change_of_entries_makes_the_log_good(made: list[Change]) -> None:
    entries = list(ENTRIES)
    for change in made:
        entries = change(entries)
    assert not good(judged(ima.log(entries)))


@given(st.integers(0, len(LOG)), st.integers(0, 40), st.binary(max_size=40), st.sampled_from(HashAlg))
@example(0, 0, b"", HashAlg.SHA1)
@example(86, 4, b"\x01\x01\x01\x01", HashAlg.SHA1)  # a first entry that looks like one of a log that was trimmed
def test_no_change_of_bytes_makes_the_log_good(place: int, gone: int, new: bytes, width: HashAlg) -> None:
    outcome = judged(LOG[:place] + new + LOG[place + gone :], width=width)
    assert not good(outcome)
    if outcome.progress is None:
        assert {finding.id for finding in outcome.findings} <= EXPECTED


@given(st.binary(max_size=300), st.integers(0, 2**63), st.sampled_from(HashAlg))
def test_any_bytes_are_judged_without_a_crash(log: bytes, offset: int, width: HashAlg) -> None:
    assert not good(judged(log, offset, width))
