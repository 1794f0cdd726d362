"""Boot images: Authenticode digests and the sections of unified kernel images."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.pe import authenticode_digest, decode_pe, inner_kernel, stub_measurements
from support.pe_images import Shape, build_pe, build_uki

SHA256 = HashAlg.SHA256


def _digest(raw: bytes) -> bytes:
    return authenticode_digest(decode_pe(raw), SHA256)


@pytest.mark.parametrize("wide", [True, False], ids=["PE32+", "PE32"])
def test_the_digest_leaves_out_checksum_certificate_entry_and_certificates_and_nothing_else(*, wide: bool) -> None:
    raw = build_pe(shape=Shape(wide=wide, certificates=b"c" * 16))
    optional = 0x80 + 24
    entry = optional + (144 if wide else 128)
    covered = raw[: optional + 64] + raw[optional + 68 : entry] + raw[entry + 8 : -16]
    assert _digest(raw) == hashlib.sha256(covered).digest()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Shape(checksum=7), id="another checksum"),
        pytest.param(Shape(certificates=b"s" * 8), id="signed"),
        pytest.param(Shape(certificates=b"s" * 64, checksum=9), id="signed by two"),
    ],
)
def test_signing_an_image_leaves_its_digest_alone(other: Shape) -> None:
    assert _digest(build_pe(shape=other)) == _digest(build_pe())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(build_pe([(".text", b"Code")]), id="another byte of code"),
        pytest.param(build_pe([(".data", b"code")]), id="another name"),
        pytest.param(build_pe(shape=Shape(trailing=b"x" * 8)), id="bytes behind the sections"),
        pytest.param(build_pe(shape=Shape(directories=4)), id="no certificate entry"),
    ],
)
def test_any_other_change_changes_the_digest(other: bytes) -> None:
    assert _digest(other) != _digest(build_pe())


def test_sections_are_hashed_in_the_order_of_the_file() -> None:
    raw = bytearray(build_pe([(".a", b"1"), (".b", b"2")]))
    table = 0x80 + 24 + 112 + 128
    first, second = raw[table : table + 40], raw[table + 40 : table + 80]
    raw[table : table + 80] = second + first
    optional = 0x80 + 24
    covered = raw[: optional + 64] + raw[optional + 68 : optional + 144] + raw[optional + 152 :]
    assert _digest(bytes(raw)) == hashlib.sha256(covered).digest()


def test_the_stub_measures_names_and_contents_in_its_own_order_but_not_the_signature() -> None:
    image = decode_pe(build_uki(b"kernel", "quiet"))
    measured = list(stub_measurements(image, SHA256))
    assert [name for name, _, _ in measured] == [".linux", ".osrel", ".cmdline", ".initrd", ".uname"]
    assert measured[2][1:] == (hashlib.sha256(b".cmdline\0").digest(), hashlib.sha256(b"quiet").digest())


def test_content_is_as_long_as_in_memory() -> None:
    raw = bytearray(build_pe([(".linux", b"kernel")]))
    table = 0x80 + 24 + 112 + 128
    struct.pack_into("<I", raw, table + 8, 700)
    image = decode_pe(bytes(raw))
    assert image.content(image.sections[0]) == b"kernel".ljust(700, b"\0")


def test_a_section_that_would_fill_memory_with_zeros_is_refused() -> None:
    raw = bytearray(build_pe([(".linux", b"kernel")]))
    struct.pack_into("<I", raw, 0x80 + 24 + 112 + 128 + 8, 0xFFFFFFFF)
    with pytest.raises(MalformedInput, match=r"'\.linux' has 512 bytes of 4294967295"):
        list(stub_measurements(decode_pe(bytes(raw)), SHA256))


def test_a_unified_kernel_image_is_known_by_kernel_and_system_and_gives_the_kernel() -> None:
    kernel = build_pe([(".text", b"kernel")])
    image = decode_pe(build_uki(kernel, "quiet"))
    assert image.unified_kernel
    inner = inner_kernel(image)
    assert inner is not None
    assert inner.raw == kernel
    assert not decode_pe(kernel).unified_kernel


def _patched(offset: int, value: int) -> bytes:
    raw = bytearray(build_pe(shape=Shape(certificates=b"c" * 8)))
    struct.pack_into("<I", raw, offset, value)
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(b"\x7fELF", "MZ", id="another format"),
        pytest.param(_patched(0x3C, 0xFFFFFFFF), "no PE header", id="header outside the file"),
        pytest.param(_patched(0x80, 0), "no PE header", id="no magic"),
        pytest.param(_patched(0x80 + 24, 0x107), "PE32", id="a ROM image"),
        pytest.param(_patched(0x80 + 24 + 60, 0), "headers of 0 bytes", id="no headers"),
        pytest.param(_patched(0x80 + 24 + 60, 1 << 31), "headers of", id="headers beyond the file"),
        pytest.param(_patched(0x80 + 24 + 112 + 128 + 20, 1 << 31), "beyond the file", id="section beyond the file"),
        pytest.param(_patched(0x80 + 24 + 112 + 32, 512), "does not end the file", id="certificates elsewhere"),
        pytest.param(_patched(0x80 + 6, 257), "257 sections", id="too many sections"),
    ],
)
def test_what_is_no_good_image_is_refused_by_name(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode_pe(raw)


def test_an_image_that_is_cut_off_anywhere_is_refused() -> None:
    raw = build_pe(shape=Shape(certificates=b"c" * 8))
    for size in range(len(raw)):
        with pytest.raises(MalformedInput):
            decode_pe(raw[:size])


def test_the_digest_is_the_one_that_another_tool_signs(tmp_path: Path) -> None:
    tool = shutil.which("osslsigncode")
    if tool is None:
        pytest.skip("osslsigncode is not installed")
    key, certificate, plain, signed = (tmp_path / name for name in ("key.pem", "cert.pem", "plain.efi", "signed.efi"))
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2"]
    usage = ["-addext", "extendedKeyUsage=codeSigning"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate), *usage], check=True, capture_output=True)
    plain.write_bytes(build_uki(build_pe(), "quiet"))
    sign = [
        tool,
        "sign",
        "-h",
        "sha256",
        "-certs",
        str(certificate),
        "-key",
        str(key),
        "-in",
        str(plain),
        "-out",
        str(signed),
    ]
    subprocess.run(sign, check=True, capture_output=True)
    said = subprocess.run([tool, "verify", "-in", str(signed)], check=False, capture_output=True, text=True).stdout
    calculated = re.search(r"Calculated message digest *: *([0-9A-F]+)", said)
    assert calculated is not None
    assert _digest(signed.read_bytes()).hex().upper() == calculated[1]
    assert _digest(plain.read_bytes()) == _digest(signed.read_bytes())
