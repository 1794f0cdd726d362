"""Where two logs part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, EventLog
from nodeseal.uefi.event_log_diff import NumberedEvent, diff_event_logs, preferred_bank
from nodeseal.uefi.event_log_types import EventType

SHA1, SHA256, SHA384 = HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384


def event(pcr: int, data: bytes) -> Event:
    return Event(pcr=pcr, claimed_type=EventType.IPL, digests={SHA256: SHA256.digest(data)}, data=data)


LOG = EventLog((SHA256,), (event(0, b"a"), event(4, b"b"), event(0, b"c"), event(4, b"d")))


def changed(place: int, *events: Event) -> EventLog:
    return replace(LOG, events=LOG.events[:place] + events + LOG.events[place + 1 :])


def test_a_log_does_not_differ_from_itself() -> None:
    assert diff_event_logs(LOG, LOG, SHA256) == ()


def test_the_first_differing_event_of_each_pcr_is_found() -> None:
    other = changed(2, event(0, b"x"), event(0, b"y"))
    (difference,) = diff_event_logs(LOG, other, SHA256)
    assert (difference.pcr, difference.same) == (0, 1)
    assert difference.before == NumberedEvent(3, LOG.events[2])
    assert difference.after == NumberedEvent(3, other.events[2])


def test_an_event_that_one_log_lacks_has_no_counterpart() -> None:
    (difference,) = diff_event_logs(LOG, changed(3), SHA256)
    assert (difference.before, difference.after) == (NumberedEvent(4, LOG.events[3]), None)


def test_a_pcr_that_one_log_lacks_differs() -> None:
    (difference,) = diff_event_logs(LOG, replace(LOG, events=(*LOG.events, event(7, b"e"))), SHA256)
    assert (difference.pcr, difference.same, difference.before) == (7, 0, None)


def test_what_no_digest_covers_makes_no_difference() -> None:
    relabelled = replace(LOG.events[1], claimed_type=EventType.SEPARATOR, data=b"swapped")
    said = replace(event(0, b"said"), claimed_type=EventType.NO_ACTION)
    assert diff_event_logs(LOG, changed(1, relabelled, said), SHA256) == ()


def test_the_order_between_pcrs_makes_no_difference() -> None:
    first, second, *rest = LOG.events
    assert diff_event_logs(LOG, replace(LOG, events=(second, first, *rest)), SHA256) == ()


def test_a_startup_locality_of_its_own_is_a_difference_without_events() -> None:
    named = replace(event(0, b"StartupLocality\0\3"), claimed_type=EventType.NO_ACTION)
    (difference,) = diff_event_logs(LOG, replace(LOG, events=(named, *LOG.events)), SHA256)
    assert (difference.pcr, difference.same, difference.before, difference.after) == (0, 2, None, None)


def test_events_outside_the_bank_make_no_difference() -> None:
    outside = replace(event(4, b"z"), digests={SHA1: bytes(20)})
    both = replace(LOG, algorithms=(SHA1, SHA256), events=(outside, *LOG.events))
    assert diff_event_logs(LOG, both, SHA256) == ()
    (difference,) = diff_event_logs(LOG, replace(both, events=both.events[:-1]), SHA256)
    assert (difference.same, difference.after) == (1, None)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((SHA1, SHA256, SHA384), (SHA384, SHA256), SHA256),
        ((SHA1, SHA384), (SHA384, SHA1, SHA256), SHA384),
        ((SHA1, SHA256), (SHA1,), SHA1),
    ],
)
def test_the_best_bank_that_both_have_is_preferred(
    first: tuple[HashAlg, ...], second: tuple[HashAlg, ...], expected: HashAlg
) -> None:
    assert preferred_bank(EventLog(first, ()), EventLog(second, ())) is expected


def test_logs_without_a_common_bank_cannot_be_compared() -> None:
    with pytest.raises(MalformedInput, match="no bank in common"):
        preferred_bank(EventLog((SHA1,), ()), LOG)
