"""Runtime lists in a rollout: old and new contents side by side, each in its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nodeseal.golden.rules import ALWAYS, FileDigest, Window
from nodeseal.golden.runtime_list import Rollout, merge_lists, runtime_list

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=7)
OLD = {"/bash": (FileDigest(digest=A),), "/vim": (FileDigest(digest=C),)}


def test_a_list_allows_each_content_that_a_path_was_found_with() -> None:
    assert runtime_list([("/x", B), ("/x", A), ("/x", B), ("/y", C)]) == {
        "/x": (FileDigest(digest=A), FileDigest(digest=B)),
        "/y": (FileDigest(digest=C),),
    }


def test_what_is_found_counts_in_the_window_that_was_asked_for() -> None:
    window = Window(start=NOON)
    assert runtime_list([("/x", A)], window) == {"/x": (FileDigest(digest=A, valid=window),)}


def test_an_update_stands_beside_what_it_replaces() -> None:
    merged = merge_lists(OLD, runtime_list([("/bash", B)]), Rollout(new=Window(start=NOON), old_until=LATER))
    assert merged == {
        "/bash": (FileDigest(digest=A, valid=Window(end=LATER)), FileDigest(digest=B, valid=Window(start=NOON))),
        "/vim": OLD["/vim"],
    }


def test_without_an_end_what_was_allowed_stays_allowed() -> None:
    merged = merge_lists(OLD, runtime_list([("/bash", B)]), Rollout())
    assert merged["/bash"] == (FileDigest(digest=A), FileDigest(digest=B))


def test_a_content_that_both_have_goes_on() -> None:
    old = {"/bash": (FileDigest(digest=A, valid=Window(start=NOON, end=LATER)),)}
    merged = merge_lists(old, runtime_list([("/bash", A)]), Rollout(new=Window(start=LATER), old_until=LATER))
    assert merged["/bash"] == (FileDigest(digest=A, valid=Window(start=NOON)),)


def test_an_end_that_comes_sooner_stays() -> None:
    old = {"/bash": (FileDigest(digest=A, valid=Window(end=NOON)),)}
    merged = merge_lists(old, runtime_list([("/bash", B)]), Rollout(old_until=LATER))
    assert merged["/bash"][0].valid == Window(end=NOON)


def test_a_content_that_was_to_come_later_never_ends_before_it_begins() -> None:
    old = {"/bash": (FileDigest(digest=A, valid=Window(start=LATER)),)}
    merged = merge_lists(old, runtime_list([("/bash", B)]), Rollout(old_until=NOON))
    assert merged["/bash"][0].valid == Window(start=LATER, end=LATER)


def test_a_new_path_gets_the_new_window() -> None:
    assert merge_lists({}, runtime_list([("/x", A)]), Rollout())["/x"] == (FileDigest(digest=A, valid=ALWAYS),)
