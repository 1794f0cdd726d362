"""Certificates of a synthetic vendor pass the verifier's own check of endorsement chains."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from nodeseal.crypto.endorsement import certified_form, verify_ek_chain
from nodeseal.crypto.keys import public_of_key
from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.crypto.tpm_vendor import VendorKeys, create_vendor, issue_ek_certificate, pem_to_der
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.tpm.public import TpmPublic
from nodeseal.x509.certificate import Certificate, decode_certificate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendor() -> VendorKeys:
    return create_vendor("test vendor", NOW)


def _certificates(vendor: VendorKeys, ek: TpmPublic) -> tuple[Certificate, Certificate, Certificate]:
    raw = (issue_ek_certificate(vendor, ek, NOW), pem_to_der(vendor.intermediate_pem), pem_to_der(vendor.root_pem))
    leaf, intermediate, root = map(decode_certificate, raw)
    return leaf, intermediate, root


KEYS: dict[str, Callable[[], PublicKeyTypes]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()).public_key(),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()).public_key(),
    "RSA": lambda: rsa.generate_private_key(65537, 2048).public_key(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_certificate_passes_the_verifiers_check(vendor: VendorKeys, kind: str) -> None:
    ek = public_of_key(KEYS[kind]())
    leaf, intermediate, root = _certificates(vendor, ek)
    chain = verify_ek_chain(leaf, [intermediate], [root], NOW + timedelta(days=3000))
    assert chain.key == certified_form(ek)


def test_another_vendors_root_does_not_do(vendor: VendorKeys) -> None:
    ek = public_of_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    leaf, intermediate, _ = _certificates(vendor, ek)
    _, _, other = _certificates(create_vendor("test vendor", NOW), ek)
    with pytest.raises(ProofFailed):
        verify_ek_chain(leaf, [intermediate], [other], NOW)


def test_the_certificate_ends(vendor: VendorKeys) -> None:
    ek = public_of_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    leaf, intermediate, root = _certificates(vendor, ek)
    with pytest.raises(ProofFailed, match="expired"):
        verify_ek_chain(leaf, [intermediate], [root], NOW + timedelta(days=3651))


def test_no_secret_is_in_the_text_of_keys(vendor: VendorKeys) -> None:
    assert repr(vendor) == "VendorKeys(...)"
    assert repr(SyntheticKey()) == "SyntheticKey(...)"


def test_agreement_with_a_point_off_the_curve_is_refused() -> None:
    with pytest.raises(MalformedInput, match="P-256"):
        SyntheticKey().agree(bytes(31) + b"\1", bytes(31) + b"\1")
