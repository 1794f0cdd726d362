"""X.509 extensions that endorsement chains depend on (RFC 5280 §4.2.1; TCG EK Credential Profile, "X.509").

Other extensions are kept as bytes; the caller that verifies a chain decides about unknown ones. A DEFAULT that is
written out is accepted (Intel PTT: ``critical FALSE``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from nodeseal.x509 import der
from nodeseal.x509.der import DerReader

KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"

EK_CERTIFICATE: Final = "2.23.133.8.1"
"""tcg-kp-EKCertificate (TCG EK Credential Profile, "Extended Key Usage")."""
TPM_MANUFACTURER: Final = "2.23.133.2.1"
TPM_MODEL: Final = "2.23.133.2.2"
TPM_VERSION: Final = "2.23.133.2.3"
"""Attributes of a TPM (TCG EK Credential Profile, "Subject Alternative Name"), in the order of :class:`TpmModel`."""
GOOGLE_INSTANCE: Final = "1.3.6.1.4.1.11129.2.1.21"
"""Google's extension that names the virtual machine whose virtual TPM holds the key."""

_MAX_EXTENSIONS = 32
_MAX_PATH_LENGTH = 64
_MAX_USAGES = 32
_MAX_NAMES = 32
_MAX_TPM_ATTRIBUTE = 128
_DIRECTORY_NAME = der.context(4)
_TPM_ATTRIBUTES: Final = {TPM_MANUFACTURER: "manufacturer", TPM_MODEL: "model", TPM_VERSION: "version"}


class KeyUsage(IntEnum):
    """Bits of the key usage extension (RFC 5280 §4.2.1.3) that endorsement chains need."""

    DIGITAL_SIGNATURE = 0
    KEY_ENCIPHERMENT = 2
    KEY_AGREEMENT = 4
    KEY_CERT_SIGN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One extension; its value in DER."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """Whether the key may sign certificates, and how many authorities may follow below (None: any number)."""

    ca: bool
    path_length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmModel:
    """The TPM as its vendor describes it (TCG EK Credential Profile, "Subject Alternative Name"); empty: not given.

    Attributes:
        manufacturer: ``id:`` and the vendor's four letters in hex, as written.
        model: the vendor's name of the model.
        version: ``id:`` and the firmware version in hex, as written.
    """

    manufacturer: str = ""
    model: str = ""
    version: str = ""

    @property
    def complete(self) -> bool:
        """Whether all three are given, as the profile wants it."""
        return all((self.manufacturer, self.model, self.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """The extensions of one certificate.

    Attributes:
        entries: all extensions in order, each once.
        basic_constraints: basic constraints; None: no such extension.
        key_usage: numbers of the bits that are set (:class:`KeyUsage`); None: no such extension.
        extended_key_usage: object identifiers; None: no such extension.
        tpm_model: the TPM in the subject alternative name; empty: not given.
    """

    entries: tuple[Extension, ...] = ()
    basic_constraints: BasicConstraints | None = None
    key_usage: frozenset[int] | None = None
    extended_key_usage: frozenset[str] | None = None
    tpm_model: TpmModel = field(default_factory=TpmModel)

    def has(self, oid: str) -> bool:
        """Tell whether there is an extension of this identifier."""
        return any(each.oid == oid for each in self.entries)


def decode_extensions(reader: DerReader) -> Extensions:
    """Decode the content of an ``Extensions`` sequence.

    Raises:
        MalformedInput: an extension does not decode or is repeated, or there are too many.
    """
    found: dict[str, Extension] = {}
    while not reader.at_end():
        extension = _extension(reader.inside(der.SEQUENCE, "extension"))
        if extension.oid in found or len(found) == _MAX_EXTENSIONS:
            raise reader.fault("extension", f"{extension.oid} is there twice, or one too many")
        found[extension.oid] = extension
    return Extensions(
        entries=tuple(found.values()),
        basic_constraints=_basic_constraints(found.get(BASIC_CONSTRAINTS)),
        key_usage=_key_usage(found.get(KEY_USAGE)),
        extended_key_usage=_extended_key_usage(found.get(EXTENDED_KEY_USAGE)),
        tpm_model=_tpm_model(found.get(SUBJECT_ALTERNATIVE_NAME)),
    )


def _extension(reader: DerReader) -> Extension:
    oid = reader.oid("identifier")
    critical = reader.boolean("critical") if reader.next_is(der.BOOLEAN) else False
    value = reader.octets("value")
    reader.end()
    return Extension(oid=oid, critical=critical, value=value)


def _basic_constraints(extension: Extension | None) -> BasicConstraints | None:
    if extension is None:
        return None
    reader = DerReader(extension.value, "basic constraints")
    inside = reader.inside(der.SEQUENCE, "content")
    reader.end()
    ca = inside.boolean("cA") if inside.next_is(der.BOOLEAN) else False
    length = inside.integer("path length") if inside.next_is(der.INTEGER) else None
    inside.end()
    if length is not None and not 0 <= length <= _MAX_PATH_LENGTH:
        raise inside.fault("path length", f"is not from 0 to {_MAX_PATH_LENGTH}")
    return BasicConstraints(ca, length)


def _key_usage(extension: Extension | None) -> frozenset[int] | None:
    if extension is None:
        return None
    reader = DerReader(extension.value, "key usage")
    usage = reader.flags("bits")
    reader.end()
    return usage


def _extended_key_usage(extension: Extension | None) -> frozenset[str] | None:
    if extension is None:
        return None
    reader = DerReader(extension.value, "extended key usage")
    inside = reader.inside(der.SEQUENCE, "content")
    reader.end()
    usages: set[str] = set()
    while not inside.at_end():
        if len(usages) == _MAX_USAGES:
            raise inside.fault("usage", f"is one of more than {_MAX_USAGES}")
        usages.add(inside.oid("usage"))
    return frozenset(usages)


def _tpm_model(extension: Extension | None) -> TpmModel:
    if extension is None:
        return TpmModel()
    reader = DerReader(extension.value, "subject alternative name")
    names = reader.inside(der.SEQUENCE, "names")
    reader.end()
    found: dict[str, str] = {}
    for _ in range(_MAX_NAMES):
        if names.at_end():
            return TpmModel(**found)
        name = names.any("name")
        if name.tag == _DIRECTORY_NAME:
            _collect(DerReader(name.content, "directory name"), found)
    raise names.fault("name", f"is one of more than {_MAX_NAMES}")


def _collect(reader: DerReader, found: dict[str, str]) -> None:
    """Add the TPM's attributes in one directory name, whose RDNs have one or several values."""
    rdns = reader.inside(der.SEQUENCE, "RDNs")
    reader.end()
    while not rdns.at_end():
        rdn = rdns.inside(der.SET, "RDN")
        while not rdn.at_end():
            pair = rdn.inside(der.SEQUENCE, "attribute")
            oid, value = pair.oid("type"), pair.any("value").content
            pair.end()
            if oid in _TPM_ATTRIBUTES:
                found[_TPM_ATTRIBUTES[oid]] = _text(rdn, value)


def _text(reader: DerReader, value: bytes) -> str:
    text = value.decode("latin-1")
    if len(text) > _MAX_TPM_ATTRIBUTE or not text.isprintable():
        raise reader.fault("TPM attribute", f"is not printable text of at most {_MAX_TPM_ATTRIBUTE} characters")
    return text
