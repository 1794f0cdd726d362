"""An open file of an open model: read it whole or in parts, as often as needed.

This module keeps rule 4 of ``docs/sealed-format.md``: what did not verify, or may not be handed out, is zeroed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Final

from nodeseal.crypto.secret import allocate
from nodeseal.ids import ModelId
from nodeseal.loader.closing import Closing
from nodeseal.loader.crew import Crew
from nodeseal.loader.events import Events
from nodeseal.loader.folders import Source
from nodeseal.loader.guard import Guard
from nodeseal.loader.reader import Progress, SegmentReader, SegmentWork
from nodeseal.loader.targets import Targets
from nodeseal.sealed.content import SealedFile


@dataclass(frozen=True, slots=True)
class ReadSession:
    """The parts that all open files of a model share."""

    guard: Guard
    crew: Crew
    events: Events


class OpenFile(Closing):
    """An open sealed file. It returns only verified bytes. Use it with ``with``, or close it.

    Attributes:
        file: the file's entry in the content file.
        session: the model's shared parts.
        segments: reader of the file's segments.
    """

    def __init__(self, file: SealedFile, model_id: ModelId, source: Source, session: ReadSession) -> None:
        """Verify size and header. Use :meth:`nodeseal.loader.model.SealedModel.open` instead.

        Args:
            file: the file's entry in the content file.
            model_id: model id in the content file.
            source: the container; closed with this object.
            session: the model's shared parts.
        """
        self.file: Final = file
        self.session: Final = session
        self._guard: Final = session.guard
        self._events: Final = session.events
        self._source: Final = source
        self._closed = False
        self._lock = Lock()
        try:
            with self._guard.reading():
                self.segments: Final = SegmentReader(file, model_id, self._guard.lease, source, session.crew)
                self._guard.hold(self.segments)
        except BaseException:
            source.close()
            raise

    def read(self, *, progress: Progress = lambda _: None) -> memoryview:
        """Return the whole plaintext, verified to the last segment and against ``tags_digest``.

        Raises:
            ProofFailed: the file is not what was sealed; no plaintext of it is left in memory.
            ValueError: the file is closed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        plaintext = allocate(self.file.size)
        self.fill(Targets([(0, plaintext)], fresh=True), progress=progress)
        return plaintext

    def fill(self, targets: Targets, *, progress: Progress = lambda _: None) -> None:
        """Verify the whole file as :meth:`read` does and fill ``targets`` from it. On any error they hold zeros.

        Raises:
            ValueError: the file is closed.
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        with self._filling(targets):
            self.segments.fill(targets, progress=self._events.meter(self.file.path, self.file.size, progress))

    def read_range(self, start: int, stop: int) -> memoryview:
        """Return bytes ``start`` to ``stop``. Only the segments that hold them are verified.

        Raises:
            ValueError: the range is not in the file, or the file is closed.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        if not 0 <= start <= stop <= self.file.size:
            raise ValueError(f"bytes {start} to {stop} of a file of {self.file.size} bytes")
        plaintext = allocate(stop - start)
        self.read_range_into(plaintext, start)
        return plaintext

    def read_range_into(self, buffer: memoryview, start: int) -> None:
        """Fill ``buffer`` with the bytes from ``start`` as :meth:`read_range` does. On any error it holds zeros.

        Raises:
            ValueError: the range is not in the file, or the file is closed.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        targets = Targets([(start, buffer)], fresh=True)
        with self._filling(targets):
            self.segments.fill_range(targets, start, start + len(buffer))

    def verify_tags(self) -> None:
        """After partial reads: verify that all returned bytes are what was sealed, and that the rest still exists.

        Segments are authentic by the data key alone. This method compares the tags of all segments with
        ``tags_digest``, and so finds segments that another holder of the key wrote later. It reads 16 bytes of each
        segment that was not read yet.

        Raises:
            ValueError: the file is closed.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        with self._guard.reading(self._check_open):
            self.segments.verify_tags()

    def check(self) -> None:
        """Check that the file is open and the lease is in force.

        Raises:
            ValueError: the file is closed.
            PolicyRefused: the lease has ended.
        """
        self._guard.lease.check()
        self._check_open()

    def close(self) -> None:
        """Forget the keys and release the file. No read may be running."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.segments.close()
        self._source.close()

    @contextmanager
    def _filling(self, targets: Targets) -> Iterator[None]:
        """Surround a read that fills ``targets``. On any error they are wiped."""
        try:
            with self._guard.reading(self._check_open):
                yield
        except BaseException:
            targets.wipe()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.file.path} is closed")


def fill_together(files: Sequence[tuple[OpenFile, Targets]]) -> None:
    """Verify several files of one model whole, as :meth:`OpenFile.fill` does, and fill their targets from them.

    Segments are read in the order of files and offsets, by all threads at once, so that many small files take no longer
    than one large one. On any error all targets hold zeros.

    Raises:
        ValueError: a file is closed.
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the lease has ended, or ends during the read.
        Unavailable: a file cannot be read.
    """
    if not files:
        return
    session = files[0][0].session

    def check_open() -> None:
        for file, _ in files:
            file.check()

    try:
        with session.guard.reading(check_open):
            _decrypt(session, [_plan(file, targets) for file, targets in files])
            for file, _ in files:
                file.segments.verify_tags()
    except BaseException:
        for _, targets in files:
            targets.wipe()
        raise


def _plan(file: OpenFile, targets: Targets) -> SegmentWork:
    return file.segments.plan(targets, file.session.events.meter(file.file.path, file.file.size, lambda _: None))


def _decrypt(session: ReadSession, plans: Sequence[SegmentWork]) -> None:
    ends = list(accumulate(plan.count for plan in plans))

    def work(number: int, buffer: memoryview) -> None:
        plan = plans[index := bisect_right(ends, number)]
        plan.work(number - ends[index] + plan.count, buffer)

    size = max(plan.buffer_size for plan in plans)
    session.crew.for_each(range(ends[-1]), size, work, waits=lambda: any(plan.waits() for plan in plans))
