"""Paths have one spelling in plain ASCII; excludes are narrow."""

from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.golden.paths import MAX_MEASURED_PATH, exclude_fault, path_bytes, path_text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        pytest.param(b"/usr/bin/bash", "/usr/bin/bash", id="plain"),
        pytest.param(b"/opt/a b", "/opt/a b", id="a space"),
        pytest.param(rb"/etc/snap\x2d1.mount", r"/etc/snap\x2d1.mount", id="a backslash"),
        pytest.param(b"/opt/100%", "/opt/100%25", id="a percent sign"),
        pytest.param("/opt/Fő".encode(), "/opt/F%C5%91", id="UTF-8"),
        pytest.param(b"/opt/\xff\n", "/opt/%FF%0A", id="no UTF-8, and a newline"),
        pytest.param(b"memfd:x", "memfd:x", id="what has no place in a file system"),
    ],
)
def test_a_path_is_spelled_in_printable_ascii(raw: bytes, text: str) -> None:
    assert path_text(raw) == text
    assert path_bytes(text) == raw


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/opt/Fő", id="a letter beyond ASCII"),
        pytest.param("/opt/%c5", id="hex in lower case"),
        pytest.param("/opt/%41", id="an escape where none is due"),
        pytest.param("/opt/%", id="half an escape"),
        pytest.param("/opt/%00", id="a NUL, which ends a path"),
        pytest.param("/opt/\n", id="a newline as it is"),
        pytest.param("/" * (MAX_MEASURED_PATH + 1), id="too long"),
    ],
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput, match="one spelling"):
        path_bytes(text)


@pytest.mark.parametrize("text", ["/var/log/", "/var/log", "/var/lib/x/y", "/usr/..x/"])
def test_a_narrow_exclude_is_accepted(text: str) -> None:
    assert exclude_fault(text) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("/", "narrow", id="everything"),
        pytest.param("", "absolute", id="nothing"),
        pytest.param("/usr/", "narrow", id="a folder at the top"),
        pytest.param("/usr", "narrow", id="a name at the top"),
        pytest.param("var/log/", "absolute", id="a relative path"),
        pytest.param("//usr/", "absolute", id="an empty part"),
        pytest.param("/var/log//", "absolute", id="an empty part at the end"),
        pytest.param("/var/log/../../", "absolute", id="a way back up"),
        pytest.param("/var/./log/", "absolute", id="a part that means nothing"),
        pytest.param("/var/*/", "wildcards", id="a star"),
        pytest.param("/var/lo?", "wildcards", id="a question mark"),
        pytest.param("/var/[a-z]/", "wildcards", id="a class"),
        pytest.param("/var/{a,b}/", "wildcards", id="alternatives"),
    ],
)
def test_an_exclude_that_is_too_wide_is_refused(text: str, fault: str) -> None:
    assert fault in exclude_fault(text)
