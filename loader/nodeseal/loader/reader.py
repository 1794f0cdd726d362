"""Read one sealed file: header first, then segments. Each is verified before it counts.

This module keeps rules 2, 3 and 5 of ``docs/sealed-format.md``; :mod:`nodeseal.loader.opened` keeps rule 4. Every
length comes from the content file, whose digest was compared with the released one, and is compared with the file
before memory is allocated. Segments are read into private memory and decrypted from there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from nodeseal.crypto import floe
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import ModelId
from nodeseal.loader.crew import Crew, Work
from nodeseal.loader.folders import Source
from nodeseal.loader.keys import Lease
from nodeseal.loader.targets import Targets
from nodeseal.sealed import container
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import SealedFile

Progress = Callable[[int], None]
"""Called with the number of newly verified bytes, from several threads."""


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """The work of decrypting a whole file.

    Attributes:
        count: number of segments.
        buffer_size: bytes of private memory for each thread.
        work: decrypts the segment of a position.
        waits: whether reads wait for a device.
    """

    count: int
    buffer_size: int
    work: Work
    waits: Callable[[], bool]


class SegmentReader:
    """Decrypts segments of one open file. Source and crew belong to the caller."""

    def __init__(self, file: SealedFile, model_id: ModelId, lease: Lease, source: Source, crew: Crew) -> None:
        """Verify size and header.

        Args:
            file: the file's entry in the content file, which is authentic.
            model_id: model id in the content file.
            lease: lease with the data key.
            source: the open container.
            crew: threads for the work.

        Raises:
            ProofFailed: ``sealed.file`` or ``sealed.header``: not the container that was sealed.
            PolicyRefused: the lease has ended.
            Unavailable: the file cannot be read.
        """
        self._file = file
        self._lease = lease
        self._source = source
        self._crew = crew
        self._layout = Layout(file.size, file.segment_size)
        self._tags: dict[int, bytes] = {}
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
        seen = self._source.size
        prefix = bytearray(min(container.PREFIX_SIZE, seen))
        self._source.read_into(memoryview(prefix), 0)
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
        self._source.read_into(memoryview(header), 0)
        return container.decode_header(bytes(header), self._file.stored_path)

    def fill(self, targets: Targets, *, progress: Progress = lambda _: None) -> None:
        """Verify the whole file, to the last segment and against ``tags_digest``, and fill ``targets`` from it.

        After an error the targets hold the verified part; the caller must wipe them.

        Raises:
            ProofFailed: ``sealed.segment``: a segment is not what was sealed.
            PolicyRefused: the lease ended during the read.
            Unavailable: the file cannot be read.
        """
        self._decrypt(range(self._layout.count), targets, progress)
        self.verify_tags()

    def fill_range(self, targets: Targets, start: int, stop: int) -> None:
        """Fill ``targets`` with bytes ``start`` to ``stop``. Only the segments that hold them are verified.

        These segments are authentic and in their place. :meth:`verify_tags` finds out whether another holder of the
        data key wrote them later. The rest of the file is not checked.

        Raises:
            ValueError: the range is not in the file.
            ProofFailed: ``sealed.segment``: a segment is not what was sealed.
            PolicyRefused: the lease ended during the read.
            Unavailable: the file cannot be read.
        """
        capacity = self._layout.capacity
        if not 0 <= start <= stop <= self._file.size:
            raise ValueError(f"bytes {start} to {stop} of a file of {self._file.size} bytes")
        self._decrypt(range(start // capacity, -(-stop // capacity)), targets, lambda _: None)

    def verify_tags(self) -> None:
        """Compare the tags of all segments with ``tags_digest``. Only the tags of unread segments are read.

        After that, all bytes read before are what was sealed, even if somebody else has the data key.

        Raises:
            ProofFailed: ``sealed.segment``: a segment is not what was sealed.
            Unavailable: the file cannot be read.
        """
        tags = bytearray()
        for position in range(self._layout.count):
            tags += self._tags.get(position) or self._read_tag(position)
        self._check_tags(tags)

    def close(self) -> None:
        """Forget the keys of this file."""
        self._floe.close()

    def plan(self, targets: Targets, progress: Progress = lambda _: None) -> SegmentWork:
        """Return the work of :meth:`fill` but for the tags, to be done together with that of other files."""
        segment_size, capacity, last = self._file.segment_size, self._layout.capacity, self._layout.count - 1

        def decrypt(position: int, buffer: memoryview) -> None:
            self._lease.check()
            start = position * capacity
            size = min(capacity, self._file.size - start)
            segment = buffer[: size + floe.SEGMENT_OVERHEAD]
            self._source.read_into(segment, self._start + position * segment_size)
            direct = targets.direct(start, start + size)
            plaintext = buffer[segment_size : segment_size + size] if direct is None else direct
            self._floe.decrypt_into(position, segment, plaintext, final=position == last)
            self._remember(position, bytes(segment[-floe.TAG_SIZE :]))
            if direct is None:
                targets.copy(start, plaintext)
            progress(size)

        return SegmentWork(self._layout.count, segment_size + capacity, decrypt, lambda: self._source.waits)

    def _decrypt(self, positions: range, targets: Targets, progress: Progress) -> None:
        plan = self.plan(targets, progress)
        self._crew.for_each(positions, plan.buffer_size, plan.work, waits=plan.waits)

    def _remember(self, position: int, tag: bytes) -> None:
        """Keep the tag of a segment. A segment that is read twice must have the same tag both times."""
        if self._tags.setdefault(position, tag) != tag:
            raise self._rewritten()

    def _read_tag(self, position: int) -> bytes:
        tag = bytearray(floe.TAG_SIZE)
        stop = position * self._file.segment_size + self._layout.plaintext_size(position) + floe.SEGMENT_OVERHEAD
        self._source.read_into(memoryview(tag), self._start + stop - len(tag))
        return bytes(tag)

    def _check_tags(self, tags: bytearray) -> None:
        if not hmac.compare_digest(hashlib.sha256(tags).hexdigest(), self._file.tags_digest):
            raise self._rewritten()

    def _rewritten(self) -> ProofFailed:
        return ProofFailed(
            Finding(
                id=FindingId.SEALED_SEGMENT,
                expected="the segments that the content file covers",
                seen="segments written later with the same data key",
                where=self._file.stored_path,
            )
        )
