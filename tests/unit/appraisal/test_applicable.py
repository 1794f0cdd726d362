"""Which goldens count: labels, windows, and until when the answer stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nodeseal.appraisal.applicable import counts, serves, span_of
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import Window
from support.rounds import GOLDEN, NOW

SECOND = timedelta(seconds=1)
TICK = datetime.resolution
NO_START, NO_END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def windowed(start: datetime | None = None, end: datetime | None = None) -> Golden:
    return replace(GOLDEN, valid=Window(start=start, end=end))


@pytest.mark.parametrize(
    ("wanted", "labels", "fits"),
    [
        pytest.param({}, {}, True, id="no label is wanted"),
        pytest.param({}, {"pool": "a"}, True, id="a node may have labels that no golden names"),
        pytest.param({"pool": "a"}, {"pool": "a", "site": "b"}, True, id="every label that is wanted is there"),
        pytest.param({"pool": "a"}, {}, False, id="a node without labels"),
        pytest.param({"pool": "a"}, {"pool": "b"}, False, id="another value"),
        pytest.param({"pool": "a", "site": "b"}, {"pool": "a"}, False, id="one of two labels"),
        pytest.param({"pool": "a"}, {"Pool": "a"}, False, id="another spelling"),
    ],
)
def test_a_golden_serves_nodes_that_have_all_its_labels(
    wanted: Mapping[str, str], labels: Mapping[str, str], *, fits: bool
) -> None:
    golden = replace(GOLDEN, nodes=wanted)
    assert serves(golden, labels) is fits
    assert counts(golden, labels, NOW) is fits


@pytest.mark.parametrize(
    ("golden", "is_open"),
    [
        pytest.param(windowed(), True, id="always"),
        pytest.param(windowed(start=NOW), True, id="from now on"),
        pytest.param(windowed(end=NOW), True, id="until now"),
        pytest.param(windowed(start=NOW + TICK), False, id="a moment too early"),
        pytest.param(windowed(end=NOW - TICK), False, id="a moment too late"),
    ],
)
def test_a_golden_counts_while_its_window_is_open(golden: Golden, *, is_open: bool) -> None:
    assert counts(golden, {}, NOW) is is_open


@pytest.mark.parametrize(
    ("golden", "since", "until"),
    [
        pytest.param(windowed(), NO_START, NO_END, id="no window: always the same"),
        pytest.param(windowed(start=NOW + SECOND), NO_START, NOW + SECOND - TICK, id="until one opens"),
        pytest.param(windowed(end=NOW + SECOND), NO_START, NOW + SECOND, id="until the open one closes"),
        pytest.param(windowed(start=NOW - SECOND), NOW - SECOND, NO_END, id="since the open one opened"),
        pytest.param(windowed(end=NOW - SECOND), NOW - SECOND + TICK, NO_END, id="since one closed"),
    ],
)
def test_what_counts_stays_the_same_until_a_window_opens_or_closes(
    golden: Golden, since: datetime, until: datetime
) -> None:
    assert span_of([golden], NOW) == (since, until)
    same = counts(golden, {}, NOW)
    assert counts(golden, {}, since) is counts(golden, {}, until) is same
    if since > NO_START:
        assert counts(golden, {}, since - TICK) is not same
    if until < NO_END:
        assert counts(golden, {}, until + TICK) is not same


def test_of_several_goldens_the_first_change_counts() -> None:
    goldens = [windowed(start=NOW - SECOND, end=NOW + 2 * SECOND), windowed(start=NOW + SECOND)]
    assert span_of(goldens, NOW) == (NOW - SECOND, NOW + SECOND - TICK)
