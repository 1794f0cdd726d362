"""Signature databases: lists, their sizes, and the authority that an image was accepted by."""

from __future__ import annotations

import struct

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.uefi.signature_database import (
    MAX_LISTS,
    SignatureEntry,
    decode_signature_data,
    decode_signature_lists,
)
from support.uefi import OWNER, SHA256_KIND, X509_KIND, decode_signature_database, guid, signature_list

CERTIFICATE = b"\x30\x81\x80" + bytes(128)
HASHES = tuple(bytes([n]) * 32 for n in range(5))
REVOKED = "3bd2a492-96c0-4079-b420-fcf98ef103ed"
UNKNOWN = "452e8ced-dfff-4b8c-ae01-5118862e682c"
DATABASE = signature_list(X509_KIND, CERTIFICATE) + signature_list(SHA256_KIND, *HASHES)


def entry(kind: str, data: bytes, owner: str = OWNER) -> SignatureEntry:
    return SignatureEntry(kind=kind, owner=owner, data=data)


def test_entries_come_in_the_order_of_the_lists() -> None:
    assert decode_signature_database(DATABASE) == (
        entry("x509", CERTIFICATE),
        *(entry("sha256", each) for each in HASHES),
    )


def test_lists_know_their_length_and_content_without_making_entries() -> None:
    certificates, hashes = decode_signature_lists(DATABASE)
    assert (len(certificates), len(hashes)) == (1, 5)
    assert tuple(hashes.data()) == HASHES


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"", (), id="a variable that is not there"),
        pytest.param(
            signature_list(REVOKED, bytes(48)), (entry("x509-sha256", bytes(48)),), id="a revoked certificate"
        ),
        pytest.param(signature_list(UNKNOWN, b"x"), (entry(UNKNOWN, b"x"),), id="a type that is not known"),
        pytest.param(
            signature_list(SHA256_KIND, HASHES[0], header=b"header"), (entry("sha256", HASHES[0]),), id="a list header"
        ),
        pytest.param(struct.pack("<16sIII", guid(SHA256_KIND), 28, 0, 48), (), id="a list of nothing"),
    ],
)
def test_lists_that_firmware_may_write(raw: bytes, expected: tuple[SignatureEntry, ...]) -> None:
    assert decode_signature_database(raw) == expected


def test_as_many_lists_as_no_machine_has_are_refused() -> None:
    empty = struct.pack("<16sIII", guid(SHA256_KIND), 28, 0, 48)
    assert len(decode_signature_lists(empty * MAX_LISTS)) == MAX_LISTS
    with pytest.raises(MalformedInput, match="one of more than 1024"):
        decode_signature_lists(empty * (MAX_LISTS + 1))


def test_a_list_cut_anywhere_or_with_a_byte_more_is_refused() -> None:
    raw = signature_list(X509_KIND, CERTIFICATE)
    for length in range(1, len(raw)):
        with pytest.raises(MalformedInput, match=r"signature database: (list|signatures) is cut off"):
            decode_signature_lists(raw[:length])
    with pytest.raises(MalformedInput, match="list is cut off"):
        decode_signature_lists(raw + b"\0")


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        pytest.param(SHA256_KIND, (28 + 47, 0, 47), id="hashes of 31 bytes"),
        pytest.param(SHA256_KIND, (28 + 49, 0, 48), id="a byte between lists"),
        pytest.param(SHA256_KIND, (27, 0, 48), id="a list smaller than its header"),
        pytest.param(SHA256_KIND, (28, 1, 48), id="a header larger than its list"),
        pytest.param(SHA256_KIND, (28 + 48, 0, 0), id="signatures of no size"),
        pytest.param(X509_KIND, (28 + 16, 0, 16), id="a certificate of no size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind: str, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(MalformedInput, match="has sizes"):
        decode_signature_lists(struct.pack("<16sIII", guid(kind), *sizes) + bytes(max(0, sizes[0] - 28)))


@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        ("826ca512-cf10-4ac9-b187-be01496631bd", "sha1", 20),
        ("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd", "sha224", 28),
        (SHA256_KIND, "sha256", 32),
        ("ff3e5307-9fd0-48c9-85f1-8ad56c701e01", "sha384", 48),
        ("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", "sha512", 64),
        (REVOKED, "x509-sha256", 48),
        ("7076876e-80c2-4ee6-aad2-28b349a6865b", "x509-sha384", 64),
        ("446dbf63-2502-4cda-bcfa-2465d2b0fe9d", "x509-sha512", 80),
        ("3c5766e8-269c-4e34-aa14-ed776e85b3b6", "rsa2048", 256),
        ("67f8444f-8743-48f1-a328-1eaab8736080", "rsa2048-sha1", 256),
        ("e2b36190-879b-4a3d-ad8d-f2e7bba32784", "rsa2048-sha256", 256),
    ],
)
def test_a_signature_has_the_size_of_its_kind(kind: str, name: str, size: int) -> None:
    assert decode_signature_database(signature_list(kind, bytes(size))) == (entry(name, bytes(size)),)
    for wrong in (size - 1, size + 1):
        with pytest.raises(MalformedInput, match=f"of {name} has sizes"):
            decode_signature_lists(signature_list(kind, bytes(wrong)))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(guid(OWNER) + CERTIFICATE, entry("x509", CERTIFICATE), id="a certificate of db"),
        pytest.param(CERTIFICATE, entry("x509", CERTIFICATE, ""), id="a certificate as shim logs it"),
        pytest.param(guid(OWNER) + HASHES[0], entry("sha256", HASHES[0]), id="a hash of db"),
        pytest.param(HASHES[1], entry("sha256", HASHES[1], ""), id="a hash as shim logs it"),
        *(
            pytest.param(guid(OWNER) + bytes(size), entry(kind, bytes(size)), id=f"{kind} with an owner")
            for kind, size in (("sha1", 20), ("sha224", 28), ("sha384", 48), ("sha512", 64))
        ),
        pytest.param(bytes(20), entry("sha1", bytes(20), ""), id="a shorter hash"),
    ],
)
def test_an_authority_is_what_its_bytes_say(raw: bytes, expected: SignatureEntry) -> None:
    assert decode_signature_data(raw) == expected


def test_an_authority_has_no_byte_too_many_or_too_few() -> None:
    for raw in (CERTIFICATE, guid(OWNER) + CERTIFICATE):
        for bad in (raw[:-1], raw + b"\0", b""):
            with pytest.raises(MalformedInput, match="neither a certificate nor a hash"):
                decode_signature_data(bad)
