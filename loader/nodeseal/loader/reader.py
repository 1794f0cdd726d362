"""Reading one sealed file: header first, then segments, each verified before it counts.

Rules 2 to 5 of ``docs/sealed-format.md`` are kept here: every length comes from the content file, whose digest was
compared with the released one, and is checked against the file before anything is allocated; segments are read into
private memory and decrypted from there; a destination that did not verify is zeroed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path

from nodeseal.crypto import floe
from nodeseal.crypto.secret import allocate, wipe
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import ModelId
from nodeseal.loader.files import read_exactly
from nodeseal.loader.keys import Lease
from nodeseal.loader.stripes import for_each
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import SealedFile

Progress = Callable[[int], None]
"""Called with bytes that are verified, from several threads."""


class SegmentReader:
    """Decrypts segments of one open file. The descriptor belongs to the caller."""

    def __init__(self, file: SealedFile, model_id: ModelId, lease: Lease, descriptor: int, path: Path) -> None:
        """Verify size and header.

        Args:
            file: entry of the content file, which is authentic.
            model_id: of the content file.
            lease: holds the data key.
            descriptor: of the opened container.
            path: of the container, for errors.

        Raises:
            ProofFailed: with ``sealed.file`` or ``sealed.header``: not the container that was sealed.
            PolicyRefused: the lease has ended.
            Unavailable: the file cannot be read.
        """
        self._file = file
        self._lease = lease
        self._descriptor = descriptor
        self._path = path
        self._layout = Layout(file.size, file.segment_size)
        try:
            header = self._read_header()
        except MalformedInput as error:
            raise container.header_failed(file, "the header of a sealed file", str(error)) from error
        if not hmac.compare_digest(header.header_tag, file.header_tag):
            raise container.header_failed(file, "the header tag of the content file", "another header tag")
        params = floe.Parameters(file.segment_size)
        self._floe = floe.Decryptor(lease.data_key(), header.aad, header.floe_header, params, name=file.stored_path)
        self._start = header.size
        try:
            container.parse_meta(header.raw_meta, file.stored_path).check(file, model_id)
        except (MalformedInput, ProofFailed):
            self.close()
            raise

    def _read_header(self) -> container.RawHeader:
        seen = os.fstat(self._descriptor).st_size
        prefix = bytearray(min(container.PREFIX_SIZE, seen))
        read_exactly(self._descriptor, memoryview(prefix), 0, self._path)
        size = container.header_size(bytes(prefix), self._file.stored_path)
        expected = size + self._layout.body_size
        if seen != expected:
            finding = Finding(
                id=FindingId.SEALED_FILE,
                expected=f"{expected} bytes",
                seen=f"{seen} bytes",
                where=self._file.stored_path,
            )
            raise ProofFailed(finding)
        header = bytearray(size)
        read_exactly(self._descriptor, memoryview(header), 0, self._path)
        return container.decode_header(bytes(header), self._file.stored_path)

    def read_all(self, *, progress: Progress = lambda _: None) -> memoryview:
        """Return the whole plaintext, verified to the last segment and against ``tags_digest``.

        Raises:
            ProofFailed: with ``sealed.segment``; nothing of the plaintext is left in memory.
            PolicyRefused: the lease ended meanwhile.
            Unavailable: the file cannot be read.
        """
        plaintext = allocate(self._file.size)
        capacity = self._layout.capacity
        try:
            self._decrypt_all(lambda position: plaintext[position * capacity : (position + 1) * capacity], progress)
        except BaseException:
            wipe(plaintext)
            raise
        return plaintext

    def verify_all(self, *, progress: Progress = lambda _: None) -> None:
        """Verify as :meth:`read_all` does, keeping no plaintext beyond one segment per thread.

        Raises:
            ProofFailed: as :meth:`read_all`; so do PolicyRefused and Unavailable.
        """
        self._decrypt_all(None, progress)

    def read_range(self, start: int, stop: int) -> memoryview:
        """Return the plaintext from ``start`` to ``stop``, verifying only the segments that hold it.

        Those segments are authentic and in their place; whether the rest of the file is intact stays open.

        Raises:
            ValueError: the range is not in the file.
            ProofFailed: with ``sealed.segment``; nothing of the plaintext is left in memory.
            PolicyRefused: the lease ended meanwhile.
            Unavailable: the file cannot be read.
        """
        if not 0 <= start <= stop <= self._file.size:
            raise ValueError(f"bytes {start} to {stop} of a file of {self._file.size} bytes")
        plaintext, capacity = allocate(stop - start), self._layout.capacity
        first, last = start // capacity, -(-stop // capacity)
        scratch, staging = allocate(capacity), memoryview(bytearray(self._file.segment_size))
        try:
            for position in range(first, last):
                at = position * capacity
                chunk = scratch[: self._layout.plaintext_size(position)]
                self._decrypt(position, staging, chunk)
                low, high = max(start, at), min(stop, at + len(chunk))
                plaintext[low - start : high - start] = chunk[low - at : high - at]
        except BaseException:
            wipe(plaintext)
            raise
        return plaintext

    def close(self) -> None:
        """Forget the keys of this file."""
        self._floe.close()

    def _decrypt_all(self, destination: Callable[[int], memoryview] | None, progress: Progress) -> None:
        tags = bytearray(self._layout.count * floe.TAG_SIZE)

        def worker() -> Callable[[int], None]:
            staging = memoryview(bytearray(self._file.segment_size))
            scratch = allocate(0 if destination else self._layout.capacity)

            def decrypt(position: int) -> None:
                size = self._layout.plaintext_size(position)
                out = destination(position) if destination else scratch[:size]
                tag = self._decrypt(position, staging, out)
                tags[position * floe.TAG_SIZE : (position + 1) * floe.TAG_SIZE] = tag
                progress(size)

            return decrypt

        for_each(self._layout.count, worker)
        if not hmac.compare_digest(hashlib.sha256(tags).hexdigest(), self._file.tags_digest):
            raise ProofFailed(
                Finding(
                    id=FindingId.SEALED_SEGMENT,
                    expected="the segments that the content file covers",
                    seen="segments written later with the same data key",
                    where=self._file.stored_path,
                )
            )

    def _decrypt(self, position: int, staging: memoryview, out: memoryview) -> bytes:
        self._lease.check()
        segment = staging[: len(out) + floe.SEGMENT_OVERHEAD]
        offset = self._start + position * self._file.segment_size
        read_exactly(self._descriptor, segment, offset, self._path)
        self._floe.decrypt_into(position, segment, out, final=position == self._layout.count - 1)
        return bytes(segment[-floe.TAG_SIZE :])
