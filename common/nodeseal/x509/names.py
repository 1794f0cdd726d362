"""Names as they compare (RFC 5280 §7.1): by their characters, whatever bytes hold these.

Two names are equal if their RDNs are, in their order; an RDN is a set of attributes. Texts compare after string
preparation (RFC 4518): case and the form of characters do not count, a run of white space counts as one space, and none
counts at the ends. A value that is no text, is not the text that its type promises, or is very long compares by its
bytes. STMicroelectronics and AMD need this: they write one name in several string types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias
from unicodedata import category, normalize

from nodeseal.errors import MalformedInput
from nodeseal.x509 import der
from nodeseal.x509.der import DerReader, Element

ComparableName: TypeAlias = tuple[tuple[str, ...], ...]
"""A name for ``==``: one tuple for each RDN; empty for the empty name."""
_ENCODINGS: Final = {
    0x0C: "utf-8",  # UTF8String
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as vendors write it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_MAX_TEXT: Final = 1024
"""Bytes of a value that is prepared; RFC 5280 Appendix A.1 allows names and organisations 64 characters."""
_SPACES: Final = frozenset("\t\n\x0b\f\r\x85")
_MAPPED_TO_NOTHING: Final = frozenset("\u034f\u180b\u180c\u180d\ufffc") | frozenset(map(chr, range(0xFE00, 0xFE10)))
"""Those of RFC 4518 §2.2 that are neither control nor format characters."""
_ORGANISATION: Final = "2.5.4.10"
_MAX_ORGANISATION: Final = 80


def comparable_name(name: bytes) -> ComparableName:
    """Return the form of a Name (DER) in which names compare; a Name that does not decode equals only itself."""
    try:
        return tuple(tuple(sorted(f"{oid}={_prepared(value)}" for oid, value in rdn)) for rdn in _rdns(name))
    except MalformedInput:
        return ((name.hex(),),)


def organisation(name: bytes) -> str:
    """Return the organisation in a Name, printable, or an empty text. For display only."""
    try:
        found = [value for rdn in _rdns(name) for oid, value in rdn if oid == _ORGANISATION]
    except MalformedInput:
        return ""
    text = _text(found[0]) or found[0].content.decode("latin-1") if found else ""
    return ascii(text)[1:-1][:_MAX_ORGANISATION]


def _rdns(name: bytes) -> Iterator[list[tuple[str, Element]]]:
    rdns = DerReader(name, "name").inside(der.SEQUENCE, "name")
    while not rdns.at_end():
        rdn = rdns.inside(der.SET, "RDN")
        found = []
        while not rdn.at_end():
            pair = rdn.inside(der.SEQUENCE, "attribute")
            found.append((pair.oid("type"), pair.any("value")))
            pair.end()
        yield found


def _text(value: Element) -> str | None:
    """Return a value's text, or None if it is none or too long."""
    if value.tag not in _ENCODINGS or len(value.content) > _MAX_TEXT:
        return None
    try:
        return value.content.decode(_ENCODINGS[value.tag])
    except UnicodeDecodeError:
        return None


def _prepared(value: Element) -> str:
    text = _text(value)
    if text is None:
        return f"0x{value.raw.hex()}"
    if not text.isascii() or not text.isprintable():
        text = normalize("NFKC", normalize("NFKC", "".join(filter(_counts, text))).casefold())
    return "text " + " ".join(text.lower().split())


def _counts(character: str) -> bool:
    """Tell whether a character counts in comparisons, or is a space (RFC 4518 §2.2)."""
    if character in _SPACES:
        return True
    return category(character) not in {"Cc", "Cf"} and character not in _MAPPED_TO_NOTHING
