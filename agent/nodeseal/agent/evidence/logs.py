"""The logs of this boot, read for a challenge: only what the verifier does not know yet travels (DESIGN §5).

Both are files that the kernel makes up while they are read: their size is 0, so reading ends where they end, or at a
limit. The boot log does not change during a boot; once it could be read its digest is remembered, not the log. The IMA
log grows, and is read from the byte that the verifier knows: the kernel walks past what lies before, which is cheap,
and not even that happens while PCR 10 stands still. It is read *after* the quote, so that it may run ahead of it and
never falls short.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from nodeseal.errors import MalformedInput
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, ImaDelta, KnownLogs
from nodeseal.ima.log import ima_entries
from nodeseal.tpm.algorithms import HashAlg

_log = structlog.get_logger("nodeseal.agent.logs")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLogs:
    """What the verifier has yet to see; fields as in :class:`~nodeseal.evidence.round.Evidence`."""

    boot_log: bytes | None
    ima: ImaDelta | None


class MeasuredLogs:
    """Reads both logs; every method blocks and may be called from any thread.

    Args:
        boot_log: the boot log's file, which may be absent.
        ima_log: the IMA log's file, which may be absent. A name that ends in ``_sha256`` or another bank says how wide
            the template digests are, as Linux names its files for banks; otherwise they are as wide as SHA-1's.
    """

    def __init__(self, boot_log: Path, ima_log: Path) -> None:
        self._boot_log: Final = boot_log
        self._ima_log: Final = ima_log
        self._bank: Final = _bank_of(ima_log)
        self._lock: Final = Lock()
        self._boot_id = ""
        self._boot_log_sha256 = b""
        self._read_to_the_end: tuple[int, tuple[bytes, ...]] | None = None

    def beyond(self, known: KnownLogs, boot_id: str, measured: tuple[bytes, ...]) -> NewLogs:
        """Return what lies beyond ``known``; everything, if that is about another boot.

        Args:
            known: what the verifier has judged.
            boot_id: this boot.
            measured: the quoted values of PCR 10, read before; none if it was not quoted.
        """
        same = known.boot_id == boot_id
        with self._lock:
            boot_log = self._new_boot_log(boot_id, known.boot_log_sha256 if same else b"")
            return NewLogs(boot_log=boot_log, ima=self._ima(known.ima_offset if same else 0, measured))

    def _new_boot_log(self, boot_id: str, known_sha256: bytes) -> bytes | None:
        """Return the boot log if it is another than the verifier's.

        One that cannot be read is tried again whenever a verifier knows none: an agent may start before securityfs is
        mounted, and a round is seldom.
        """
        if known_sha256 and boot_id == self._boot_id and known_sha256 == self._boot_log_sha256:
            return None
        log = _read(self._boot_log, 0, MAX_BOOT_LOG + 1)
        if log is not None and len(log) > MAX_BOOT_LOG:
            _complain(self._boot_log, f"longer than {MAX_BOOT_LOG} bytes")
            log = None
        self._boot_id, self._boot_log_sha256 = boot_id, hashlib.sha256(log).digest() if log else b""
        return log if log and self._boot_log_sha256 != known_sha256 else None

    def _ima(self, offset: int, measured: tuple[bytes, ...]) -> ImaDelta | None:
        """Return what lies beyond ``offset``.

        What was read to its end with these values in PCR 10 has nothing new that they could prove.
        """
        position = (offset, measured)
        if measured and position == self._read_to_the_end:
            return ImaDelta(offset=offset, entries=b"", bank=self._bank)
        entries = _read(self._ima_log, offset, MAX_IMA_DELTA)
        self._read_to_the_end = position if entries == b"" else None
        if entries is None:
            return None
        if len(entries) == MAX_IMA_DELTA:
            entries = entries[: _whole_entries(entries, self._bank)]
        return ImaDelta(offset=offset, entries=entries, bank=self._bank)


def _bank_of(path: Path) -> HashAlg:
    """Return the bank whose template digests the file holds (kernel's ``security/integrity/ima/ima_fs.c``)."""
    suffix = path.name.rpartition("_")[2]
    return next((bank for bank in HashAlg if bank.hashlib_name == suffix), HashAlg.SHA1)


def _read(path: Path, offset: int, limit: int) -> bytes | None:
    """Return at most ``limit`` bytes from ``offset`` on, or None if there is no such log or it may not be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        _complain(path, error.strerror)
        return None


@cache
def _complain(path: Path, error: str) -> None:
    """Say once, not every round, that a log cannot be sent."""
    _log.warning("log not readable", path=str(path), error=error)


def _whole_entries(raw: bytes, bank: HashAlg) -> int:
    """Return where the last entry ends that is not cut off."""
    end = 0
    try:
        for end, _ in ima_entries(raw, bank):  # noqa: B007  # what is left at the end is the result
            pass
    except MalformedInput:
        pass
    return end
