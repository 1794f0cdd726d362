"""Template data: every field comes out as it went in, and nothing is split in the wrong place."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.ima.hash import KERNEL_HASHES, KERNEL_HASHES_BY_NAME, KernelHash
from nodeseal.ima.template import ImaFields, encode_template, measured_path, parse_template, template_fields
from support import ima

PATHS = st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"/"))


@pytest.mark.parametrize("template", ima.EXAMPLES)
def test_every_template_survives(template: str) -> None:
    fields = ima.EXAMPLES[template]
    assert parse_template(template, encode_template(template, fields)) == fields


@pytest.mark.parametrize("template", ima.EXAMPLES)
def test_data_cut_anywhere_or_one_byte_longer_is_refused(template: str) -> None:
    raw = encode_template(template, ima.EXAMPLES[template])
    for size in range(len(raw)):
        with pytest.raises(MalformedInput, match="is cut off"):
            parse_template(template, raw[:size])
    for tail in (b"\0", b"\xff"):
        with pytest.raises(MalformedInput, match="1 bytes too many"):
            parse_template(template, raw + tail)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/srv/a file (deleted)", id="spaces"),
        pytest.param(b"/srv/a\n10 00 ima-ng sha1:00 /bin/sh", id="a newline and what looks like an entry"),
        pytest.param(b"/srv/caf\xe9", id="bytes that are no UTF-8"),
        pytest.param("/srv/模型".encode(), id="UTF-8"),
        pytest.param(b"/srv/\x1b[2J", id="an escape sequence"),
        pytest.param(b"/" + b"x" * 4095, id="as long as a path can be"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_path_is_any_bytes_but_nul(path: bytes) -> None:
    fields = ImaFields(algorithm="sha256", digest=ima.FILE.digest, path=path)
    parsed = parse_template("ima-sig", encode_template("ima-sig", fields))
    assert parsed == fields
    assert parsed.path_text.encode("utf-8", "surrogateescape") == path


def _field(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


DIGEST = b"sha256:\0" + bytes(range(32))


@pytest.mark.parametrize(
    ("template", "data", "problem"),
    [
        pytest.param("ima-xx", b"", "unknown template 'ima-xx'", id="an unknown template"),
        pytest.param("d-ng|path", b"", r"unknown template 'd-ng\|path'", id="an unknown field"),
        pytest.param("d-ng|d-ng", b"", "has a field twice", id="a field twice"),
        pytest.param("d-ng|d", b"", "has a field twice", id="two digests"),
        pytest.param("n-ng|n", b"", "has a field twice", id="two names"),
        pytest.param("d-ng|", b"", "unknown template", id="a field without a name"),
        pytest.param("ima-ng", _field(DIGEST, b"/x"), "does not end with its only NUL", id="a name without its NUL"),
        pytest.param("ima-ng", _field(DIGEST, b""), "does not end with its only NUL", id="no name"),
        pytest.param("ima-ng", _field(DIGEST, b"/x\0/y\0"), "its only NUL", id="a name with a NUL inside"),
        pytest.param("ima", bytes(20) + _field(b"/x\0"), "its only NUL", id="a legacy name with a NUL"),
        pytest.param("ima-ng", _field(DIGEST[:-1], b"/x\0"), "31 bytes, which no sha256 has", id="a short digest"),
        pytest.param("ima-ng", _field(b"what:\0", b"/x\0"), "0 bytes, which no what has", id="no digest"),
        pytest.param("ima-ng", _field(b"what:\0" + bytes(65), b"/x\0"), "65 bytes", id="an endless digest"),
        pytest.param("ima-ng", _field(b":\0" + bytes(20), b"/x\0"), "without the name of its algo", id="no algorithm"),
        pytest.param("ima-ng", _field(b"x" * 65 + b":\0\1", b"/x\0"), "without the name", id="an endless algorithm"),
        pytest.param("ima-ng", _field(b"sha256:" + bytes(32), b"/x\0"), "31 bytes", id="no NUL before a digest"),
        pytest.param("ima-ng", _field(b"a b:\0" + bytes(32), b"/x\0"), "without the name", id="a space in its name"),
        pytest.param("ima-ngv2", _field(b"disk:" + DIGEST, b"/x\0"), "type of digest 'disk'", id="an unknown type"),
        pytest.param("ima-ngv2", _field(DIGEST, b"/x\0"), "type of digest 'sha256'", id="no type"),
        pytest.param("d|n", _field(bytes(32), b"/x\0"), "32 bytes, which the field d cannot", id="a long old digest"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(template: str, data: bytes, problem: str) -> None:
    with pytest.raises(MalformedInput, match=problem):
        parse_template(template, data)


def test_a_violation_has_a_digest_of_zeros_whatever_its_algorithm() -> None:
    fields = ImaFields(algorithm="sha512", digest=bytes(20), path=b"/x")
    assert parse_template("ima-ng", encode_template("ima-ng", fields)) == fields


@pytest.mark.parametrize(("algorithm", "size"), [("sha4-256", 32), ("x", 1), ("y" * 64, 64)])
def test_an_algorithm_that_nobody_knows_is_told_as_it_is(algorithm: str, size: int) -> None:
    fields = ImaFields(algorithm=algorithm, digest=b"\1" * size, path=b"/x")
    assert parse_template("ima-ng", encode_template("ima-ng", fields)) == fields


def test_the_old_digest_field_tells_its_algorithm_by_its_size() -> None:
    assert parse_template("d", _field(bytes(16))).algorithm == "md5"
    assert parse_template("d", _field(bytes(20))).algorithm == "sha1"


def test_a_template_spelled_out_has_the_fields_it_names() -> None:
    assert template_fields("n-ng|sig|d-ng") == ("n-ng", "sig", "d-ng")
    assert parse_template("sig", _field(b"")) == ImaFields()


def test_a_file_is_measured_with_underscores_for_its_spaces() -> None:
    assert measured_path(b"/srv/a file (deleted)\xff") == b"/srv/a_file_(deleted)\xff"


def test_hash_numbers_are_the_kernels() -> None:
    """From include/uapi/linux/hash_info.h."""
    numbers = {"md5": 1, "sha1": 2, "sha256": 4, "sha384": 5, "sha512": 6, "sha224": 7, "sm3": 17, "sha3-512": 22}
    assert {name: KERNEL_HASHES_BY_NAME[name].number for name in numbers} == numbers
    assert [each.number for each in KERNEL_HASHES] == list(range(23))


@given(st.sampled_from(["ima-ng", "ima-sig", "n-ng|d-ng"]), PATHS, st.sampled_from(KERNEL_HASHES))
def test_any_path_and_algorithm_survive(template: str, path: bytes, row: KernelHash) -> None:
    fields = ImaFields(algorithm=row.name, digest=b"\xab" * row.size, path=path)
    assert parse_template(template, encode_template(template, fields)) == fields
