"""The content file: one spelling, everything bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nodeseal import documents
from nodeseal.errors import MalformedInput
from nodeseal.ids import digest_of
from nodeseal.sealed.content import MAX_CONTENT, MAX_FILES, parse_content
from support.sealed import CONFIG, CONTENT, WEIGHTS


def test_a_content_comes_back_as_it_was_written() -> None:
    assert parse_content(CONTENT.encode()) == CONTENT


def test_the_digest_is_that_of_the_bytes() -> None:
    raw = CONTENT.encode()
    assert parse_content(raw).digest == digest_of(raw)


def test_sizes_and_sealed_files_are_counted() -> None:
    assert CONTENT.size == 3_000_002
    assert list(CONTENT.sealed()) == [WEIGHTS]


def _weights(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["files"][1].update(changes)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["files"][1].pop(key)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda value: value.update(format="nodeseal/model/2"),
    "an unknown key": lambda value: value.update(author="me"),
    "a model id with a slash": lambda value: value.update(model_id="a/b"),
    "version zero": lambda value: value.update(version=0),
    "a version that is a float": lambda value: value.update(version=1.5),
    "a time with an offset": lambda value: value.update(created="2026-01-31T12:00:00+00:00"),
    "a time without leading zeros": lambda value: value.update(created="2026-1-31T12:00:00Z"),
    "a day that does not exist": lambda value: value.update(created="2026-02-31T12:00:00Z"),
    "no files": lambda value: value.update(files=[]),
    "nothing sealed": lambda value: value["files"].pop(1),
    "files out of order": lambda value: value["files"].reverse(),
    "a file twice": lambda value: value["files"].append(value["files"][1]),
    "a file that is no mapping": lambda value: value["files"].append("model"),
    "an unknown kind": _weights(kind="zipped"),
    "an unknown key of a file": _weights(mode=0o644),
    "a path that leaves the directory": _weights(path="model/../../x"),
    "a negative size": _weights(size=-1),
    "a size beyond a pebibyte": _weights(size=(1 << 50) + 1),
    "a size that is true": _weights(size=True),
    "a segment size between the allowed ones": _weights(segment_size=(1 << 20) + 1),
    "a segment size of zero": _weights(segment_size=0),
    "a segment size of one gibibyte": _weights(segment_size=1 << 30),
    "a short file id": _weights(file_id="00"),
    "an upper-case header tag": _weights(header_tag="A" * 64),
    "a short tags digest": _weights(tags_digest="0" * 62),
    "no tags digest": _without("tags_digest"),
    "a plain file with a header tag": lambda value: value["files"][0].update(header_tag="0" * 64),
}


@pytest.mark.parametrize("why", CHANGES)
def test_a_content_is_refused_for(why: str) -> None:
    value = json.loads(CONTENT.encode())
    CHANGES[why](value)
    with pytest.raises(MalformedInput):
        parse_content(documents.encode_json(value))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", CONTENT.encode() + b"\n", b" " + CONTENT.encode()])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse_content(raw)


def test_a_plain_file_may_not_take_the_place_of_a_sealed_one() -> None:
    squatter = replace(CONFIG, path=WEIGHTS.stored_path)
    with pytest.raises(MalformedInput, match="collide"):
        parse_content(replace(CONTENT, files=(WEIGHTS, squatter)).encode())


def test_a_plain_and_a_sealed_file_of_one_path_are_refused() -> None:
    with pytest.raises(MalformedInput, match="collide"):
        parse_content(replace(CONTENT, files=(replace(CONFIG, path=WEIGHTS.path), WEIGHTS)).encode())


def test_too_many_files_and_bytes_are_refused() -> None:
    many = tuple(replace(CONFIG, path=f"{index:05}") for index in range(MAX_FILES))
    with pytest.raises(MalformedInput, match="at most 8192"):
        parse_content(replace(CONTENT, files=(*many, WEIGHTS)).encode())
    with pytest.raises(MalformedInput, match=f"at most {MAX_CONTENT}"):
        parse_content(b" " * (MAX_CONTENT + 1))
