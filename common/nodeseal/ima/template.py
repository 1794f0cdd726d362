"""Template data of IMA entries as fields (Documentation/security/IMA-templates.rst, ima_template_lib.c).

A template is a list of fields, given by name (``ima-sig``) or spelled out (``d-ng|sig``). Its data holds the fields in
that order, each behind its length as little-endian u32; the legacy template ``ima`` starts with a digest of fixed size.
A file name is any bytes without NUL. Since Linux 3.13, the kernel writes underscores for the spaces in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.ima.hash import KERNEL_HASHES_BY_NAME
from nodeseal.ima.log import LEGACY_DIGEST_SIZE, LEGACY_TEMPLATE, U32

TEMPLATES: Final = {
    "ima": ("d", "n"),
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    "evm-sig": (
        "d-ng",
        "n-ng",
        "evmsig",
        "xattrnames",
        "xattrlengths",
        "xattrvalues",
        "iuid",
        "igid",
        "imode",
    ),
}
"""Fields of the templates that have a name (ima_template.c, builtin_templates)."""
DIGEST_FIELDS: Final = ("d", "d-ng", "d-ngv2")
NAME_FIELDS: Final = ("n", "n-ng")
FIELDS: Final = frozenset(each for fields in TEMPLATES.values() for each in fields)
DIGEST_TYPES: Final = ("ima", "verity")
"""Subject of the digest in d-ngv2: the file, or its fs-verity descriptor."""
VIOLATION_DIGEST: Final = bytes(20)
"""Digest that older kernels write for a violation, for every algorithm (IMA_DIGEST_SIZE)."""
_LEGACY_ALGORITHMS: Final = {16: "md5", 20: "sha1"}
_MAX_UNKNOWN_DIGEST: Final = 64
_MAX_ALGORITHM: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaFields:
    """Fields of an entry; empty where its template has no such field.

    Attributes:
        algorithm: the kernel's name of the hash (``sha256``) as written; it may be unknown.
        digest: digest of the file, of its fs-verity descriptor, or of ``buffer``.
        path: name of the file, or of another measured object (``boot_aggregate``, ``kexec-cmdline``).
        signature: the extended attribute ``security.ima``, or an EVM portable signature; empty: not signed.
        buffer: measured content that is not a file; ``None``: the template has no such field.
        digest_type: ``ima`` or ``verity``; empty: the template does not say.
        others: further fields and their bytes, in the template's order: ``modsig``, ``evmsig``, ``iuid`` …
    """

    algorithm: str = ""
    digest: bytes = b""
    path: bytes = b""
    signature: bytes = b""
    buffer: bytes | None = None
    digest_type: str = ""
    others: tuple[tuple[str, bytes], ...] = field(default=())

    @property
    def path_text(self) -> str:
        """The path as text. Bytes that are no UTF-8 become lone surrogates (PEP 383), so none is lost."""
        return self.path.decode("utf-8", "surrogateescape")


@lru_cache(maxsize=64)
def template_fields(template: str) -> tuple[str, ...]:
    """Return the fields of a template.

    Raises:
        MalformedInput: an unknown template or field, a repeated field, or two digests or names.
    """
    fields = TEMPLATES.get(template) or tuple(template.split("|"))
    if not FIELDS.issuperset(fields):
        raise MalformedInput(f"IMA entry: unknown template {template[:64]!a}")
    unique = {"d" if each in DIGEST_FIELDS else "n" if each in NAME_FIELDS else each for each in fields}
    if len(unique) != len(fields):
        raise MalformedInput(f"IMA entry: template {template[:64]!a} has a field twice")
    return fields


def parse_template(template: str, data: bytes) -> ImaFields:
    """Parse template data.

    Raises:
        MalformedInput: an unknown template, fields that do not fill the data exactly, a digest of another size than
            its algorithm's, or a name that does not end with its only NUL.
    """
    found = dict(zip(template_fields(template), split_fields(template, data), strict=True))
    digest_type, algorithm, digest = _digest(found)
    path = _path(template, found)
    return ImaFields(
        algorithm=algorithm,
        digest=digest,
        path=path,
        signature=found.pop("sig", b""),
        buffer=found.pop("buf", None),
        digest_type=digest_type,
        others=tuple(found.items()),
    )


def encode_template(template: str, fields: ImaFields) -> bytes:
    """Return the template data of these fields. A field that ``others`` lacks is written empty.

    Raises:
        MalformedInput: an unknown template.
    """
    names = template_fields(template)
    others = dict(fields.others)
    values = {
        "d": fields.digest,
        "d-ng": _named_digest(fields.algorithm, fields.digest),
        "d-ngv2": _named_digest(f"{fields.digest_type}:{fields.algorithm}", fields.digest),
        "n": fields.path + b"\0",
        "n-ng": fields.path + b"\0",
        "sig": fields.signature,
        "buf": fields.buffer or b"",
    }
    if template == LEGACY_TEMPLATE:
        return fields.digest + U32.pack(len(fields.path)) + fields.path
    return join_fields(values[name] if name in values else others.get(name, b"") for name in names)


def measured_path(path: bytes) -> bytes:
    """Return the kernel's name for the file of this path (ima_write_template_field_data)."""
    return path.replace(b" ", b"_")


def join_fields(values: Iterable[bytes]) -> bytes:
    """Return field values, each behind its length."""
    return b"".join(U32.pack(len(value)) + value for value in values)


def split_fields(template: str, data: bytes) -> tuple[bytes, ...]:
    """Return the bytes of each field, in the order of :func:`template_fields`.

    Raises:
        MalformedInput: the fields do not fill the data exactly.
    """
    return tuple(_split(template, data))


def parse_digest(raw: bytes) -> tuple[str, bytes]:
    """Parse a ``d-ng`` or ``d-modsig`` field: an algorithm's name, ``:``, NUL and the digest.

    Raises:
        MalformedInput: no algorithm, or a digest of another size than the algorithm's.
    """
    name, colon, digest = raw.partition(b":\0")
    algorithm = name.decode("ascii", "replace")
    if not colon or not 0 < len(algorithm) <= _MAX_ALGORITHM or not _is_word(algorithm):
        raise MalformedInput(f"IMA entry: a digest without the name of its algorithm, {raw[:16]!r}")
    known = KERNEL_HASHES_BY_NAME.get(algorithm)
    right = len(digest) == known.size if known else 0 < len(digest) <= _MAX_UNKNOWN_DIGEST
    if not right and digest != VIOLATION_DIGEST:
        raise MalformedInput(f"IMA entry: a digest of {len(digest)} bytes, which no {algorithm} has")
    return algorithm, digest


def _split(template: str, data: bytes) -> Iterator[bytes]:
    fields, at = template_fields(template), 0
    for name in fields:
        if template == LEGACY_TEMPLATE and name == "d":
            end = LEGACY_DIGEST_SIZE
        else:
            at += U32.size
            if at > len(data):
                raise MalformedInput(f"IMA entry: {name} of template {template} is cut off")
            end = at + U32.unpack_from(data, at - U32.size)[0]
        if end > len(data):
            raise MalformedInput(f"IMA entry: {name} of template {template} is cut off, {end - at} bytes are due")
        yield data[at:end]
        at = end
    if at != len(data):
        raise MalformedInput(f"IMA entry: {len(data) - at} bytes too many behind template {template}")


def _digest(found: dict[str, bytes]) -> tuple[str, str, bytes]:
    """Remove the digest field of any kind; return type, algorithm and digest."""
    if "d-ng" in found:
        return ("", *parse_digest(found.pop("d-ng")))
    if "d-ngv2" in found:
        kind, _, rest = found.pop("d-ngv2").partition(b":")
        digest_type = kind.decode("ascii", "replace")
        if digest_type not in DIGEST_TYPES:
            raise MalformedInput(f"IMA entry: unknown type of digest {digest_type[:16]!a}")
        return (digest_type, *parse_digest(rest))
    if "d" in found:
        digest = found.pop("d")
        if len(digest) not in _LEGACY_ALGORITHMS:
            raise MalformedInput(f"IMA entry: a digest of {len(digest)} bytes, which the field d cannot have")
        return "", _LEGACY_ALGORITHMS[len(digest)], digest
    return "", "", b""


def _named_digest(algorithm: str, digest: bytes) -> bytes:
    return algorithm.encode("ascii") + b":\0" + digest


def _path(template: str, found: dict[str, bytes]) -> bytes:
    """Remove the name field and return it. Templates other than the legacy one end it with a NUL."""
    raw = next((found.pop(name) for name in NAME_FIELDS if name in found), b"\0")
    name, end, more = (raw + b"\0" if template == LEGACY_TEMPLATE else raw).partition(b"\0")
    if not end or more:
        raise MalformedInput(f"IMA entry: a name that does not end with its only NUL, {raw[:32]!r}")
    return name


def _is_word(text: str) -> bool:
    return all(each.isascii() and (each.isalnum() or each in "-_") for each in text)
