"""Events of an open model, for listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """More bytes of a file are verified.

    Attributes:
        path: path of the file.
        done: bytes verified so far in this read.
        size: bytes of the file.
    """

    path: str
    done: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The lease has ended and keys are wiped. This is the last event.

    Attributes:
        reason: the reason in words.
        revoked: True: the node lost the model. False: the model was closed.
    """

    reason: str
    revoked: bool


Event = Verified | Ended


class Events:
    """Sends events to all listeners."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: list[SimpleQueue[Event]] = []
        self._ended: Ended | None = None

    def listen(self) -> Iterator[Event]:
        """Return the events from now on. The iterator waits for the next event and stops after :class:`Ended`."""
        queue: SimpleQueue[Event] = SimpleQueue()
        with self._lock:
            if self._ended is None:
                self._queues.append(queue)
            else:
                queue.put(self._ended)
        return self._events_of(queue)

    def meter(self, path: str, size: int, also: Callable[[int], None]) -> Callable[[int], None]:
        """Return a function that counts the bytes of one read, tells listeners, and then calls ``also``."""
        if not self._queues:
            return also
        lock, done = Lock(), 0

        def count(verified: int) -> None:
            nonlocal done
            also(verified)
            with lock:
                done += verified
                self._tell(Verified(path=path, done=done, size=size))

        return count

    def end(self, ended: Ended) -> None:
        """Send the last event."""
        with self._lock:
            self._ended = ended
        self._tell(ended)

    def _tell(self, event: Event) -> None:
        with self._lock:
            for queue in self._queues:
                queue.put(event)

    def _events_of(self, queue: SimpleQueue[Event]) -> Iterator[Event]:
        try:
            event: Event | None = None
            while not isinstance(event, Ended):
                event = queue.get()
                yield event
        finally:
            with self._lock:
                self._queues = [other for other in self._queues if other is not queue]
