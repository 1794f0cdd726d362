"""Chains of real vendors, with OpenSSL's command as an independent judge of each.

Both look for a path from each certificate to the self-issued ones. They may differ only where this verifier refuses on
purpose (SHA-1), and where OpenSSL does not load a certificate that a vendor wrote against the rules.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeseal.crypto.endorsement import ExaminedChain, Oddity, examine_ek_chain
from nodeseal.findings import FindingId
from nodeseal.verifier.enrolment.vendors import Vendors, load_vendors, sort_vendors
from nodeseal.x509.certificate import Certificate, decode_certificate, name_text
from support.data import shared_data
from support.machines import need
from support.vendor_certificates import every_certificate

SHA1 = ("1.2.840.113549.1.1.5", "1.2.840.10045.4.1")
NO_TIME = datetime(2024, 1, 1, tzinfo=UTC)
ABOUT_THE_PATH = (FindingId.EK_UNTRUSTED_ROOT, FindingId.EK_SIGNATURE)


@pytest.fixture(scope="module")
def vendors() -> Vendors:
    return load_vendors(shared_data("vendor-ca"), "vendor-ca")


@pytest.fixture(scope="module")
def everybody(vendors: Vendors) -> tuple[Certificate, ...]:
    leaves = [decode_certificate(raw) for _, raw in every_certificate("ek-certs")]
    return (*vendors.intermediates, *leaves)


def path_of(certificate: Certificate, vendors: Vendors) -> ExaminedChain:
    return examine_ek_chain(certificate, vendors.intermediates, vendors.roots, NO_TIME)


def test_no_file_of_the_vendors_is_left_out_but_texts(vendors: Vendors) -> None:
    assert [each for each in vendors.left_out if "by its name" not in each.reason] == []
    assert len(vendors.roots) > 20
    assert len(vendors.intermediates) > 40


def test_names_in_other_bytes_chain_to_a_root_that_another_one_issued() -> None:
    chains = load_vendors(shared_data("ek-chains"), "ek-chains")
    assert {Path(name).suffix for name in chains.files} == {".CER", ".crt", ".der"}
    assert (chains.left_out, chains.roots, len(chains.intermediates)) == ((), (), 3)
    anchored = sort_vendors(
        {f"anchors/{name}" if "root" in name else name: content for name, content in chains.files.items()}
    )
    (anchor,) = anchored.roots
    (below,) = (each for each in anchored.intermediates if "ECC Intermediate CA 02" in name_text(each.subject))
    assert below.issuer != anchor.subject
    chain = path_of(below, anchored)
    assert (chain.complete, chain.path, chain.oddities) == (True, (below, anchor), (Oddity.NAMES_BY_TEXT,))
    assert not path_of(below, chains).complete


def test_openssl_and_this_verifier_find_the_same_paths(
    vendors: Vendors, everybody: Sequence[Certificate], tmp_path: Path
) -> None:
    need("openssl")
    judge = Openssl(tmp_path, vendors)
    disputed, agreed = [], 0
    for certificate in everybody:
        ours, theirs = path_of(certificate, vendors).complete, judge.finds_a_path(certificate)
        agreed += ours and theirs
        if ours != theirs and not _known(certificate, vendors, ours=ours):
            disputed.append(f"{name_text(certificate.subject)}: {'found' if ours else 'not found'} here alone")
    assert disputed == []
    assert agreed > 30


def _known(certificate: Certificate, vendors: Vendors, *, ours: bool) -> bool:
    """Tell whether a difference is meant."""
    if ours:
        return False
    return any(each.algorithm.oid in SHA1 for each in path_of(certificate, vendors).path)


class Openssl:
    """``openssl verify``, without validity and purposes: names, signatures, CA flags and path lengths."""

    def __init__(self, folder: Path, vendors: Vendors) -> None:
        self._folder = folder
        self._roots, self._others = folder / "roots.pem", folder / "others.pem"
        self._roots.write_text("".join(map(_pem, vendors.roots)))
        self._others.write_text("".join(map(_pem, vendors.intermediates)))

    def finds_a_path(self, certificate: Certificate) -> bool:
        subject = self._folder / "subject.pem"
        subject.write_text(_pem(certificate))
        command = [
            *("openssl", "verify", "-no_check_time", "-ignore_critical", "-auth_level", "0"),
            *("-trusted", str(self._roots), "-untrusted", str(self._others), str(subject)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode == 0


def _pem(certificate: Certificate) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate.raw)
