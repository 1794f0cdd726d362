"""The logs that a quote proves, as they travel: the boot log whole, the IMA log from where the verifier knows it."""

from __future__ import annotations

from typing import NamedTuple

from nodeseal.tpm.algorithms import HashAlg

MAX_BOOT_LOG = 4 * 1024 * 1024
"""Bytes of one boot log."""
MAX_IMA_DELTA = 64 * 1024 * 1024
"""Bytes of the IMA log that one round may bring; a log of half a million entries."""
MAX_LOG_PIECE = 256 * 1024
"""Bytes of logs that one message carries."""


class KnownLogs(NamedTuple):
    """What the verifier already knows of a node's logs; the node does not send it again.

    Attributes:
        boot_id: the boot of these logs; empty: no logs are known. A node in another boot sends its whole logs.
        boot_log_sha256: SHA-256 of the known boot log; empty: the boot log is not known.
        ima_offset: known bytes of the IMA log.
    """

    boot_id: str = ""
    boot_log_sha256: bytes = b""
    ima_offset: int = 0


NOTHING_KNOWN = KnownLogs()


class ImaDelta(NamedTuple):
    """Entries of this boot's IMA log. Only what replays into the quoted PCR 10 is believed.

    Attributes:
        offset: bytes of the log before these entries.
        entries: whole entries in the kernel's format (``binary_runtime_measurements``).
        bank: the bank of the entries' template digests: SHA-1 in the file that every kernel has, otherwise the bank in
            the file's name (``binary_runtime_measurements_sha256``).
    """

    offset: int
    entries: bytes
    bank: HashAlg = HashAlg.SHA1
