"""Folders of vendors' certificates: all that is there is read or told."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.verifier.enrolment.explanation import vendor_lines
from nodeseal.verifier.enrolment.vendors import Vendors, ending, load_vendors, makers, sort_vendors
from nodeseal.x509.certificate import decode_certificate
from support import certificates as made
from support.certificates import AT, INTERMEDIATE, ROOT, name, oid, sequence, tlv

ROOT_DER, INTERMEDIATE_DER = made.root(), made.intermediate()


def pem(*certificates: bytes) -> bytes:
    return b"text\n" + b"more\n".join(ssl.DER_cert_to_PEM_cert(each).encode() for each in certificates)


def test_certificates_are_read_from_pem_and_der_and_count_once() -> None:
    vendors = sort_vendors({"bundle.pem": pem(ROOT_DER, INTERMEDIATE_DER), "b.der": INTERMEDIATE_DER + b"\n"})
    assert vendors.roots == (decode_certificate(ROOT_DER),)
    assert vendors.intermediates == (decode_certificate(INTERMEDIATE_DER),)
    assert vendors.sources[INTERMEDIATE_DER] == "bundle.pem"
    assert vendors.left_out == ()


def test_names_that_read_the_same_make_a_root() -> None:
    root = made.root(replace(ROOT, issuer=name("ROOT")))
    assert sort_vendors({"a": root}).roots == (decode_certificate(root),)


@pytest.mark.parametrize(
    ("file", "trusted"),
    [
        ("anchors/factory.cer", True),
        ("amd/anchors/deep/factory.cer", True),
        ("amd/factory.cer", False),
        ("amd/anchors", False),
        ("Anchors/factory.cer", False),
    ],
)
def test_only_below_anchors_is_a_certificate_trusted_that_another_issued(file: str, trusted: bool) -> None:  # noqa: FBT001
    vendors = sort_vendors({file: INTERMEDIATE_DER, "also here.cer": INTERMEDIATE_DER})
    assert (len(vendors.roots), len(vendors.intermediates)) == ((1, 0) if trusted else (0, 1))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "no certificate in it", id="empty"),
        pytest.param(b"text", "certificate is missing", id="text"),
        pytest.param(pem(ROOT_DER)[:-9], "has no end", id="no end"),
        pytest.param(pem(ROOT_DER).replace(b"M", b"!", 1), "PEM: ", id="not base64"),
        pytest.param(INTERMEDIATE_DER[:-1], "cut off", id="cut"),
    ],
)
def test_a_file_without_certificates_is_told_and_stops_nothing(raw: bytes, message: str) -> None:
    vendors = sort_vendors({"bad.pem": raw, "good.der": ROOT_DER})
    assert len(vendors.roots) == 1
    assert set(vendors.files) == {"good.der"}
    assert [(each.name, message in each.reason) for each in vendors.left_out] == [("bad.pem", True)]


def test_of_a_bundle_the_certificates_count_that_can_be_read() -> None:
    vendors = sort_vendors({"bundle.pem": pem(ROOT_DER, b"\x30\x00", INTERMEDIATE_DER)})
    assert (len(vendors.roots), len(vendors.intermediates), len(vendors.files)) == (1, 1, 1)
    assert str(vendors.left_out[0]).startswith("bundle.pem: certificate 2 of 3: ")


def written(folder: Path, *names: str) -> Path:
    for number, file in enumerate(names):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.intermediate(replace(INTERMEDIATE, serial=made.integer(number))))
    return folder


def test_every_suffix_in_any_case_and_at_any_depth_counts(tmp_path: Path) -> None:
    names = [
        "a.cer",
        "b.CER",
        "c.crt",
        "d.Crt",
        "e.pem",
        "f.PEM",
        "g.der",
        "h.DER",
        "x/y/z/i.cer",
        "x/with space (1).cer",
    ]
    vendors = load_vendors(written(tmp_path, *names), "ek_roots")
    assert sorted(vendors.files) == sorted(names)
    assert len(vendors.intermediates) == len(names)
    assert vendors.left_out == ()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)


def a_text(path: Path) -> None:
    path.with_suffix(".txt").write_text("hello")


def a_linked_folder(path: Path) -> None:
    path.with_suffix("").symlink_to(path.parent)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_pipe, "not a regular file"),
        (a_broken_link, "No such file"),
        (a_huge_file, "16777217 bytes, at most 16777216"),
        (a_text, "not a certificate by its name (.pem, .crt, .cer, .der)"),
        (a_linked_folder, "a link to a folder is not followed"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(written(tmp_path, "good.cer") / "odd.cer")
    vendors = load_vendors(tmp_path, "ek_roots")
    assert len(vendors.intermediates) == 1
    (left_out,) = vendors.left_out
    assert left_out.name.startswith("odd")
    assert reason in left_out.reason
    assert str(tmp_path) not in str(left_out)


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "good.cer", "secret/other.cer")
    scandir = os.scandir

    def refusing(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert list(map(str, load_vendors(tmp_path, "ek_roots").left_out)) == ["secret: Permission denied"]


def test_a_folder_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match=r"^enrolment\.ek_roots: .*/nowhere: no such folder"):
        load_vendors(tmp_path / "nowhere", "enrolment.ek_roots")


def of(organisation: str) -> bytes:
    return sequence(tlv(0x31, sequence(oid("2.5.4.10"), tlv(0x0C, organisation.encode()))))


def some_vendors() -> Vendors:
    return sort_vendors(
        {
            "r": made.root(replace(ROOT, subject=of("Zeta AG"), issuer=of("Zeta AG"), not_after="20260401000000Z")),
            "s": made.root(),
            "i": made.intermediate(replace(INTERMEDIATE, subject=of("Zeta AG"), not_after="20251231000000Z")),
            "j": made.intermediate(replace(INTERMEDIATE, subject=of("alpha"), not_after="20270401000000Z")),
        }
    )


def test_vendors_are_counted_by_maker() -> None:
    assert makers(some_vendors()) == (
        "alpha (0 roots, 1 intermediate)",
        "Root (1 root, 0 intermediates)",
        "Zeta AG (1 root, 1 intermediate)",
    )


def test_an_authority_without_an_organisation_counts_for_its_issuers() -> None:
    vendors = sort_vendors({"i": made.intermediate(replace(INTERMEDIATE, issuer=of("Zeta AG")))})
    assert makers(vendors) == ("Zeta AG (0 roots, 1 intermediate)",)


def test_certificates_that_end_within_a_year_are_named_first_the_first_one() -> None:
    assert ending(some_vendors(), AT) == ("2025-12-31 Zeta AG (i)", "2026-04-01 Zeta AG (r)")
    assert ending(some_vendors(), datetime(2024, 1, 1, tzinfo=UTC)) == ()


def test_a_long_list_is_cut_and_counted_and_obeyed_by_no_terminal() -> None:
    vendors = sort_vendors({"\x1b[2J.pem": b"", **{f"{number:02}.pem": b"" for number in range(24)}})
    lines = vendor_lines(vendors, AT)
    assert lines[0] == "vendors:  0 roots, 0 intermediates; no TPM is trusted by its certificate"
    assert lines[1:3] == ("left out: 25", r"  \x1b[2J.pem: there is no certificate in it")
    assert lines[-1] == "  and 5 more"
    assert len(lines) == 23
