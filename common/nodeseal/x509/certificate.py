"""X.509 certificates (RFC 5280 §4) of endorsement keys and their authorities, as TPM vendors issue them.

Release 50 of ``cryptography`` cannot load some genuine certificates. This reader loads them and keeps the signed bytes;
arithmetic of keys and signatures stays with ``cryptography``. Deviations that it accepts:

========================================  ================================================================
deviation                                 found in
========================================  ================================================================
filler behind the certificate (from NV)   STMicroelectronics (0xFF to 1600 bytes); AMD's files (a newline)
RDN SET not in DER order                  Nuvoton: all old roots and the EK certificates below them
``critical FALSE`` written out            Intel PTT EK certificates
NULL parameters for ECDSA                 Intel's on-die CA root
empty subject, critical alternative name  most EK certificates; loads, but has no subject to show
serial zero or negative                   AMD, and early EK certificates
RSA keys marked id-RSAES-OAEP             EK certificates after the profile for TPM 1.2
========================================  ================================================================

Decoding applies no policy and proves nothing.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import CurveId
from nodeseal.x509 import der
from nodeseal.x509.der import DerReader
from nodeseal.x509.extensions import Extensions, decode_extensions
from nodeseal.x509.names import ComparableName, comparable_name

MAX_CERTIFICATE: Final = 16 * 1024
"""Largest certificate in bytes, filler included; EK certificates in NV have a few KiB at most."""
MAX_CERTIFICATES: Final = 16
"""Most certificates in one concatenation (:func:`split_certificates`)."""
_FILLER = b"\x00\xff\r\n"
_VERSIONS = (1, 2, 3)
_WITH_EXTENSIONS = 3
_UNIQUE_IDS = (
    (der.context(1, constructed=False), "issuer unique id"),
    (der.context(2, constructed=False), "subject id"),
)
_UNCOMPRESSED = 4
_PEM_BEGIN, _PEM_END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_MAX_NAME_TEXT = 160

_RSA: Final = frozenset({"1.2.840.113549.1.1.1", "1.2.840.113549.1.1.7"})
_EC: Final = "1.2.840.10045.2.1"
_CURVES_BY_OID: Final = {
    "1.2.840.10045.3.1.1": CurveId.P192,
    "1.3.132.0.33": CurveId.P224,
    "1.2.840.10045.3.1.7": CurveId.P256,
    "1.3.132.0.34": CurveId.P384,
    "1.3.132.0.35": CurveId.P521,
}


@dataclass(frozen=True, slots=True)
class RsaKey:
    """An RSA public key."""

    modulus: int
    exponent: int


@dataclass(frozen=True, slots=True)
class EcKey:
    """Point on a NIST curve; whether it lies on the curve is not checked."""

    curve: CurveId
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class AlgorithmIdentifier:
    """Signature algorithm: object identifier, and parameters in DER (empty: none)."""

    oid: str
    parameters: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate, decoded but not proved.

    Attributes:
        raw: the certificate's bytes, without filler.
        signed: the signed part of them.
        serial: serial number; zero and negative ones occur.
        algorithm: algorithm of the signature.
        issuer: the issuer's name in DER.
        issuer_form: the same as names compare (:mod:`nodeseal.x509.names`).
        not_before: start of validity.
        not_after: end of validity.
        subject: the subject's name in DER.
        subject_form: the same as names compare.
        key: the certified key.
        extensions: the extensions; empty: none.
        signature: the issuer's signature over ``signed``.
    """

    raw: bytes
    signed: bytes
    serial: int
    algorithm: AlgorithmIdentifier
    issuer: bytes
    issuer_form: ComparableName
    not_before: datetime
    not_after: datetime
    subject: bytes
    subject_form: ComparableName
    key: RsaKey | EcKey
    extensions: Extensions
    signature: bytes

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer have the same name, as roots do (RFC 5280 §3.2)."""
        return self.subject_form == self.issuer_form


def decode_certificate(raw: bytes) -> Certificate:
    """Decode one certificate. Bytes 0x00, 0xFF and line ends behind it are filler and ignored.

    Raises:
        MalformedInput: not exactly one certificate, or a field does not decode; the message names the field.
    """
    certificates = split_certificates(raw)
    if len(certificates) != 1:
        raise MalformedInput(f"certificate: {len(certificates)} certificates where one is due")
    return _decode(certificates[0])


def split_certificates(raw: bytes) -> tuple[bytes, ...]:
    """Split a sequence of certificates, with or without filler, as in NV from 0x01C00100 on.

    Raises:
        MalformedInput: bytes between them are no certificate, or there are too many.
    """
    found: list[bytes] = []
    rest = raw.lstrip(_FILLER)
    while rest:
        if len(found) == MAX_CERTIFICATES:
            raise MalformedInput(f"certificates: more than {MAX_CERTIFICATES}")
        found.append(DerReader(rest[:MAX_CERTIFICATE], "certificate").element(der.SEQUENCE, "certificate").raw)
        rest = rest[len(found[-1]) :].lstrip(_FILLER)
    return tuple(found)


def split_certificate_file(raw: bytes) -> tuple[bytes, ...]:
    """Split a file of certificates: PEM with or without text between them (RFC 7468), or DER.

    Raises:
        MalformedInput: no certificate, or bytes that are none.
    """
    found = tuple(map(_pem_content, raw.split(_PEM_BEGIN)[1:])) if _PEM_BEGIN in raw else split_certificates(raw)
    if not found:
        raise MalformedInput("there is no certificate in it")
    return found


def decode_certificate_file(raw: bytes, source: str) -> tuple[Certificate, ...]:
    """Decode a file of certificates, PEM or DER (:func:`split_certificate_file`).

    Raises:
        MalformedInput: no certificate, or one that does not decode; the message names ``source``.
    """
    try:
        return tuple(map(decode_certificate, split_certificate_file(raw)))
    except MalformedInput as error:
        raise MalformedInput(f"{source}: {error}") from error


def name_text(name: bytes) -> str:
    """Return the values of a Name, last one first. For display only; no decision depends on it."""
    found: list[str] = []
    try:
        rdns = DerReader(name, "name").inside(der.SEQUENCE, "name")
        while not rdns.at_end():
            rdn = rdns.inside(der.SET, "RDN")
            while not rdn.at_end():
                pair = rdn.inside(der.SEQUENCE, "attribute")
                pair.oid("type")
                found.append(ascii(pair.any("value").content.decode("latin-1"))[1:-1])
    except MalformedInput:
        found.append("(unreadable)")
    return ", ".join(reversed(found))[:_MAX_NAME_TEXT] or "(empty name)"


def _pem_content(block: bytes) -> bytes:
    text, end, _ = block.partition(_PEM_END)
    if not end:
        raise MalformedInput("PEM: a certificate has no end")
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise MalformedInput(f"PEM: {error}") from error


def _decode(raw: bytes) -> Certificate:
    outer = DerReader(raw, "certificate").inside(der.SEQUENCE, "certificate")
    signed = outer.element(der.SEQUENCE, "signed part")
    algorithm = _algorithm(outer, "signature algorithm")
    signature = outer.bits("signature")
    outer.end()

    inner = DerReader(signed.content, "certificate")
    version = _version(inner)
    serial = inner.integer("serial number")
    if _algorithm(inner, "signature algorithm inside") != algorithm:
        raise inner.fault("signature algorithm inside", "is not the one outside")
    issuer = inner.element(der.SEQUENCE, "issuer").raw
    not_before, not_after = _validity(inner.inside(der.SEQUENCE, "validity"))
    subject = inner.element(der.SEQUENCE, "subject").raw
    key = _public_key(inner.inside(der.SEQUENCE, "public key"))
    extensions = _extensions(inner, version)
    inner.end()
    return Certificate(
        raw=raw,
        signed=signed.raw,
        serial=serial,
        algorithm=algorithm,
        issuer=issuer,
        issuer_form=comparable_name(issuer),
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        subject_form=comparable_name(subject),
        key=key,
        extensions=extensions,
        signature=signature,
    )


def _version(reader: DerReader) -> int:
    if not reader.next_is(der.context(0)):
        return 1
    inside = reader.inside(der.context(0), "version")
    version = inside.integer("version") + 1
    inside.end()
    if version not in _VERSIONS:
        raise reader.fault("version", "is not 1, 2 or 3")
    return version


def _algorithm(reader: DerReader, field: str) -> AlgorithmIdentifier:
    inside = reader.inside(der.SEQUENCE, field)
    oid = inside.oid("algorithm")
    parameters = b"" if inside.at_end() else inside.any("parameters").raw
    inside.end()
    return AlgorithmIdentifier(oid, parameters)


def _validity(reader: DerReader) -> tuple[datetime, datetime]:
    times = reader.time("not before"), reader.time("not after")
    reader.end()
    return times


def _public_key(reader: DerReader) -> RsaKey | EcKey:
    algorithm = reader.inside(der.SEQUENCE, "algorithm")
    oid = algorithm.oid("algorithm")
    if oid in _RSA:
        key: RsaKey | EcKey = _rsa_key(DerReader(reader.bits("key"), "certificate: RSA key"))
    elif oid == _EC:
        key = _ec_key(algorithm, reader.bits("key"))
    else:
        raise reader.fault("algorithm", f"{oid} is unknown or not accepted")
    reader.end()
    return key


def _rsa_key(reader: DerReader) -> RsaKey:
    inside = reader.inside(der.SEQUENCE, "key")
    reader.end()
    modulus, exponent = inside.integer("modulus"), inside.integer("exponent")
    inside.end()
    if modulus <= 0 or exponent <= 0:
        raise inside.fault("modulus or exponent", "is not positive")
    return RsaKey(modulus, exponent)


def _ec_key(algorithm: DerReader, point: bytes) -> EcKey:
    if not algorithm.next_is(der.OBJECT_IDENTIFIER):
        raise algorithm.fault("curve", "is not given by name")
    oid = algorithm.oid("curve")
    algorithm.end()
    if oid not in _CURVES_BY_OID:
        raise algorithm.fault("curve", f"{oid} is unknown or not accepted")
    curve = _CURVES_BY_OID[oid]
    size = curve.coordinate_size
    if len(point) != 1 + 2 * size or point[0] != _UNCOMPRESSED:
        raise algorithm.fault("point", "is not uncompressed or not of the curve's size")
    return EcKey(curve, int.from_bytes(point[1 : 1 + size], "big"), int.from_bytes(point[1 + size :], "big"))


def _extensions(reader: DerReader, version: int) -> Extensions:
    for tag, name in _UNIQUE_IDS:
        if reader.next_is(tag):
            reader.element(tag, name)
    if version != _WITH_EXTENSIONS or not reader.next_is(der.context(3)):
        return Extensions()
    wrapper = reader.inside(der.context(3), "extensions")
    extensions = decode_extensions(wrapper.inside(der.SEQUENCE, "extensions"))
    wrapper.end()
    return extensions
