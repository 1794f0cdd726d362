from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodeseal.crypto.authority import BACK_DATED, CertificateAuthority
from nodeseal.crypto.tls_identity import PeerIdentity, PeerKind, peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key, requested_key
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


def _request(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_strong_curves_are_accepted(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert requested_key(_request(key)) == key.public_key()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()), id="P-224"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
    ],
)
def test_other_keys_are_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    with pytest.raises(ProofFailed, match=r"tls\.request"):
        requested_key(_request(key))


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


def test_huge_input_is_not_parsed() -> None:
    for read in requested_key, peer_identity:
        with pytest.raises(MalformedInput, match="20001 bytes, at most 16384"):
            read(b"\x30" + bytes(20_000))


@pytest.mark.parametrize("raw", [b"", b"\x30\x00"], ids=["empty", "bare"])
def test_what_is_not_a_request_or_certificate_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="certificate request"):
        requested_key(raw)
    with pytest.raises(MalformedInput, match="peer certificate"):
        peer_identity(raw)


@pytest.mark.parametrize("host", ["exämple.org"])
def test_a_host_that_is_no_dns_name_is_malformed(
    authority: CertificateAuthority, request_der: bytes, host: str
) -> None:
    with pytest.raises(MalformedInput, match="host"):
        authority.issue_verifier(request_der, DOMAIN, [host], AT, DAY)


def _certificate(names: list[x509.GeneralName], usages: list[x509.ObjectIdentifier]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT)
        .not_valid_after(AT + DAY)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


_URI = x509.UniformResourceIdentifier
_NODE_URI = f"spiffe://{DOMAIN}/node/{NODE}"
_CLIENT = [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_good_case_of_the_refusals_below_is_good() -> None:
    assert peer_identity(_certificate([_URI(_NODE_URI)], _CLIENT)).name == NODE


@pytest.mark.parametrize(
    ("names", "usages"),
    [
        pytest.param([], _CLIENT, id="no names"),
        pytest.param([x509.DNSName("a.example")], _CLIENT, id="no URI"),
        pytest.param([_URI(_NODE_URI), _URI(f"spiffe://{DOMAIN}/person/ada")], _CLIENT, id="two URIs"),
        pytest.param([_URI(f"https://{DOMAIN}/node/{NODE}")], _CLIENT, id="another scheme"),
        pytest.param([_URI(f"{DOMAIN}/node/{NODE}")], _CLIENT, id="no scheme"),
        pytest.param([_URI(f"spiffe://spiffe://{DOMAIN}/node/{NODE}")], _CLIENT, id="scheme twice"),
        pytest.param([_URI(f"spiffe://{DOMAIN}/admin/{NODE}")], _CLIENT, id="unknown path"),
        pytest.param([_URI(f"{_NODE_URI}/more")], _CLIENT, id="longer path"),
        pytest.param([_URI(f"{_NODE_URI}?a=b")], _CLIENT, id="query"),
        pytest.param([_URI(f"spiffe://{DOMAIN}/node/")], _CLIENT, id="no name"),
        pytest.param([_URI(f"spiffe://{DOMAIN}/node/n-0")], _CLIENT, id="not a node id"),
        pytest.param([_URI(f"spiffe://{DOMAIN}/person/../x")], _CLIENT, id="dots"),
        pytest.param([_URI(f"spiffe://{DOMAIN.upper()}/node/{NODE}")], _CLIENT, id="upper-case trust domain"),
        pytest.param([_URI(f"spiffe://{DOMAIN}/verifier")], _CLIENT, id="verifier that is a client"),
        pytest.param([_URI(_NODE_URI)], [ExtendedKeyUsageOID.SERVER_AUTH], id="node that is a server"),
        pytest.param([_URI(_NODE_URI)], [*_CLIENT, ExtendedKeyUsageOID.SERVER_AUTH], id="node that is both"),
        pytest.param([_URI(_NODE_URI)], [], id="no extended key usage"),
    ],
)
def test_unusual_certificates_name_nobody(names: list[x509.GeneralName], usages: list[x509.ObjectIdentifier]) -> None:
    with pytest.raises(ProofFailed, match=r"tls\.certificate"):
        peer_identity(_certificate(names, usages))


_RSA_PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize("key_pem", [b"nonsense", b"", _RSA_PEM], ids=["text", "nothing", "RSA"])
def test_a_request_needs_an_ec_key(key_pem: bytes) -> None:
    with pytest.raises(MalformedInput, match="TLS key"):
        certificate_request(key_pem, "x")


def test_a_long_host_name_still_makes_a_request() -> None:
    requested_key(certificate_request(new_tls_key(), "h" * 200))
