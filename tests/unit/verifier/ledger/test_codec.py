"""Acts as JSON values: one spelling, and everything else refused by the name of its field."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest
from nodeseal.verifier.ledger.acts import KINDS, Act, LogOpened, NodeJudged, NodeQuarantined
from nodeseal.verifier.ledger.codec import act_from_plain, act_to_plain
from support.acts import AT, EXAMPLES, NODE, bound_of, largest

EVERY = pytest.mark.parametrize("kind", KINDS)
FIELDS = pytest.mark.parametrize(
    ("kind", "name"), [(kind, field.name) for kind, made in KINDS.items() for field in fields(made)]
)
JUDGED = EXAMPLES["node.judged"]


def through(act: Act) -> Act:
    """Send an act through its bytes."""
    return act_from_plain(act.kind, decode_json(encode_json(act_to_plain(act)), "act"))


@EVERY
def test_an_act_survives_byte_for_byte(kind: str) -> None:
    for act in (EXAMPLES[kind], largest(kind)):
        assert through(act) == act
        assert encode_json(act_to_plain(through(act))) == encode_json(act_to_plain(act))


@given(reason=st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_any_text_survives(reason: str) -> None:
    act = NodeQuarantined(node_id=NODE, reason=reason)
    assert through(act) == act


@given(at=st.datetimes(timezones=st.timezones()))
def test_a_time_survives_as_the_same_moment_in_utc(at: datetime) -> None:
    try:
        moment = at.astimezone(AT.tzinfo)
    except OverflowError:
        return
    assert isinstance(JUDGED, NodeJudged)
    act = through(replace(JUDGED, trusted_until=at))
    assert isinstance(act, NodeJudged)
    assert act.trusted_until == moment


@pytest.mark.parametrize("kind", ["", "node", "node.judged ", "node.exploded", "\x1b[2J", "x" * 10_000])
def test_an_unknown_kind_is_refused_by_name(kind: str) -> None:
    with pytest.raises(MalformedInput, match="unknown kind of act") as caught:
        act_from_plain(kind, {})
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


@FIELDS
def test_a_missing_field_is_refused(kind: str, name: str) -> None:
    plain = act_to_plain(EXAMPLES[kind])
    if name == "approvals":  # left out where one person decided alone
        without = {key: value for key, value in plain.items() if key != name}
        assert act_to_plain(act_from_plain(kind, without)) == without
        return
    del plain[name]
    with pytest.raises(MalformedInput, match=f"{kind}: other fields than the act has"):
        act_from_plain(kind, plain)


@EVERY
def test_a_field_too_many_is_refused(kind: str) -> None:
    with pytest.raises(MalformedInput, match=f"{kind}: other fields than the act has"):
        act_from_plain(kind, {**act_to_plain(EXAMPLES[kind]), "more": 1})


@pytest.mark.parametrize("plain", [None, [], "text", 1])
def test_what_is_no_mapping_is_refused(plain: object) -> None:
    with pytest.raises(MalformedInput, match="other fields than the act has"):
        act_from_plain("node.judged", plain)


WRONG: tuple[object, ...] = (None, True, -1, 1.5, 2**53, "\x00", [], [None], {}, "A" * 5000, ["x"] * 5000)


@FIELDS
def test_a_value_of_another_type_or_size_is_refused(kind: str, name: str) -> None:
    plain = act_to_plain(EXAMPLES[kind])
    refused = 0
    for value in WRONG:
        try:
            act = act_from_plain(kind, {**plain, name: value})
        except MalformedInput:
            refused += 1
        else:  # what is accepted is what is written again
            assert act_to_plain(act)[name] == value
            assert type(act_to_plain(act)[name]) is type(value)
    assert refused >= len(WRONG) - 3


def test_errors_name_kind_and_field() -> None:
    plain = act_to_plain(JUDGED)
    for name, value, why in (
        ("reason", 1, "not text"),
        ("reason", "x" * 501, "501, at most 500"),
        ("codes", "x", "not a list"),
        ("codes", ["x"] * 17, "17, at most 16"),
        ("state", "happy", "happy"),
        ("trusted_until", "yesterday", "yesterday"),
    ):
        with pytest.raises(MalformedInput, match=rf"node\.judged: {name}: .*{why}"):
            act_from_plain("node.judged", {**plain, name: value})
    for name, value, why in (("closed_size", True, "not int"), ("closed_root", "AB", "not lower-case hex")):
        with pytest.raises(MalformedInput, match=rf"log\.opened: {name}: {why}"):
            act_from_plain("log.opened", {"closed_size": 0, "closed_root": "", name: value})
    with pytest.raises(MalformedInput, match=r"node\.admitted: forget_clock: not bool"):
        act_from_plain("node.admitted", {"node_id": NODE, "before": "pending", "forget_clock": 1})


@pytest.mark.parametrize(
    "spelled",
    [
        "2026-01-02",
        "2026-01-02T03:04:05.678901",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T03:04:05.678901Z",
        "2026-01-02 03:04:05.678901+00:00",
        "2026-01-02T04:04:05.678901+01:00",
        "20260102T030405.678901+0000",
        "2026-W01-5",
        "0001-01-01T00:00:00.000000+05:00",
    ],
)
def test_a_time_has_one_spelling(spelled: str) -> None:
    with pytest.raises(MalformedInput, match=r"node\.judged: trusted_until"):
        act_from_plain("node.judged", {**act_to_plain(JUDGED), "trusted_until": spelled})


def test_times_are_written_in_utc_with_microseconds() -> None:
    assert isinstance(JUDGED, NodeJudged)
    east = replace(JUDGED, trusted_until=AT.astimezone(timezone(timedelta(hours=5))))
    assert act_to_plain(east)["trusted_until"] == "2026-01-02T03:04:05.678901+00:00"


@pytest.mark.parametrize("digest", ["x", "A" * 64, "0" * 63, "0" * 65, " "])
def test_an_id_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(MalformedInput):
        act_from_plain("node.labelled", {"node_id": NODE, "labels": digest, "previous": "0" * 64})


def test_an_empty_digest_stands_for_none() -> None:
    act = through(replace(EXAMPLES["node.judged"], findings=Digest("")))
    assert isinstance(act, NodeJudged)
    assert act.findings == ""


@EVERY
def test_a_field_over_its_bound_has_no_form(kind: str) -> None:
    act: Any = largest(kind)
    for name, hint in get_type_hints(KINDS[kind], include_extras=True).items():
        if not (bound_of(hint) and name in act.__dataclass_fields__):
            continue
        value = getattr(act, name)
        with pytest.raises(MalformedInput, match=f"{kind}: {name}: {len(value) + 1}, at most {len(value)}"):
            act_to_plain(replace(act, **{name: value + value[:1]}))


def test_bounds_of_bytes_count_bytes() -> None:
    with pytest.raises(MalformedInput, match="closed_root: 35, at most 34"):
        act_from_plain("log.opened", {"closed_size": 0, "closed_root": "00" * 35})
    assert act_from_plain("log.opened", {"closed_size": 0, "closed_root": "00" * 34}) == LogOpened(
        closed_size=0, closed_root=bytes(34)
    )
