"""IMA's ASCII list, ``ascii_runtime_measurements``: a line for each entry (ima_fs.c, ima_ascii_measurements_show).

::

    10 1e70…95e1 ima-sig sha256:d33d…90ef /usr/bin/dd 030204f3…

It is for people. File names are not escaped, so a name with a newline breaks its line and can imitate entries. The
template digest, which covers the whole name, reveals that. Appraisal uses the binary list. Surplus spaces in a line
belong to the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import (
    LEGACY_TEMPLATE,
    MAX_IMA_ENTRIES,
    MAX_IMA_LOG,
    MAX_TEMPLATE_DATA,
    U32,
    ImaEntry,
)
from nodeseal.ima.template import NAME_FIELDS, join_fields, parse_template, template_fields
from nodeseal.tpm.algorithms import HASHES_BY_DIGEST_SIZE, HashAlg
from nodeseal.tpm.pcr import LAST_PCR, PCR_COUNT

_HEAD: Final = re.compile(rb" ?([0-9]{1,2}) ([0-9a-f]{40,128}) ([!-~]{1,255}) (.*)", re.DOTALL)
_DIGEST: Final = re.compile(rb"((?:ima:|verity:)?[0-9A-Za-z_-]+:)([0-9a-f]*)")
_HEX: Final = re.compile(rb"(?:[0-9a-f]{2})*")
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_STRINGS: Final = frozenset({*NAME_FIELDS, "xattrnames"})
"""Fields that are printed as text, up to the NUL."""
_DIGESTS: Final = frozenset({"d-ng", "d-ngv2", "d-modsig"})
_NUMBERS: Final = {"iuid": 4, "igid": 4, "imode": 2}
"""Fields that are printed as decimal numbers, and their size in the binary list."""


_REMEDY: Final = "a file name with a newline breaks its line; take the binary list"


def looks_like_ima_text(raw: bytes) -> bool:
    """Tell whether a file begins like an ASCII list, after empty lines."""
    first, _, _ = raw[:MAX_TEMPLATE_DATA].lstrip(b"\r\n").partition(b"\n")
    return _HEAD.fullmatch(first) is not None


def ima_text_entries(raw: bytes) -> Iterator[ImaEntry]:
    """Iterate over the entries of a list. Digests are not checked.

    Raises:
        MalformedInput: a line that is no entry, an unknown template, a PCR above 23, or more than
            :data:`~nodeseal.ima.log.MAX_IMA_LOG` bytes or ``MAX_IMA_ENTRIES`` lines.
    """
    if len(raw) > MAX_IMA_LOG:
        raise MalformedInput(f"IMA list: has more than {MAX_IMA_LOG} bytes")
    for number, line in enumerate(_lines(raw)):
        if number == MAX_IMA_ENTRIES:
            raise MalformedInput(f"IMA list: has more than {MAX_IMA_ENTRIES} entries")
        try:
            yield _parse_line(line)
        except MalformedInput as error:
            raise MalformedInput(f"IMA list: line {number + 1}: {error}", remedy=_REMEDY) from error


def text_bank(entry: ImaEntry) -> HashAlg:
    """Return the bank of an entry, by the width of its template digest."""
    return HASHES_BY_DIGEST_SIZE[len(entry.template_digest)]


def _lines(raw: bytes) -> Iterator[bytes]:
    """Yield lines, ended by newlines only: names may hold all other line ends."""
    start = 0
    while start < len(raw):
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        yield raw[start:end]
        start = end + 1


def _parse_line(line: bytes) -> ImaEntry:
    head = _HEAD.fullmatch(line)
    if head is None or len(head[2]) // 2 not in HASHES_BY_DIGEST_SIZE or len(head[2]) % 2:
        raise MalformedInput(f"{line[:40]!r} is no entry")
    pcr, template = int(head[1]), head[3].decode("ascii")
    if pcr >= PCR_COUNT:
        raise MalformedInput(f"PCR {pcr}, the last is {LAST_PCR}")
    return ImaEntry(pcr, bytes.fromhex(head[2].decode()), template, _template_data(template, head[4]))


def _template_data(template: str, rest: bytes) -> bytes:
    names = template_fields(template)
    values = [_value(name, word) for name, word in zip(names, _words(names, rest), strict=True)]
    if template == LEGACY_TEMPLATE:
        digest, name = values
        data = digest + U32.pack(len(name) - 1) + name[:-1]
    else:
        data = join_fields(values)
    parse_template(template, data)
    return data


def _words(names: tuple[str, ...], rest: bytes) -> list[bytes]:
    """Cut a line into one word for each field. Surplus spaces belong to the file's name."""
    words = rest.split(b" ")
    surplus = len(words) - len(names)
    at = next((n for n, name in enumerate(names) if name in _STRINGS), None)
    if surplus < 0 or (surplus and at is None):
        raise MalformedInput(f"has {len(words)} words, the template has {len(names)} fields")
    if at is None or not surplus:
        return words
    return [*words[:at], b" ".join(words[at : at + surplus + 1]), *words[at + surplus + 1 :]]


def _value(name: str, word: bytes) -> bytes:
    """Return the bytes of a field that is printed as ``word``. An empty field is printed as nothing."""
    if not word and name not in NAME_FIELDS:
        return b""
    if name in _STRINGS:
        return word + b"\0"
    if name in _NUMBERS:
        return _number(name, word)
    prefix = b""
    if name in _DIGESTS:
        digest = _DIGEST.fullmatch(word)
        if digest is None:
            raise MalformedInput(f"{name} is {word[:40]!r}, no digest with its algorithm")
        prefix, word = digest[1] + b"\0", digest[2]
    if not _HEX.fullmatch(word):
        raise MalformedInput(f"{name} is {word[:40]!r}, not hexadecimal")
    return prefix + bytes.fromhex(word.decode())


def _number(name: str, word: bytes) -> bytes:
    size = _NUMBERS[name]
    if not _NUMBER.fullmatch(word) or int(word) >> (8 * size):
        raise MalformedInput(f"{name} is {word[:40]!r}, no number of {size} bytes")
    return int(word).to_bytes(size, "little")
