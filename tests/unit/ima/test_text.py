"""The ASCII list: the same entries as the binary one, or refused; never split in the wrong place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import MAX_IMA_LOG, ImaEntry
from nodeseal.ima.template import ImaFields
from nodeseal.ima.text import ima_text_entries, looks_like_ima_text
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.ima import parse_ima_text

BANKS = pytest.mark.parametrize("bank", HashAlg, ids=lambda bank: bank.hashlib_name)


def named(path: bytes) -> ImaEntry:
    signed = ImaFields(algorithm="sha256", digest=ima.FILE.digest, path=path, signature=b"\3\2\4key!\0\1s")
    return ima.entry("ima-sig", signed)


@BANKS
def test_every_template_is_read_as_the_binary_list_has_it(bank: HashAlg) -> None:
    entries = ima.examples(bank)
    assert parse_ima_text(ima.text(entries)) == entries


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/srv/a file (deleted)", id="spaces"),
        pytest.param(b"/srv/a ", id="a space at the end"),
        pytest.param(b" ", id="a space alone"),
        pytest.param(b"/srv/sha256:00 /x 0302", id="words that look like fields"),
        pytest.param(b"/srv/caf\xe9", id="bytes that are no UTF-8"),
        pytest.param(b"/srv/\r\x0b\x85\x1b[2J", id="control characters"),
    ],
)
@pytest.mark.parametrize("template", ["ima", "ima-ng", "ima-sig", "ima-buf"])
def test_a_name_with_spaces_stays_one_name(template: str, path: bytes) -> None:
    base = ima.EXAMPLES[template]
    fields = ImaFields(
        algorithm=base.algorithm, digest=base.digest, path=path, signature=base.signature, buffer=base.buffer
    )
    entry = ima.entry(template, fields)
    assert parse_ima_text(ima.text([entry])) == (entry,)


def test_an_unsigned_file_has_a_space_at_the_end() -> None:
    entry = ima.entry("ima-sig", ima.FILE)
    assert ima.text([entry]).endswith(b"/usr/bin/tool \n")
    assert parse_ima_text(ima.text([entry])) == (entry,)


def test_the_last_line_needs_no_newline() -> None:
    entries = ima.examples()
    assert parse_ima_text(ima.text(entries).rstrip(b"\n")) == entries


def test_a_name_made_to_look_like_an_entry_is_refused_for_its_digest() -> None:
    forged = ima.line(ima.entry("ima-ng", ImaFields(algorithm="sha256", digest=bytes(31) + b"\1", path=b"/bin/sh")))
    entry = ima.entry("ima-ng", ImaFields(algorithm="sha256", digest=ima.FILE.digest, path=b"/x\n" + forged.rstrip()))
    with pytest.raises(MalformedInput, match="entry 0: its template digest is not the sha1 of its data"):
        parse_ima_text(ima.text([entry]))


def test_a_name_with_a_newline_is_refused_with_what_to_do() -> None:
    with pytest.raises(MalformedInput, match=r"line 2: b'b .* is no entry") as refused:
        parse_ima_text(ima.text([named(b"/a\nb")]).replace(b"/a\n", b"/a \n"))
    assert "take the binary list" in refused.value.remedy


DIGEST = b"ab" * 20


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"", "is empty", id="nothing"),
        pytest.param(b"\n", "line 1: b'' is no entry", id="an empty line"),
        pytest.param(b"10 abcd ima-ng sha1:00 /x", "is no entry", id="a digest that is too short"),
        pytest.param(b"10 " + b"ab" * 21 + b" ima-ng sha1:00 /x", "is no entry", id="a digest of no bank"),
        pytest.param(b"10 " + DIGEST.upper() + b" ima-ng sha1:00 /x", "is no entry", id="upper case"),
        pytest.param(b"24 " + DIGEST + b" ima-ng sha1:00 /x", "PCR 24", id="a PCR that is none"),
        pytest.param(b"10 " + DIGEST + b" ima-xx sha1:00 /x", "unknown template 'ima-xx'", id="an unknown template"),
        pytest.param(b"10 " + DIGEST + b" ima-ng sha1:00 /x", "1 bytes, which no sha1 has", id="a short digest"),
        pytest.param(b"10 " + DIGEST + b" ima-ng " + DIGEST, "has 1 words", id="no name"),
        pytest.param(b"10 " + DIGEST + b" ima-ng " + DIGEST + b" /x", "no digest with its algo", id="no algorithm"),
        pytest.param(b"10 " + DIGEST + b" ima-ng sha1:" + DIGEST + b"\0 /x", "no digest", id="a NUL in a digest"),
        pytest.param(b"10 " + DIGEST + b" ima-ng sha1:" + DIGEST + b" /\0", "only NUL", id="a NUL in a name"),
        pytest.param(b"10 " + DIGEST + b" ima-sig sha1:" + DIGEST + b" /x 0g", "not hexadecimal", id="no signature"),
        pytest.param(b"10 " + DIGEST + b" sig 00 00", "has 2 words", id="a surplus word and no name"),
        pytest.param(b"10 " + DIGEST + b" n|iuid /x -1", "no number of 4 bytes", id="a negative number"),
        pytest.param(b"10 " + DIGEST + b" n|imode /x 65536", "no number of 2 bytes", id="a number that is too large"),
        pytest.param(b"10 " + DIGEST + b" ima " + b"ab" * 16 + b" /x", "cut off", id="a legacy digest of MD5"),
    ],
)
def test_a_line_that_is_no_entry_is_refused_by_name(raw: bytes, problem: str) -> None:
    with pytest.raises(MalformedInput, match=problem):
        parse_ima_text(raw)


def test_a_hostile_list_is_refused_at_once() -> None:
    with pytest.raises(MalformedInput, match=f"more than {MAX_IMA_LOG} bytes"):
        parse_ima_text(b"\n" * 100_000_000)


def test_a_list_may_have_as_many_bytes_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ima.text([named(b"/x")])
    monkeypatch.setattr("nodeseal.ima.text.MAX_IMA_LOG", len(raw))
    assert len(parse_ima_text(raw)) == 1
    with pytest.raises(MalformedInput, match=f"more than {len(raw)} bytes"):
        parse_ima_text(raw + b"\n")


def test_too_many_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeseal.ima.text.MAX_IMA_ENTRIES", 2)
    assert len(parse_ima_text(ima.text([named(b"/x")] * 2))) == 2
    with pytest.raises(MalformedInput, match="more than 2 entries"):
        parse_ima_text(ima.text([named(b"/x")] * 3))


def test_a_list_shows_by_its_first_line() -> None:
    assert looks_like_ima_text(ima.text(ima.examples()))
    assert not looks_like_ima_text(ima.log(ima.examples()))
    assert not looks_like_ima_text(b"")
    assert not looks_like_ima_text(b"format: nodeseal/golden/1\n")


@given(st.binary(max_size=300).map(lambda raw: b"10 " + DIGEST + b" ima-sig sha256:" + b"00" * 32 + b" " + raw))
def test_any_line_is_parsed_as_it_prints_or_refused(raw: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        assert ima.text(list(ima_text_entries(raw))).rstrip(b"\n") == raw.rstrip(b"\n")
