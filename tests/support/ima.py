"""IMA entries, signatures and logs as a kernel would write them, and whole logs read and checked at once."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import ImaEntry, check_template_digest, encode_ima_entry, ima_entries, measured_entry
from nodeseal.ima.signature import ImaSignature
from nodeseal.ima.template import TEMPLATES, ImaFields, encode_template, split_fields, template_fields
from nodeseal.ima.text import ima_text_entries, text_bank
from nodeseal.tpm.algorithms import HashAlg

CONTENT = b"#!/bin/sh\n"
FILE = ImaFields(algorithm="sha256", digest=HashAlg.SHA256.digest(CONTENT), path=b"/usr/bin/tool")
LEGACY = ImaFields(algorithm="sha1", digest=HashAlg.SHA1.digest(CONTENT), path=b"/usr/bin/tool")
EXAMPLES = {
    "ima": LEGACY,
    "ima-ng": FILE,
    "ima-sig": ImaFields(algorithm="sha256", digest=FILE.digest, path=FILE.path, signature=b"\3\2\4key!\0\1s"),
    "ima-ngv2": ImaFields(digest_type="ima", algorithm="sha256", digest=FILE.digest, path=FILE.path),
    "ima-sigv2": ImaFields(
        digest_type="verity", algorithm="sha512", digest=bytes(63) + b"\1", path=FILE.path, signature=b"\6\3\6key!\0\1s"
    ),
    "ima-buf": ImaFields(algorithm="sha256", digest=FILE.digest, path=b"kexec-cmdline", buffer=CONTENT),
    "ima-modsig": ImaFields(
        algorithm="sha256",
        digest=FILE.digest,
        path=b"/lib/modules/x.ko",
        others=(("d-modsig", b"sha256:\0" + FILE.digest), ("modsig", b"\x30\x80")),
    ),
    "evm-sig": ImaFields(
        algorithm="sha256",
        digest=FILE.digest,
        path=FILE.path,
        others=(
            ("evmsig", b"\5\2\4key!\0\1s"),
            ("xattrnames", b"security.ima\0"),
            ("xattrlengths", b"\2\0\0\0"),
            ("xattrvalues", b"\4\4"),
            ("iuid", b"\0\0\0\0"),
            ("igid", b"\7\0\0\0"),
            ("imode", b"\xed\x81"),
        ),
    ),
    "d-ng|sig": ImaFields(algorithm="sha256", digest=FILE.digest, signature=b"\3\2\4key!\0\1s"),
    "n-ng|d-ng": FILE,
    "d|n": LEGACY,
}
"""An example of every template that has a name, and of some spelled out."""
assert TEMPLATES.keys() <= EXAMPLES.keys()


def entry(template: str, fields: ImaFields, bank: HashAlg = HashAlg.SHA1) -> ImaEntry:
    """Return the entry that says ``fields``."""
    return measured_entry(template, encode_template(template, fields), bank)


def violation(path: bytes, bank: HashAlg = HashAlg.SHA1) -> ImaEntry:
    """Return the entry of a file that was written while it was measured."""
    fields = ImaFields(algorithm="sha256", digest=bytes(20), path=path)
    return entry("ima-ng", fields, bank)._replace(template_digest=bytes(bank.digest_size))


def examples(bank: HashAlg = HashAlg.SHA1) -> tuple[ImaEntry, ...]:
    """Return an entry of every template, and a violation."""
    return (*(entry(template, fields, bank) for template, fields in EXAMPLES.items()), violation(b"/var/log/x", bank))


def line(entry: ImaEntry) -> bytes:
    """Print an entry as ima_ascii_measurements_show and ima_show_template_data_ascii do."""
    values = zip(template_fields(entry.template), split_fields(entry.template, entry.data), strict=True)
    head = f"{entry.pcr:2d} {entry.template_digest.hex()} {entry.template}".encode()
    return b" ".join((head, *(_printed(name, value) for name, value in values))) + b"\n"


def _printed(name: str, value: bytes) -> bytes:
    if name in ("n", "n-ng", "xattrnames"):
        return value.partition(b"\0")[0]
    if name in ("iuid", "igid", "imode") and value:
        return b"%d" % int.from_bytes(value, "little")
    prefix, colon, digest = value.partition(b":\0") if name.startswith("d-") else (b"", b"", value)
    return prefix + colon[:1] + digest.hex().encode()


def text(entries: Iterable[ImaEntry]) -> bytes:
    """Return the ASCII list of these entries."""
    return b"".join(map(line, entries))


def log(entries: Iterable[ImaEntry]) -> bytes:
    """Return the file of these entries."""
    return b"".join(map(encode_ima_entry, entries))


def encode_ima_signature(signature: ImaSignature) -> bytes:
    """Return the extended attribute, as the field ``sig`` holds it."""
    content, number = signature.signature, signature.hash_alg.number
    head = struct.pack(">BBB4sH", signature.kind, signature.version, number, signature.key_id, len(content))
    return head + content


def decode_ima_log(raw: bytes, bank: HashAlg = HashAlg.SHA1) -> tuple[ImaEntry, ...]:
    """Decode a whole log of ``bank`` and check that every template digest is the hash of its data."""
    entries = tuple(entry for _, entry in ima_entries(raw, bank))
    if not entries:
        raise MalformedInput("IMA log: is empty")
    for number, each in enumerate(entries):
        check_template_digest(each, bank, number)
    return entries


def parse_ima_text(raw: bytes) -> tuple[ImaEntry, ...]:
    """Parse a whole ASCII list and check that every template digest is the hash of its data."""
    entries = tuple(ima_text_entries(raw))
    if not entries:
        raise MalformedInput("IMA list: is empty")
    for number, each in enumerate(entries):
        check_template_digest(each, text_bank(each), number)
    return entries
