"""IMA measurement logs: the kernel's list of measurements after boot, and the value of PCR 10 that it gives.

The binary list is ``binary_runtime_measurements`` and, since Linux 6.10, one such file for each bank
(``binary_runtime_measurements_sha256``), whose template digests are as wide as the bank. All integers are
little-endian (security/integrity/ima/ima_fs.c, ima_measurements_show). An entry is::

    u32 pcr | template digest | u32 length, template name | u32 length, template data

In the legacy template ``ima``, no length stands before the data: 20 bytes of digest, u32 length, name.

A log is a claim; only entries that replay into a quoted PCR 10 are believed. This module knows bytes and digests.
:mod:`nodeseal.ima.template` reads the data, :mod:`nodeseal.ima.text` the ASCII list. ``docs/ima-logs.md`` lists how
real logs deviate, with a rule for each.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import LAST_PCR, PCR_COUNT
from nodeseal.tpm.pcr_usage import FIRMWARE_PCRS, IMA_PCR

MAX_IMA_LOG: Final = 64 * 1024 * 1024
"""Largest log in bytes; half a million entries."""
MAX_IMA_ENTRIES: Final = 1024 * 1024
MAX_TEMPLATE_NAME: Final = 255
"""Fifteen field names of sixteen letters with bars between them (ima_template.c, template_desc_init_fields)."""
MAX_TEMPLATE_DATA: Final = 1024 * 1024
"""Largest data of one entry in bytes; measured buffers (keys, command lines, device-mapper tables) have a few KiB."""
LEGACY_TEMPLATE: Final = "ima"
LEGACY_DIGEST_SIZE: Final = 20
LEGACY_NAME_SIZE: Final = 256
"""Bytes to which the legacy template pads a name before hashing (IMA_EVENT_NAME_LEN_MAX + 1)."""

U32: Final = struct.Struct("<I")
ENTRY_HEADERS: Final = {bank: struct.Struct(f"<I{bank.digest_size}sI") for bank in HashAlg}
"""PCR, template digest and length of the template name, by the file's bank."""
VIOLATIONS: Final = {bank: b"\xff" * bank.digest_size for bank in HashAlg}
"""Digest that a violation extends: all ones (ima_queue.c, ima_add_template_entry)."""
_TEMPLATE_NAME: Final = re.compile(rb"[!-~]*")
_BIG_ENDIAN_U32: Final = struct.Struct(">I")
BOOT_AGGREGATE_PCRS: Final = range(10)
"""PCRs that the boot aggregate may cover (ima_crypto.c, ima_calc_boot_aggregate_tfm)."""
_AGGREGATED: Final = (len(BOOT_AGGREGATE_PCRS), len(FIRMWARE_PCRS))
_AGGREGATED_SHA1: Final = (len(FIRMWARE_PCRS),)


class ImaEntry(NamedTuple):
    """One entry. A plain tuple, because a log has hundreds of thousands of them.

    Attributes:
        pcr: the extended PCR.
        template_digest: hash of the data in the file's bank; zeros: a violation.
        template: name of the template, or its fields (``d-ng|sig``).
        data: template data as in the file, without its length.
    """

    pcr: int
    template_digest: bytes
    template: str
    data: bytes

    @property
    def violation(self) -> bool:
        """Whether the file changed while it was measured, so that the entry proves nothing about it."""
        return not any(self.template_digest)


def ima_entries(raw: bytes, bank: HashAlg = HashAlg.SHA1, start: int = 0) -> Iterator[tuple[int, ImaEntry]]:
    """Iterate over the entries from byte ``start`` on, with the offset at which each ends. Digests are not checked.

    Raises:
        MalformedInput: cut off, a PCR above 23, a big-endian log, a malformed template name, or more than
            :data:`MAX_IMA_LOG` bytes, :data:`MAX_IMA_ENTRIES` entries or :data:`MAX_TEMPLATE_DATA` bytes in one entry.
    """
    size, header = len(raw), ENTRY_HEADERS[bank]
    if size > MAX_IMA_LOG:
        raise MalformedInput(f"IMA log: has more than {MAX_IMA_LOG} bytes")
    names: dict[bytes, str] = {}
    at = start
    for _ in range(MAX_IMA_ENTRIES):
        if at >= size:
            return
        data_at = at + header.size
        if data_at > size:
            raise _fault(raw, at, "is cut off in its header")
        pcr, digest, name_size = header.unpack_from(raw, at)
        if pcr >= PCR_COUNT or not 0 < name_size <= MAX_TEMPLATE_NAME:
            raise _fault(raw, at, _header_problem(pcr, name_size))
        raw_name = raw[data_at : data_at + name_size]
        name = names.get(raw_name) or names.setdefault(raw_name, _template_name(raw, at, raw_name))
        data_at, end = _data_span(raw, at, data_at + name_size, name)
        yield end, ImaEntry(pcr, digest, name, raw[data_at:end])
        at = end
    if at < size:
        raise MalformedInput(f"IMA log: has more than {MAX_IMA_ENTRIES} entries")


def looks_like_ima_log(raw: bytes) -> bool:
    """Tell whether a file begins like an IMA log of any bank, in either byte order."""
    return any(_begins(raw, bank, order) for bank in HashAlg for order in (U32, _BIG_ENDIAN_U32))


def claimed_bank(raw: bytes) -> HashAlg:
    """Return the bank of a log by the width of its first entry, for a file whose name does not say it.

    A file whose width fits no bank is no log. The result is SHA-1 then, and decoding refuses it.
    """
    return next((bank for bank in HashAlg if _begins(raw, bank, U32)), HashAlg.SHA1)


def encode_ima_entry(entry: ImaEntry) -> bytes:
    """Return an entry as the kernel writes it, with a template digest of any width."""
    name = entry.template.encode("ascii")
    length = b"" if entry.template == LEGACY_TEMPLATE else U32.pack(len(entry.data))
    return U32.pack(entry.pcr) + entry.template_digest + U32.pack(len(name)) + name + length + entry.data


def measured_entry(template: str, data: bytes, bank: HashAlg = HashAlg.SHA1, pcr: int = IMA_PCR) -> ImaEntry:
    """Return the entry that a kernel makes of this template data."""
    digest = bank.digest(hashed_data(template, data))
    return ImaEntry(pcr, digest, template, data)


def template_hash(entry: ImaEntry, bank: HashAlg) -> bytes:
    """Return the digest that an entry extends in ``bank``, which need not be the file's (ima_crypto.c, ima_queue.c).

    Raises:
        MalformedInput: a name that is too long for the legacy template.
    """
    if entry.violation:
        return VIOLATIONS[bank]
    return bank.digest(hashed_data(entry.template, entry.data))


def hashed_data(template: str, data: bytes) -> bytes:
    """Return the bytes that a template digest covers: the data, lengths included (ima_calc_field_array_hash_tfm).

    In the legacy template: the digest, and the name without its length, padded with zeros.

    Raises:
        MalformedInput: a name that is too long for the legacy template.
    """
    if template != LEGACY_TEMPLATE:
        return data
    name = data[LEGACY_DIGEST_SIZE + U32.size :]
    if len(name) >= LEGACY_NAME_SIZE:
        raise MalformedInput(f"IMA entry: a name of {len(name)} bytes, the template ima has {LEGACY_NAME_SIZE - 1}")
    return data[:LEGACY_DIGEST_SIZE] + name.ljust(LEGACY_NAME_SIZE, b"\0")


def check_template_digest(entry: ImaEntry, bank: HashAlg, number: int) -> None:
    """Check that the template digest of entry ``number`` is the hash of its data. A violation has none.

    Raises:
        MalformedInput: another digest, so the entry was changed or the file is of another bank.
    """
    if not entry.violation and entry.template_digest != template_hash(entry, bank):
        raise MalformedInput(
            f"IMA log: entry {number}: its template digest is not the {bank.hashlib_name} of its data",
            remedy="the entry was changed, or the file is of another bank",
        )


def replay_ima(entries: Iterable[ImaEntry], bank: HashAlg, pcr: int = IMA_PCR) -> bytes:
    """Return the value that these entries give to ``pcr`` (TPM2_PCR_Extend, TPM Library Part 3).

    Raises:
        MalformedInput: a name that is too long for the legacy template.
    """
    value = bytes(bank.digest_size)
    for entry in entries:
        if entry.pcr == pcr:
            value = bank.digest(value + template_hash(entry, bank))
    return value


def boot_aggregate_candidates(pcr_values: Mapping[int, bytes], bank: HashAlg) -> tuple[bytes, ...]:
    """Return the possible digests of the entry ``boot_aggregate`` for these values of ``bank``, most likely first.

    The aggregate is the bank's hash over PCR 0 to 7. Since Linux 5.8 it covers PCR 8 and 9 as well, except in SHA-1
    (ima_crypto.c, ima_calc_boot_aggregate_tfm). A form is left out if one of its PCRs has no value here.
    """
    counts = _AGGREGATED_SHA1 if bank is HashAlg.SHA1 else _AGGREGATED
    spans = [[pcr_values.get(pcr) for pcr in range(count)] for count in counts]
    return tuple(bank.digest(b"".join(value or b"" for value in span)) for span in spans if None not in span)


def _begins(raw: bytes, bank: HashAlg, order: struct.Struct) -> bool:
    at = U32.size + bank.digest_size
    name_at = at + U32.size
    if len(raw) < name_at:
        return False
    (pcr,), (size,) = order.unpack_from(raw), order.unpack_from(raw, at)
    name = raw[name_at : name_at + min(size, MAX_TEMPLATE_NAME)]
    return pcr < PCR_COUNT and len(name) == size and _TEMPLATE_NAME.fullmatch(name) is not None and size > 0


def _data_span(raw: bytes, at: int, name_end: int, name: str) -> tuple[int, int]:
    start = name_end if name == LEGACY_TEMPLATE else name_end + U32.size
    if start > len(raw):
        raise _fault(raw, at, "is cut off before its data")
    end = start + (_legacy_size(raw, at, start) if name == LEGACY_TEMPLATE else U32.unpack_from(raw, name_end)[0])
    if end - start > MAX_TEMPLATE_DATA:
        raise _fault(raw, at, f"declares {end - start} bytes of data, at most {MAX_TEMPLATE_DATA}")
    if end > len(raw):
        raise _fault(raw, at, f"is cut off, {end - start} bytes of data are due")
    return start, end


def _legacy_size(raw: bytes, at: int, start: int) -> int:
    length_at = start + LEGACY_DIGEST_SIZE
    if length_at + U32.size > len(raw):
        raise _fault(raw, at, "is cut off before its name")
    (size,) = U32.unpack_from(raw, length_at)
    if size >= LEGACY_NAME_SIZE:
        raise _fault(raw, at, f"declares a name of {size} bytes, the template ima has {LEGACY_NAME_SIZE - 1}")
    return LEGACY_DIGEST_SIZE + U32.size + int(size)


def _template_name(raw: bytes, at: int, name: bytes) -> str:
    if not _TEMPLATE_NAME.fullmatch(name):
        raise _fault(raw, at, f"has a template name that is no text, {name[:16]!r}")
    return name.decode("ascii")


def _header_problem(pcr: int, name_size: int) -> str:
    swapped = _BIG_ENDIAN_U32.unpack(U32.pack(pcr))[0]
    if pcr >= PCR_COUNT and swapped < PCR_COUNT:
        return "is big-endian, only little-endian logs are read (boot with ima_canonical_fmt)"
    if pcr >= PCR_COUNT:
        return f"names PCR {pcr}, the last is {LAST_PCR}"
    return f"declares a template name of {name_size} bytes, 1 to {MAX_TEMPLATE_NAME} can be"


def _fault(raw: bytes, at: int, problem: str) -> MalformedInput:
    return MalformedInput(f"IMA log: the entry at byte {at} of {len(raw)} {problem}")
