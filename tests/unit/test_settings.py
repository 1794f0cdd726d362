from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.settings import MAX_BYTES, load_yaml, needs_quotes, parse_yaml

BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


def _only(text: str) -> object:
    return parse_yaml(f"key: {text}\n".encode(), "test").take("key")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain text", "plain text"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8443", "127.0.0.1:8443"),
        ("/var/lib/nodeseal", "/var/lib/nodeseal"),
        ("n-abc", "n-abc"),
        ("6.1.0-18-amd64", "6.1.0-18-amd64"),
        ("0", 0),
        ("-12", -12),
        ("9007199254740991", 9007199254740991),
        ("true", True),
        ("false", False),
        ("'true'", "true"),
        ('"12"', "12"),
        ('""', ""),
        ("'~'", "~"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("[a, 1]", ["a", 1]),
        ("{a: 1}", {"a": 1}),
        ("[]", []),
    ],
)
def test_a_value_means_what_a_reader_sees(text: str, value: object) -> None:
    assert _only(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "~", "null", "Null", "NULL"),
        *("yes", "No", "ON", "off", "y", "N", "True", "FALSE"),
        *("0755", "0o17", "0x1f", "0b1", "+1", "-0", "1_000", "1,000", "01"),
        *("1.5", "1.", ".5", "1e3", "6.02E+23", ".inf", "-.Inf", ".NaN"),
        *("12:30", "1:30:45", "2026-11-21", "2026-11-21 10:00:00", "2026-1-1T00:00:00Z"),
        "12345678901234567",
    ],
)
def test_a_value_that_could_mean_several_things_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput, match=r"(?m)^test, line 1: .* could mean several things$") as refusal:
        _only(text)
    assert refusal.value.remedy == "put the value in quotes"


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"# only a comment\n", "empty", id="only a comment"),
        pytest.param(b"a: 1\nb: 2\na: 3\n", "line 3: duplicate key 'a'", id="duplicate key"),
        pytest.param(b"1: a\n'1': b\n", "line 2: duplicate key '1'", id="duplicate key in two spellings"),
        pytest.param(b"a:\n  b: 1\n  b: 2\n", "line 3: duplicate key", id="duplicate key inside"),
        pytest.param(BOMB, "line 1: anchors", id="alias bomb"),
        pytest.param(b"a: *b\n", "line 1: anchors", id="alias of nothing"),
        pytest.param(b"a: 1\nb: &x 2\n", "line 2: anchors", id="anchor that nobody uses"),
        pytest.param(b"a: !!str 1\n", "tags", id="tag"),
        pytest.param(b"a: !!python/object:os.system {}\n", "tags", id="tag that makes an object"),
        pytest.param(b"a: 1\n---\nb: 2\n", "single document", id="two documents"),
        pytest.param(b"[a]: 1\n", "line 1: a key is not plain text", id="list as key"),
        pytest.param(b"- a\n- b\n", "not a mapping", id="list at the top"),
        pytest.param(b"text\n", "not a mapping", id="text at the top"),
        pytest.param(b"a: [1\n", "not YAML", id="open bracket"),
        pytest.param(b"a:\n\t- 1\n", "not YAML", id="tab as indent"),
        pytest.param(b"a: \xff\n", "not YAML", id="not UTF-8"),
        pytest.param(b"a: \x00\n", "not YAML", id="NUL"),
        pytest.param(b"a: " + b"[" * 16 + b"]" * 16, "line 1: nested deeper than 16", id="one list too deep"),
        pytest.param(b"a: " + b"[" * 200_000, "nested deeper", id="deep enough to end the process"),
        pytest.param(b"- " * 200_000, "nested deeper", id="deep in block style"),
        pytest.param(b"a: [" + b"b," * 1_600_000 + b"]", "too many values", id="too many values"),
        pytest.param(b"#" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes", id="too large"),
    ],
)
def test_hostile_yaml_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=f"^test.*{complaint}"):
        parse_yaml(raw, "test")


def test_a_merge_key_is_a_key_like_any_other() -> None:
    fields = parse_yaml(b"<<: {a: 1}\n", "test")
    with pytest.raises(MalformedInput, match="unknown key: '<<'"):
        fields.done()


def test_fifteen_lists_in_a_mapping_are_accepted() -> None:
    assert parse_yaml(b"a: " + b"[" * 15 + b"]" * 15, "test").has("a")


def test_an_error_about_an_inner_key_names_file_and_line() -> None:
    inner = parse_yaml(b"listen:\n  port: 70000\n", "verifier.yaml").fields("listen")
    with pytest.raises(MalformedInput, match=r"^verifier\.yaml.*line 2: port is not an integer"):
        inner.integer("port", low=1, high=65535)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    fields = load_yaml(path)
    assert fields.integer("a", low=0, high=1) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match=r"absent\.yaml: No such file or directory"):
        load_yaml(tmp_path / "absent.yaml")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(MalformedInput, match="more than"):
        load_yaml(tmp_path / "huge.yaml")


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(MalformedInput, match="not a regular file"):
        load_yaml(Path("/dev/zero"))


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_parse_or_are_refused(raw: bytes) -> None:
    try:
        fields = parse_yaml(raw, "test")
    except MalformedInput as refusal:
        assert str(refusal).startswith("test")  # noqa: PT017 - both outcomes are right; a refusal must name its source
    else:
        assert isinstance(fields, Fields)


def test_items_of_lists_know_their_lines() -> None:
    first, second = parse_yaml(b"key:\n  - a\n  - [b]\n", "test").each("key")
    assert first.text() == "a"
    with pytest.raises(MalformedInput, match=r"^test, line 3: an item of key is not printable text"):
        second.text()


@pytest.mark.parametrize("text", ["/usr/bin/bash", "kexec-cmdline", ".linux", "a_b"])
def test_plain_text_needs_no_quotes(text: str) -> None:
    assert not needs_quotes(text)
    assert _only(text) == text


@pytest.mark.parametrize("text", ["", "true", "no", "12", "1.5", "a b", "a: b", "#", "'", "é", "-", "2026-01-01", "~"])
def test_what_reads_as_something_else_needs_quotes(text: str) -> None:
    assert needs_quotes(text)


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(MalformedInput, match=f"{path}: not a regular file"):
            load_yaml(path)
