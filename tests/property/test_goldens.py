"""Goldens under arbitrary content: one spelling, one digest, and no document that parses and the schema refuses."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nodeseal.errors import MalformedInput
from nodeseal.golden.difference import diff_goldens
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden, document_of
from nodeseal.golden.paths import path_bytes, path_text
from nodeseal.golden.patterns import command_line_matches, pattern_fault
from nodeseal.golden.rules import BootRules, FileDigest, Image, PlatformRules, ReferenceEvent, RuntimeRules, Window
from nodeseal.golden.schema import golden_schema
from nodeseal.tpm.algorithms import HashAlg
from support.goldens import FULL

VALIDATOR = Draft202012Validator(json.loads(golden_schema()))
EXAMPLE: dict[str, Any] = document_of(parse_golden(FULL.encode(), "example"))

digests = st.binary(min_size=32, max_size=32)
digest_sets = st.frozensets(digests, min_size=1, max_size=3)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
titles = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
paths = st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw).map(path_text)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001 - a zone follows
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
windows = st.builds(
    lambda ends: Window(start=min(ends), end=max(ends)), st.lists(moments, min_size=2, max_size=2)
) | st.builds(Window, start=moments)
contents = st.builds(FileDigest, digest=digests, valid=st.just(Window()) | windows)
images = st.lists(
    st.builds(Image, name=titles, digests=digest_sets), min_size=1, max_size=3, unique_by=lambda i: i.name
)
boots = st.builds(
    BootRules,
    secure_boot=st.booleans(),
    images=images.map(tuple),
    drivers=st.none() | images.map(tuple),
    dbx=st.just(frozenset()) | digest_sets,
    command_lines=st.none() | st.just(("root=UUID=* ro", "quiet")),
    sections=st.none() | st.dictionaries(st.sampled_from([".linux", ".initrd"]), digest_sets, min_size=1),
    gpt=st.none() | digest_sets,
)
runtimes = st.builds(
    RuntimeRules,
    files=st.dictionaries(
        paths, st.lists(contents, min_size=1, max_size=3, unique=True).map(tuple), min_size=1, max_size=4
    ),
    excludes=st.just(()) | st.just(("/var/log/",)),
    violations=st.frozensets(paths, max_size=2),
    buffers=st.none() | st.dictionaries(paths, digest_sets, min_size=1, max_size=2),
)
events = st.builds(
    ReferenceEvent,
    pcr=st.integers(5, 9),
    claimed_type=st.integers(0, 2**32 - 1),
    digests=digests.map(lambda digest: {HashAlg.SHA256: digest}),
    what=titles,
)
goldens = st.builds(
    Golden,
    name=names,
    pcrs=st.dictionaries(st.sampled_from([0, 4, 14]), digest_sets, max_size=3).map(
        lambda rows: {HashAlg.SHA256: rows} if rows else {}
    ),
    boot=boots,
    runtime=st.none() | runtimes,
    platform=st.none() | st.just(PlatformRules(firmware=(7, 2, 0, 65535))),
    valid=st.just(Window()) | windows,
    nodes=st.dictionaries(names, names, max_size=3),
    reference=st.lists(events, max_size=3).map(tuple),
)


@given(goldens)
def test_a_dump_parses_back_to_the_same_golden_and_is_valid(golden: Golden) -> None:
    dumped = dump_golden(golden)
    again = parse_golden(dumped, "dump")
    assert again == golden
    assert diff_goldens(again, golden) == ()
    assert dump_golden(again) == dumped
    assert list(VALIDATOR.iter_errors(document_of(golden))) == []


@given(goldens, goldens)
def test_goldens_have_one_digest_exactly_when_they_say_the_same(one: Golden, other: Golden) -> None:
    assert (one.digest == other.digest) is (document_of(one) == document_of(other))


JUNK: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers(-1, 30) | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([1])
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The example with one fact changed: dropped, replaced, renamed, added, said twice, or one letter of it."""
    document = copy.deepcopy(EXAMPLE)
    place: Any = document
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    _change(draw, place, key)
    return document


def _change(draw: st.DrawFn, place: Any, key: Any) -> None:
    match draw(st.sampled_from(["drop", "replace", "rename", "twice", "letter"])):
        case "drop":
            del place[key]
        case "replace":
            place[key] = draw(JUNK)
        case "rename" if isinstance(place, dict):
            place[draw(st.text(max_size=5) | st.sampled_from(sorted(EXAMPLE)))] = place.pop(key)
        case "twice" if isinstance(place, list):
            place.append(place[key])
        case _:
            text = str(place[key])
            at = draw(st.integers(0, max(0, len(text) - 1)))
            place[key] = text[:at] + draw(st.characters(max_codepoint=0x17F)) + text[at + 1 :]


@given(mutated())
def test_what_the_schema_refuses_the_parser_refuses_too(document: dict[str, Any]) -> None:
    try:
        golden = parse_golden(json.dumps(document).encode(), "mutated")
    except MalformedInput as refusal:
        assert str(refusal).startswith("mutated")  # noqa: PT017 - both outcomes are right
        assert refusal.remedy  # noqa: PT017
    else:
        assert list(VALIDATOR.iter_errors(document)) == []
        assert parse_golden(dump_golden(golden), "again") == golden


@given(st.binary(min_size=1, max_size=50))
def test_a_path_has_one_spelling(raw: bytes) -> None:
    assume(b"\0" not in raw)
    assert path_bytes(path_text(raw)) == raw


@given(st.text(st.sampled_from('a=/ *"b'), max_size=12), st.text(st.sampled_from('a=/ "\tb'), max_size=12))
def test_a_pattern_never_matches_more_words_than_it_has(pattern: str, line: str) -> None:
    if pattern_fault(pattern) == "" and command_line_matches(pattern, line):
        assert len(line.split()) == len(pattern.split())
        assert [word.split("=")[0] for word in line.split() if "=" in word and word[0] != "/"] == [
            word.split("=")[0] for word in pattern.split() if "=" in word and word[0] != "/"
        ]
