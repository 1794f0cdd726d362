"""The kernel's Integrity Measurement Architecture on a machine: a growing log, and extends of PCR 10.

It works like Linux 5.8 and later: an entry extends every bank with that bank's hash of its template data, a violation
with all ones. The entry is in the log before it is in the TPM (``security/integrity/ima/ima_queue.c``,
ima_add_template_entry). Names have underscores for spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import (
    ImaEntry,
    boot_aggregate_candidates,
    encode_ima_entry,
    ima_entries,
    measured_entry,
    template_hash,
)
from nodeseal.ima.template import ImaFields, encode_template, measured_path
from nodeseal.tpm.algorithms import HASHES_BY_DIGEST_SIZE, HashAlg

Extend = Callable[[int, Mapping[HashAlg, bytes]], None]
"""Extends a PCR in all given banks. Banks that the TPM lacks are ignored."""


class Ima:
    """IMA on one machine, during one boot.

    Args:
        file: ``binary_runtime_measurements``, with template digests of SHA-1.
        extend: function that extends a PCR.
    """

    def __init__(self, file: Path, extend: Extend) -> None:
        self._file: Final = file
        self._extend: Final = extend

    def begin(self, pcrs: Mapping[int, bytes], bank: HashAlg) -> None:
        """Start the log with ``boot_aggregate``, the digest over the boot PCRs of ``bank``."""
        self.measure(b"boot_aggregate", boot_aggregate_candidates(pcrs, bank)[0])

    def measure(self, path: bytes, digest: bytes, signature: bytes = b"") -> None:
        """Measure a file, with the template ``ima-sig`` if it is signed and ``ima-ng`` if not.

        Args:
            path: name of the file.
            digest: digest of its content; the size tells the algorithm.
            signature: its extended attribute ``security.ima``.

        Raises:
            MalformedInput: no algorithm has a digest of this size.
        """
        if len(digest) not in HASHES_BY_DIGEST_SIZE:
            raise MalformedInput(f"measurement: a digest of {len(digest)} bytes")
        fields = ImaFields(
            algorithm=HASHES_BY_DIGEST_SIZE[len(digest)].hashlib_name,
            digest=digest,
            path=measured_path(path),
            signature=signature,
        )
        template = "ima-sig" if signature else "ima-ng"
        self._add(measured_entry(template, encode_template(template, fields)))

    def violate(self, path: bytes) -> None:
        """Record that a file was open for writing while it was measured, so its content is unknown."""
        fields = ImaFields(algorithm="sha256", digest=bytes(HashAlg.SHA256.digest_size), path=measured_path(path))
        data = encode_template("ima-ng", fields)
        self._add(measured_entry("ima-ng", data)._replace(template_digest=bytes(HashAlg.SHA1.digest_size)))

    def replay(self, raw: bytes, bank: HashAlg) -> None:
        """Append the log of another machine as if this machine had measured the same.

        Args:
            raw: the log.
            bank: bank of its template digests; the file becomes one of this bank.

        Raises:
            MalformedInput: the log does not parse.
        """
        entries = [entry for _, entry in ima_entries(raw, bank)]
        with self._file.open("ab") as file:
            file.write(raw)
        for entry in entries:
            self._extend_with(entry)

    def _add(self, entry: ImaEntry) -> None:
        with self._file.open("ab") as file:
            file.write(encode_ima_entry(entry))
        self._extend_with(entry)

    def _extend_with(self, entry: ImaEntry) -> None:
        self._extend(entry.pcr, {bank: template_hash(entry, bank) for bank in HashAlg})
