from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodeseal.crypto.authority import BACK_DATED, CertificateAuthority
from nodeseal.crypto.tls_identity import PeerIdentity, PeerKind, peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.findings import FindingId
from nodeseal.ids import NodeId, PersonId

AT = datetime(2026, 5, 17, 12, 30, 15, 999, tzinfo=UTC)
DAY = timedelta(days=1)
NODE = NodeId("n-" + "a" * 26)
DOMAIN = "example.org"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("test authority", AT, 365)


@pytest.fixture(scope="module")
def request_der() -> bytes:
    return certificate_request(new_tls_key(), "ignored")


def test_a_node_certificate_names_the_node(authority: CertificateAuthority, request_der: bytes) -> None:
    der = authority.issue_node(request_der, DOMAIN, NODE, AT, DAY)
    identity = peer_identity(der)
    assert identity == PeerIdentity(
        kind=PeerKind.NODE,
        name=NODE,
        trust_domain=DOMAIN,
        certificate_sha256=x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()),
        not_before=AT.replace(microsecond=0) - BACK_DATED,
        not_after=AT.replace(microsecond=0) + DAY,
    )


def test_a_person_certificate_names_the_person(authority: CertificateAuthority, request_der: bytes) -> None:
    identity = peer_identity(authority.issue_person(request_der, DOMAIN, PersonId("ada"), AT, DAY))
    assert (identity.kind, identity.name) == (PeerKind.PERSON, "ada")


def test_a_verifier_certificate_names_its_hosts(authority: CertificateAuthority, request_der: bytes) -> None:
    der = authority.issue_verifier(request_der, DOMAIN, ["localhost", "127.0.0.1", "::1"], AT, DAY)
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert peer_identity(der).kind is PeerKind.VERIFIER


def test_what_is_issued_can_do_nothing_else(authority: CertificateAuthority, request_der: bytes) -> None:
    node = x509.load_der_x509_certificate(authority.issue_node(request_der, DOMAIN, NODE, AT, DAY))
    server = x509.load_der_x509_certificate(authority.issue_verifier(request_der, DOMAIN, ["a.example"], AT, DAY))
    for certificate in (node, server):
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        assert usage.critical
        assert usage.value.digital_signature
        assert not usage.value.key_cert_sign
        assert constraints.critical
        assert not constraints.value.ca
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate_der))
    usages = [list(c.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) for c in (node, server)]
    assert usages == [[ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.SERVER_AUTH]]


def test_certificates_begin_a_little_in_the_past(authority: CertificateAuthority, request_der: bytes) -> None:
    certificate = x509.load_der_x509_certificate(authority.issue_node(request_der, DOMAIN, NODE, AT, DAY))
    assert certificate.not_valid_before_utc == AT.replace(microsecond=0) - BACK_DATED


def test_no_certificate_outlives_the_authority(request_der: bytes) -> None:
    authority = CertificateAuthority.create("short", AT, 1)
    identity = peer_identity(authority.issue_node(request_der, DOMAIN, NODE, AT, 9 * DAY))
    assert identity.not_after == AT.replace(microsecond=0) + DAY
    with pytest.raises(Unavailable, match="run out"):
        authority.issue_node(request_der, DOMAIN, NODE, AT + DAY, DAY)


def test_an_authority_survives_storage(authority: CertificateAuthority, request_der: bytes) -> None:
    loaded = CertificateAuthority.load(authority.certificate_pem, authority.private_key_pem())
    assert loaded.certificate_der == authority.certificate_der
    assert to_pem(loaded.certificate_der) == authority.certificate_pem
    peer_identity(loaded.issue_node(request_der, DOMAIN, NODE, AT, DAY))


def test_an_authority_does_not_show_its_key(authority: CertificateAuthority) -> None:
    assert repr(authority) == "CertificateAuthority('CN=test authority')"


def test_an_authority_signs_for_itself_only(authority: CertificateAuthority) -> None:
    constraints = x509.load_der_x509_certificate(authority.certificate_der).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def _leaf_and_key(authority: CertificateAuthority) -> tuple[bytes, bytes]:
    key = new_tls_key()
    return to_pem(authority.issue_node(certificate_request(key, "x"), DOMAIN, NODE, AT, DAY)), key


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("not PEM", ""),
        ("key of another", "does not belong"),
        ("not an authority", "may not sign"),
        ("RSA key", "is not on P-256"),
        ("P-224 key", "is not on P-256"),
    ],
)
def test_a_broken_authority_is_refused(authority: CertificateAuthority, case: str, message: str) -> None:
    certificate, key = authority.certificate_pem, authority.private_key_pem()
    match case:
        case "not PEM":
            certificate = b"nonsense"
        case "key of another":
            key = new_tls_key()
        case "not an authority":
            certificate, key = _leaf_and_key(authority)
        case "RSA key":
            key = rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        case "P-224 key":
            key = ec.generate_private_key(ec.SECP224R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
    with pytest.raises(MalformedInput, match=f"certificate authority.*{message}"):
        CertificateAuthority.load(certificate, key)


def test_a_request_that_its_key_did_not_sign_is_refused(authority: CertificateAuthority, request_der: bytes) -> None:
    other = certificate_request(new_tls_key(), "ignored")
    mine, theirs = x509.load_der_x509_csr(request_der), x509.load_der_x509_csr(other)
    key, foreign = (
        k.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        for k in (mine, theirs)
    )
    forged = request_der.replace(key, foreign)
    with pytest.raises(ProofFailed) as refused:
        authority.issue_node(forged, DOMAIN, NODE, AT, DAY)
    assert [finding.id for finding in refused.value.findings] == [FindingId.TLS_REQUEST]


def test_names_in_a_request_are_ignored(authority: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "verifier")]))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/verifier")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    identity = peer_identity(authority.issue_node(request, DOMAIN, NODE, AT, DAY))
    assert (identity.kind, identity.name) == (PeerKind.NODE, NODE)


def test_a_time_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        CertificateAuthority.create("test", AT.replace(tzinfo=None), 1)


@pytest.mark.parametrize("host", ["exämple.org"])
def test_a_host_that_is_no_dns_name_is_malformed(
    authority: CertificateAuthority, request_der: bytes, host: str
) -> None:
    with pytest.raises(MalformedInput, match="host"):
        authority.issue_verifier(request_der, DOMAIN, [host], AT, DAY)
