"""Replay of IMA log bytes into PCR 10: the loop that sees every entry of every node.

An entry that a golden lists costs one look-up and one hash: a table maps the template data of allowed files to its
template hash, so the loop neither parses nor hashes the data. Of an entry that some golden does not list, the loop only
remembers the offset. Such entries are judged (:mod:`~nodeseal.appraisal.kinds.ima_rules`) after the replay has met the
quoted value, since before that they prove nothing.

The loop reads the plain layout of :mod:`nodeseal.ima.log`. Violations, unusual templates and cut entries go to that
module, one by one.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import ENTRY_HEADERS, U32, ima_entries, template_hash
from nodeseal.tpm.algorithms import HASH_CONSTRUCTORS, HashAlg
from nodeseal.tpm.pcr import PCR_COUNT
from nodeseal.tpm.pcr_usage import IMA_PCR

Table = Mapping[bytes, bytes]
"""Template hashes by template data."""

MAX_OTHERS: Final = 65_536
"""Entries of other PCRs in one stretch: nothing proves them, so they cost nothing to make up, but time to judge."""
_OFFSETS: Final = "L"
_PLAIN: Final = {each.encode(): each for each in ("ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2")}
"""Templates of files whose data is looked up; a signature that is there makes it another data."""


class Lists(Protocol):
    """Tables of the files that a golden allows at any time."""

    def table(self, bank: HashAlg, template: str) -> Table:
        """Return the table of a template for files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Whole entries of a log.

    Attributes:
        log: bytes as the kernel writes them.
        width: the bank whose digests the entries' headers hold.
        start: offset of the first entry.
        stop: offset at which the last entry must end.
    """

    log: bytes
    width: HashAlg
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Effect of a stretch on PCR 10.

    Attributes:
        value: value after the last entry.
        end: offset at which that entry ends.
        met: the last offset at which the value was the wanted one; None: it never was.
        unlisted: offsets of entries that at least one golden does not always allow.
    """

    value: bytes
    end: int
    met: int | None
    unlisted: Sequence[int]


def replay(stretch: Stretch, bank: HashAlg, value: bytes, wanted: bytes | None, goldens: Sequence[Lists]) -> Replayed:
    """Replay a stretch in one bank.

    Args:
        stretch: the entries.
        bank: any bank; its digests are made from the data, whatever the bank of the file.
        value: value of PCR 10 before the first entry.
        wanted: the value to look for; None: none.
        goldens: goldens; an entry that one of them does not list is remembered.

    Raises:
        MalformedInput: an entry does not parse, or too many are of other PCRs.
    """
    log, at, new = stretch.log, stretch.start, HASH_CONSTRUCTORS[bank]
    stop = min(stretch.stop, len(log))
    header, violation = ENTRY_HEADERS[stretch.width], bytes(stretch.width.digest_size)
    fixed, unpack, size_of = header.size, header.unpack_from, U32.unpack_from
    tables, unlisted = _Tables(bank, goldens), array(_OFFSETS)
    met, others = at if value == wanted else None, 0
    while at < stop:
        try:
            pcr, digest, name_size = unpack(log, at)
            size_at = at + fixed + name_size
            lists = tables[log[at + fixed : size_at]]
            end = size_at + 4 + size_of(log, size_at)[0]
        except struct.error:
            lists = None
        if lists is None or pcr >= PCR_COUNT or digest == violation or end > stop:
            unlisted.append(at)
            end, value, other = _replay_one(stretch, at, bank, value)
            others += other
        else:
            data = log[size_at + 4 : end]
            hashed = lists[0].get(data)
            if hashed is None:
                hashed = new(data).digest()
                unlisted.append(at)
            elif lists[1] and any(data not in other for other in lists[1]):
                unlisted.append(at)
            if pcr == IMA_PCR:
                value = new(value + hashed).digest()
            else:
                others += 1
        if others > MAX_OTHERS:
            raise MalformedInput(f"IMA log: more than {MAX_OTHERS} entries of other PCRs than {IMA_PCR}")
        at = end
        if value == wanted:
            met = at
    return Replayed(value=value, end=at, met=met, unlisted=unlisted)


class _Tables(dict[bytes, tuple[Table, tuple[Table, ...]] | None]):
    """Tables by template name: the first golden's, and those of the others."""

    def __init__(self, bank: HashAlg, goldens: Sequence[Lists]) -> None:
        super().__init__()
        self._bank, self._goldens = bank, goldens

    def __missing__(self, template: bytes) -> tuple[Table, tuple[Table, ...]] | None:
        if template not in _PLAIN:
            return None
        first, *others = [golden.table(self._bank, _PLAIN[template]) for golden in self._goldens] or [{}]
        self[template] = found = (first, tuple(others))
        return found


def _replay_one(stretch: Stretch, at: int, bank: HashAlg, value: bytes) -> tuple[int, bytes, bool]:
    """Return where the entry at ``at`` ends, the value of PCR 10 after it, and whether it is of another PCR."""
    end, entry = next(ima_entries(stretch.log, stretch.width, at))
    if entry.pcr != IMA_PCR:
        return end, value, True
    return end, bank.digest(value + template_hash(entry, bank)), False
