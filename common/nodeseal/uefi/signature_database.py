"""Signature databases: EFI_SIGNATURE_LIST and EFI_SIGNATURE_DATA (UEFI 2.10, "Signature Database").

PK, KEK, db, dbx, dbt, dbr, MokList and MokListX hold a sequence of lists. The signatures of a list have one kind and
one size. A dbx has hundreds of hashes, so a list keeps its bytes and makes entries on demand. An
EV_EFI_VARIABLE_AUTHORITY event holds a single signature: the one by which firmware accepted an image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import Reader
from nodeseal.uefi.guid import GUID_SIZE, SHA256_SIGNATURE, X509_SIGNATURE, guid_text
from nodeseal.x509 import der
from nodeseal.x509.der import DerReader

MAX_LISTS: Final = 1024
"""Most lists in one database; real ones have one for each certificate: a few dozen at most."""
_LIST: Final = struct.Struct("<16sIII")
_TIME: Final = 16
"""Size of EFI_TIME, the time of revocation."""
X509: Final = "x509"
SHA256: Final = "sha256"
_KINDS: Final = {
    X509_SIGNATURE: (X509, None),
    SHA256_SIGNATURE: (SHA256, 32),
    "826ca512-cf10-4ac9-b187-be01496631bd": ("sha1", 20),
    "0b6e5233-a65c-44c9-9407-d9ab83bfc8bd": ("sha224", 28),
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": ("sha384", 48),
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": ("sha512", 64),
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": ("x509-sha256", 32 + _TIME),
    "7076876e-80c2-4ee6-aad2-28b349a6865b": ("x509-sha384", 48 + _TIME),
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": ("x509-sha512", 64 + _TIME),
    "3c5766e8-269c-4e34-aa14-ed776e85b3b6": ("rsa2048", 256),
    "67f8444f-8743-48f1-a328-1eaab8736080": ("rsa2048-sha1", 256),
    "e2b36190-879b-4a3d-ad8d-f2e7bba32784": ("rsa2048-sha256", 256),
    "4aafd29d-68df-49ee-8aa9-347d375665a7": ("pkcs7", None),
}
"""Names of signature types, and the size of one signature's data where the specification fixes it."""
_AUTHORITY_HASHES: Final = {
    20: ("sha1", False),
    32: (SHA256, False),
    GUID_SIZE + 20: ("sha1", True),
    GUID_SIZE + 28: ("sha224", True),
    GUID_SIZE + 32: (SHA256, True),
    GUID_SIZE + 48: ("sha384", True),
    GUID_SIZE + 64: ("sha512", True),
}
"""Sizes of authorities that are hashes: kind, and whether an owner precedes the hash (shim logs none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureEntry:
    """One signature of a database.

    Attributes:
        kind: ``x509``, ``sha256``, ``x509-sha256`` (a revoked certificate's hash and a time) and so on; the GUID of
            an unknown type.
        owner: GUID of the owner; empty: not logged.
        data: certificate in DER, hash, …
    """

    kind: str
    owner: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureList:
    """Signatures of one kind and size.

    Attributes:
        kind: kind as in :class:`SignatureEntry`.
        size: bytes of one signature, owner included.
        signatures: all signatures, without gaps.
    """

    kind: str
    size: int
    signatures: bytes

    def __len__(self) -> int:
        return len(self.signatures) // self.size

    def entries(self) -> Iterator[SignatureEntry]:
        """Iterate over the signatures."""
        for owner, data in self._pairs():
            yield SignatureEntry(kind=self.kind, owner=guid_text(owner), data=data)

    def data(self) -> Iterator[bytes]:
        """Iterate over the signatures' data without owners. Faster than :meth:`entries`."""
        return (data for _, data in self._pairs())

    def _pairs(self) -> Iterator[tuple[bytes, bytes]]:
        return struct.iter_unpack(f"{GUID_SIZE}s{self.size - GUID_SIZE}s", self.signatures)


def decode_signature_lists(raw: bytes) -> tuple[SignatureList, ...]:
    """Decode the content of a signature database as lists. An absent variable's empty content has none.

    Raises:
        MalformedInput: a list is cut off, its sizes contradict each other or its kind, or there are more than
            :data:`MAX_LISTS`.
    """
    reader, lists = Reader(raw, "signature database"), list[SignatureList]()
    left = len(raw)
    while left:
        guid, total, header, size = reader.unpack(_LIST, "list")
        kind, due = _KINDS.get(text := guid_text(guid), (text, None))
        if len(lists) == MAX_LISTS:
            raise reader.fault("list", f"is one of more than {MAX_LISTS}")
        content = total - _LIST.size - header
        if size <= GUID_SIZE or content < 0 or content % size or (due is not None and size != GUID_SIZE + due):
            raise reader.fault("list", f"of {kind} has sizes {total}, {header} and {size}")
        reader.take(header, "list header")
        lists.append(SignatureList(kind=kind, size=size, signatures=reader.take(content, "signatures")))
        left -= total
    return tuple(lists)


def decode_signature_data(raw: bytes) -> SignatureEntry:
    """Decode the content of an EV_EFI_VARIABLE_AUTHORITY: the certificate or hash by which firmware accepted an image.

    Firmware logs an EFI_SIGNATURE_DATA (PC Client Platform Firmware Profile, "Event Types"), shim a certificate or hash
    without an owner. The bytes show which it is, and none may be left over.

    Raises:
        MalformedInput: neither a certificate nor a hash, with or without an owner.
    """
    if _is_one_der_sequence(raw):
        return SignatureEntry(kind=X509, owner="", data=raw)
    if _is_one_der_sequence(raw[GUID_SIZE:]):
        return SignatureEntry(kind=X509, owner=guid_text(raw), data=raw[GUID_SIZE:])
    if len(raw) not in _AUTHORITY_HASHES:
        raise MalformedInput(f"authority: {len(raw)} bytes are neither a certificate nor a hash")
    kind, owned = _AUTHORITY_HASHES[len(raw)]
    return SignatureEntry(kind=kind, owner=guid_text(raw) if owned else "", data=raw[GUID_SIZE:] if owned else raw)


def _is_one_der_sequence(raw: bytes) -> bool:
    try:
        return len(DerReader(raw, "authority").element(der.SEQUENCE, "certificate").raw) == len(raw)
    except MalformedInput:
        return False
