from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import CurveId
from nodeseal.x509.certificate import Certificate, EcKey, RsaKey, decode_certificate, name_text, split_certificates
from nodeseal.x509.extensions import BasicConstraints, KeyUsage, TpmModel
from support import certificates as made
from support.certificates import EK, RSA_EK, ec_key, extension, integer, name, oid, rsa_key, sequence, tlv
from support.vendor_certificates import ek_certificate, every_certificate


def ek(facts: made.Facts = EK) -> Certificate:
    return decode_certificate(made.ek_certificate(facts))


def test_all_fields_are_read() -> None:
    certificate = ek()
    point = ec_key("ek").public_key().public_numbers()
    assert certificate.key == EcKey(CurveId.P256, point.x, point.y)
    assert certificate.serial == 7
    assert (certificate.not_before.year, certificate.not_after.year) == (2025, 2035)
    assert (certificate.issuer, certificate.subject) == (name("Intermediate"), sequence())
    assert certificate.algorithm.oid == "1.2.840.10045.4.3.2"
    assert certificate.signed == EK.signed_part()
    extensions = certificate.extensions
    assert extensions.basic_constraints == BasicConstraints(ca=False, path_length=None)
    assert extensions.key_usage == frozenset({KeyUsage.KEY_AGREEMENT})
    assert extensions.extended_key_usage == frozenset({"2.23.133.8.1"})
    assert extensions.tpm_model == TpmModel(manufacturer="id:4E534C00", model="Test", version="id:00010002")
    assert [entry.critical for entry in extensions.entries] == [True, True, False, True]


def test_rsa_keys_are_read() -> None:
    numbers = rsa_key("ek").public_key().public_numbers()
    assert ek(RSA_EK).key == RsaKey(numbers.n, numbers.e)


def test_an_authority_is_read() -> None:
    certificate = decode_certificate(made.intermediate())
    assert certificate.extensions.basic_constraints == BasicConstraints(ca=True, path_length=0)
    assert certificate.extensions.key_usage == frozenset({KeyUsage.KEY_CERT_SIGN, 6})


@pytest.mark.parametrize("filler", [b"\0" * 400, b"\xff" * 431, b"\n", b"\xff\0\xff"])
def test_filler_behind_a_certificate_is_dropped(filler: bytes) -> None:
    raw = made.ek_certificate()
    assert decode_certificate(raw + filler).raw == raw


def test_a_certificate_chain_in_nv_is_split() -> None:
    first, second = made.ek_certificate(), made.intermediate()
    assert split_certificates(first + second + bytes(9)) == (first, second)
    assert split_certificates(first + b"\xff" * 9 + second) == (first, second)
    assert split_certificates(b"") == ()


def test_a_chain_without_end_is_refused() -> None:
    with pytest.raises(MalformedInput, match="more than 16"):
        split_certificates(b"\x30\x00" * 17)


def _names(*rdns: bytes) -> bytes:
    return extension("2.5.29.17", sequence(tlv(0xA4, sequence(*rdns))))


def _tpm(kind: int, text: str) -> bytes:
    return sequence(oid(f"2.23.133.2.{kind}"), tlv(0x0C, text.encode()))


def _with(*extensions: bytes) -> made.Facts:
    return replace(EK, extensions=extensions)


_P256 = made.key_info(ec_key("ek"))
_NUMBERS = rsa_key("ek").public_key().public_numbers()
_RSA_BITS = tlv(3, b"\0", sequence(integer(_NUMBERS.n), integer(_NUMBERS.e)))


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(replace(EK, serial=integer(0)), id="serial zero"),
        pytest.param(replace(EK, serial=integer(-5)), id="negative serial"),
        pytest.param(replace(EK, not_after="99991231235959Z"), id="no end"),
        pytest.param(
            replace(EK, issuer=sequence(tlv(0x31, _tpm(2, "zz"), _tpm(1, "a")))), id="SET not in order (Nuvoton)"
        ),
        pytest.param(
            _with(sequence(oid("2.5.29.37"), b"\x01\x01\x00", tlv(4, sequence(oid("1.2.3"))))),
            id="critical FALSE written out (Intel)",
        ),
        pytest.param(
            replace(
                EK, algorithm=replace(made.ECDSA_SHA384, identifier=sequence(oid("1.2.840.10045.4.3.3"), made.NULL))
            ),
            id="NULL parameters for ECDSA (Intel)",
        ),
        pytest.param(
            replace(EK, key=sequence(sequence(oid("1.2.840.113549.1.1.7"), sequence()), _RSA_BITS)), id="RSAES-OAEP key"
        ),
        pytest.param(replace(EK, version=b"", extensions=()), id="version 1"),
        pytest.param(
            replace(EK, version=tlv(0xA0, integer(1)), extensions=(), after=tlv(0x81, b"\0\1") + tlv(0x82, b"\0\1")),
            id="version 2 with unique ids",
        ),
        pytest.param(replace(EK, extensions=()), id="no extensions"),
        pytest.param(_with(_names(tlv(0x31, _tpm(1, "id:1"), _tpm(2, "m"), _tpm(3, "v")))), id="one RDN of three"),
        pytest.param(_with(extension("2.5.29.17", sequence(tlv(0x82, b"host")))), id="DNS name"),
    ],
)
def test_oddities_of_real_certificates_are_accepted(facts: made.Facts) -> None:
    assert ek(facts).signed == facts.signed_part()


def test_tpm_attributes_may_share_one_rdn() -> None:
    facts = _with(_names(tlv(0x31, _tpm(1, "id:1"), _tpm(2, "m"), _tpm(3, "v"))))
    assert ek(facts).extensions.tpm_model == TpmModel(manufacturer="id:1", model="m", version="v")


def _value(identifier: str, raw: str) -> made.Facts:
    return _with(extension(identifier, bytes.fromhex(raw)))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        pytest.param(replace(EK, after=b"\x05\x00"), "2 bytes too many", id="something behind the extensions"),
        pytest.param(replace(EK, version=tlv(0xA0, integer(3))), "version", id="version 4"),
        pytest.param(replace(EK, version=b""), "too many", id="version 1 with extensions"),
        pytest.param(
            replace(EK, algorithm=replace(EK.algorithm, identifier=sequence(oid("1.2.3"), made.NULL, made.NULL))),
            "algorithm: 2 bytes too many",
            id="something behind the algorithm's parameters",
        ),
        pytest.param(replace(EK, algorithm_inside=made.RSA_SHA256.identifier), "not the one outside", id="algorithms"),
        pytest.param(replace(EK, not_after="20350101000000"), "not a time", id="time without zone"),
        pytest.param(_with(made.usage(4), made.usage(4)), "twice", id="an extension twice"),
        pytest.param(_with(*(extension(f"1.2.{i}", b"") for i in range(33))), "one too many", id="33 extensions"),
        pytest.param(_value("2.5.29.15", "0500"), "key usage", id="key usage"),
        pytest.param(_value("2.5.29.15", "030205200500"), "too many", id="bytes behind key usage"),
        pytest.param(_value("2.5.29.19", "30060101ff0201ff"), "path length", id="negative path length"),
        pytest.param(_value("2.5.29.19", "30060101ff020141"), "path length", id="huge path length"),
        pytest.param(_value("2.5.29.19", "30000500"), "too many", id="bytes behind constraints"),
        pytest.param(_value("2.5.29.37", "30020500"), "usage is missing", id="extended usage"),
        pytest.param(
            _with(extension("2.5.29.37", sequence(*(oid(f"1.2.{i}") for i in range(40))))), "more than 32", id="usages"
        ),
        pytest.param(
            _with(extension("2.5.29.17", sequence(*(tlv(0x82, b"h") for _ in range(40))))), "more than 32", id="names"
        ),
        pytest.param(_with(_names(tlv(0x31, _tpm(2, "m" * 129)))), "printable", id="long model"),
        pytest.param(_with(_names(tlv(0x31, _tpm(2, "a\nb")))), "printable", id="model of two lines"),
        pytest.param(
            replace(EK, key=sequence(sequence(oid("1.3.101.112")), tlv(3, bytes(33)))), "1.3.101.112 is", id="Ed25519"
        ),
        pytest.param(
            replace(EK, key=made.key_info(ec_key("bad", ec.SECP256K1()))), "curve 1.3.132.0.10", id="secp256k1"
        ),
        pytest.param(replace(EK, key=_P256.replace(b"\x42\x00\x04", b"\x42\x00\x05")), "uncompressed", id="point"),
        pytest.param(
            replace(EK, key=sequence(sequence(oid("1.2.840.10045.2.1"), sequence()), tlv(3, bytes(66)))),
            "not given by name",
            id="explicit curve",
        ),
        pytest.param(
            replace(
                EK,
                key=sequence(sequence(oid("1.2.840.113549.1.1.1")), tlv(3, b"\0", sequence(integer(-1), integer(3)))),
            ),
            "positive",
            id="negative modulus",
        ),
        pytest.param(
            replace(
                EK, key=sequence(sequence(oid("1.2.840.113549.1.1.1")), tlv(3, b"\0", sequence(integer(1), integer(0))))
            ),
            "positive",
            id="exponent zero",
        ),
        pytest.param(
            replace(
                EK,
                key=sequence(
                    sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), tlv(3, b"\0\4", bytes(63))
                ),
            ),
            "size",
            id="short point",
        ),
    ],
)
def test_what_does_not_decode_is_refused(facts: made.Facts, message: str) -> None:
    with pytest.raises(MalformedInput, match=message):
        ek(facts)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param((), id="signature"),
        pytest.param((0, 0), id="version"),
        pytest.param((0, 4), id="validity"),
        pytest.param((0, 6), id="public key"),
        pytest.param((0, 6, 1), id="RSA key"),
        pytest.param((0, 6, 1, 0), id="RSA exponent"),
        pytest.param((0, 7), id="extensions"),
        pytest.param((0, 7, 0, 0), id="one extension"),
        pytest.param((0, 7, 0, 0, 2), id="basic constraints"),
        pytest.param((0, 7, 0, 0, 2, 0), id="basic constraints' fields"),
        pytest.param((0, 7, 0, 1, 2), id="key usage"),
        pytest.param((0, 7, 0, 2, 1), id="extended key usage"),
        pytest.param((0, 7, 0, 3, 2), id="alternative names"),
        pytest.param((0, 7, 0, 3, 2, 0, 0), id="directory name"),
        pytest.param((0, 7, 0, 3, 2, 0, 0, 0, 0, 0), id="attribute"),
    ],
)
def test_something_behind_a_field_is_refused(path: tuple[int, ...]) -> None:
    with pytest.raises(MalformedInput, match="2 bytes too many"):
        decode_certificate(made.grow(made.ek_certificate(RSA_EK), *path))


def test_something_behind_the_curve_is_refused() -> None:
    with pytest.raises(MalformedInput, match="2 bytes too many"):
        decode_certificate(made.grow(made.ek_certificate(), 0, 6, 0))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(name("Root"), "Root", id="a common name"),
        pytest.param(sequence(tlv(0x31, _tpm(1, "CH")), tlv(0x31, _tpm(2, "Maker"))), "Maker, CH", id="the last first"),
        pytest.param(sequence(), "(empty name)", id="empty"),
        pytest.param(name("a\nb\x1b[2J"), "a\\nb\\x1b[2J", id="control characters"),
        pytest.param(name("x" * 999), "x" * 160, id="long"),
        pytest.param(b"\x30\x01\x31", "(unreadable)", id="not a name"),
    ],
)
def test_names_are_shown_in_one_safe_line(raw: bytes, expected: str) -> None:
    assert name_text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "0 certificates"),
        (b"\0" * 99, "0 certificates"),
        (b"text", "certificate is missing"),
        (made.ek_certificate() + b"\x01", "certificate is missing"),
        (made.ek_certificate() + made.ek_certificate(), "2 certificates"),
        (tlv(0x30, bytes(17 * 1024)), "cut off"),
    ],
    ids=["nothing", "filler only", "text", "garbage behind", "two", "huge"],
)
def test_what_is_not_one_certificate_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(MalformedInput, match=message):
        decode_certificate(raw)


def test_every_real_certificate_decodes() -> None:
    decoded = [decode_certificate(raw) for _, raw in every_certificate("ek-certs", "vendor-ca")]
    assert len(decoded) == 114


def test_we_read_what_another_reader_reads() -> None:
    refused = set()
    for where, raw in every_certificate("ek-certs", "vendor-ca"):
        mine = decode_certificate(raw)
        try:
            other = x509.load_der_x509_certificate(raw)
        except ValueError as error:
            refused.add((where, str(error).split("kind: ")[1].split(",")[0].rstrip(" }")))
            continue
        assert (mine.signed, mine.signature) == (other.tbs_certificate_bytes, other.signature)
        assert (mine.not_before, mine.not_after) == (other.not_valid_before_utc, other.not_valid_after_utc)
        assert mine.serial == other.serial_number
        assert mine.algorithm.oid == other.signature_algorithm_oid.dotted_string
        assert [entry.oid for entry in mine.extensions.entries] == [e.oid.dotted_string for e in other.extensions]
        _assert_same_key(mine, other)
    assert {kind for _, kind in refused} == {"ExtraData", "InvalidSetOrdering", "EncodedDefault"}
    assert len(refused) == 17


def _assert_same_key(mine: Certificate, other: x509.Certificate) -> None:
    key = other.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        assert mine.key == RsaKey(key.public_numbers().n, key.public_numbers().e)
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        numbers = key.public_numbers()
        assert isinstance(mine.key, EcKey)
        assert (mine.key.x, mine.key.y) == (numbers.x, numbers.y)


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        (
            "stm-rsa-ca06-x1carbon.der",
            TpmModel(manufacturer="id:53544D20", model="ST33HTPHAHD8", version="id:00010102"),
        ),
        ("nuvoton-rsa-malformed-set.der", TpmModel(manufacturer="id:4E544300", model="NPCT75x", version="id:00070002")),
        ("intel-ptt-spth-rsa.der", TpmModel(manufacturer="id:494E5443", model="SPT", version="id:00020000")),
        ("google-vtpm-rsa-ek-v3.der", TpmModel()),
    ],
)
def test_the_model_of_real_tpms_is_read(file_name: str, expected: TpmModel) -> None:
    assert decode_certificate(ek_certificate(file_name)).extensions.tpm_model == expected
