from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from nodeseal.crypto.tls_identity import peer_identity
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.ids import NodeId

AT = datetime(2026, 5, 17, 12, 30, 15, 999, tzinfo=UTC)
DAY = timedelta(days=1)
NODE = NodeId("n-" + "a" * 26)
DOMAIN = "example.org"


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


def test_a_huge_certificate_is_not_parsed() -> None:
    with pytest.raises(MalformedInput, match="20001 bytes, at most 16384"):
        peer_identity(b"\x30" + bytes(20_000))


@pytest.mark.parametrize("raw", [b"", b"\x30\x00"], ids=["empty", "bare"])
def test_what_is_not_a_certificate_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedInput, match="peer certificate"):
        peer_identity(raw)
