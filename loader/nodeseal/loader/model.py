"""Open a sealed model. No file of it is parsed before its digest is compared with that of the released key.

The content file alone decides which files must be ciphertext. A folder with missing, surplus or changed files is
refused with every difference, so that no ``*.py`` or adapter slips in beside the sealed weights. Names that start with
a dot are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, NotFound, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import digest_of
from nodeseal.loader.agent_keys import AgentKeys
from nodeseal.loader.closing import Closing
from nodeseal.loader.crew import Crew
from nodeseal.loader.events import Ended, Event, Events
from nodeseal.loader.file_view import FileView, MappedWindow, MemoryFile, MemoryRanges, Ranges, memory_file
from nodeseal.loader.folders import Folder, LocalFolder, read_document, surplus
from nodeseal.loader.guard import Guard
from nodeseal.loader.keys import CLOSED, KeyProvider, Lease
from nodeseal.loader.opened import OpenFile, ReadSession
from nodeseal.loader.reader import Progress, SegmentReader
from nodeseal.loader.targets import Targets
from nodeseal.sealed.container import Layout
from nodeseal.sealed.content import MAX_CONTENT, Content, PlainFile, SealedFile, parse_content
from nodeseal.sealed.paths import CONTENT_NAME, SLOTS_NAME
from nodeseal.sealed.slots import MAX_SLOTS_BYTES, parse_slots

_MAX_FINDINGS = 100
_PLAIN_WINDOW = 1 << 16


class SealedModel(Closing):
    """An open model. Close it, or use it as a context manager: that wipes the keys and gives the lease back.

    Reads may run in several threads. After a read that did not verify, every read raises the same error: an attacker
    who changed one file may change others. Plaintext that was returned stays with the caller.

    Attributes:
        content: the files of the model.
    """

    def __init__(
        self, folder: Folder, content: Content, lease: Lease, on_revoked: Callable[[str], None] = lambda _: None
    ) -> None:
        """Verify every header, every plain file and the folder's list of files. Use :func:`open_model` instead."""
        self.content = content
        self._folder = folder
        self._lease = lease
        self._guard, self._crew, self._events = Guard(lease), Crew(), Events()
        self._guard.hold(self._crew)
        self._files = {file.path: file for file in content.files}
        self._check_folder()
        self._on_revoked = on_revoked
        self._guard.watch(self._tell_end)

    def files(self) -> tuple[SealedFile | PlainFile, ...]:
        """Return the model's files in the order of their paths."""
        return self.content.files

    def open(self, path: str) -> OpenFile:
        """Open a sealed file to read it whole or in parts; close it after use.

        Raises:
            NotFound: the content file knows no such sealed file.
            ProofFailed: its header is not the one that was sealed.
            PolicyRefused: the lease has ended.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            raise NotFound(f"{path} is not a sealed file")
        return self._open(file)

    def read(self, path: str, *, progress: Progress = lambda _: None) -> memoryview:
        """Return a file's whole plaintext, completely verified.

        For a sealed file, the last segment and ``tags_digest`` are checked too; for a plain file, its SHA-256. Core
        dumps leave the memory out.

        Raises:
            NotFound: the content file knows no such path.
            ProofFailed: the file is not what was sealed; no plaintext of it is left in memory.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            with self._guard.reading():
                return self._read_plain(file, progress)
        with self._open(file) as opened:
            return opened.read(progress=progress)

    def read_range(self, path: str, start: int, stop: int) -> memoryview:
        """Return bytes ``start`` to ``stop`` of a sealed file, verifying only the segments that hold them.

        Raises:
            NotFound: the content file knows no such sealed file.
            ValueError: the range is not in the file.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        with self.open(path) as opened:
            return opened.read_range(start, stop)

    def verify(self, path: str, *, progress: Progress = lambda _: None) -> None:
        """Verify a file as :meth:`read` does, and keep no plaintext.

        Raises:
            NotFound: the content file knows no such path.
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            self.read(path, progress=progress)
            return
        with self._open(file) as opened:
            opened.fill(Targets(), progress=progress)

    def as_file(self, path: str) -> FileView:
        """Open a file as a Python file object, read-only and seekable. Close it after use.

        Every read verifies the segments that it needs. A plain file is verified completely at once.

        Raises:
            NotFound: the content file knows no such path.
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            ranges: Ranges = MemoryRanges(self.read(path), self._lease.check)
            return FileView(ranges, file.size, MappedWindow(allocate(_PLAIN_WINDOW)))
        window = MappedWindow(allocate(Layout(file.size, file.segment_size).capacity))
        self._guard.hold(window)
        return FileView(self._open(file), file.size, window)

    def to_memfd(self, path: str) -> MemoryFile:
        """Return a whole file, verified as by :meth:`read`, in memory and with a path. Close it after use.

        This is for libraries that need a path, in this process or in one that inherits the descriptor. Their mappings
        are part of core dumps, and closing the model does not take the file back, so prefer the other methods.

        Raises:
            NotFound: the content file knows no such path.
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            content = self.read(path)
            return memory_file(file.size, lambda targets: targets.copy(0, content))
        with self._open(file) as opened:
            return memory_file(file.size, opened.fill)

    def events(self) -> Iterator[Event]:
        """Return the events from now on: :class:`Verified` as files are read, :class:`Ended` at the end.

        The iterator waits for the next event, so read it in its own thread.
        """
        return self._events.listen()

    def close(self) -> None:
        """Wipe the keys and give the lease back."""
        self._lease.end(CLOSED)

    def _find(self, path: str) -> SealedFile | PlainFile:
        if path not in self._files:
            raise NotFound(f"the model has no file {path[:80]!a}")
        return self._files[path]

    def _open(self, file: SealedFile) -> OpenFile:
        self._lease.check()
        source = self._folder.open(file.stored_path)
        return OpenFile(file, self.content.model_id, source, ReadSession(self._guard, self._crew, self._events))

    def _tell_end(self, reason: str) -> None:
        revoked = reason != CLOSED
        self._events.end(Ended(reason=reason, revoked=revoked))
        if revoked:
            self._on_revoked(reason)

    def _read_plain(self, file: PlainFile, progress: Progress) -> memoryview:
        source = self._folder.open(file.path)
        try:
            if source.size != file.size:
                raise _differs(file.path, f"{file.size} bytes", f"{source.size} bytes")
            plaintext = allocate(source.size)
            source.read_into(plaintext, 0)
        finally:
            source.close()
        if not hmac.compare_digest(hashlib.sha256(plaintext).hexdigest(), file.sha256):
            raise _differs(file.path, f"SHA-256 {file.sha256}", "another content")
        self._events.meter(file.path, file.size, progress)(file.size)
        return plaintext

    def _check_folder(self) -> None:
        findings = list(islice(self._unexpected_files(), _MAX_FINDINGS))  # a folder may seem to have no end
        files, found = self.content.files, dict[int, tuple[Finding, ...]]()

        def check(number: int, _: memoryview) -> None:
            try:
                self._check_file(files[number])
            except ProofFailed as error:
                found[number] = error.findings
            except (MalformedInput, Unavailable) as error:
                found[number] = _differs(files[number].stored_path, "the file that was sealed", str(error)).findings

        self._crew.for_each(range(len(files)), 1, check, waits=lambda: True)
        findings += [finding for number in sorted(found) for finding in found[number]]
        if findings:
            self._lease.check()
            raise ProofFailed(*findings[:_MAX_FINDINGS])

    def _check_file(self, file: SealedFile | PlainFile) -> None:
        if isinstance(file, PlainFile):
            self._read_plain(file, lambda _: None)
            return
        source = self._folder.open(file.stored_path)
        try:
            SegmentReader(file, self.content.model_id, self._lease, source, self._crew).close()
        finally:
            source.close()

    def _unexpected_files(self) -> Iterator[Finding]:
        for name in surplus(self._folder, self.content):
            yield from _differs(name, "no such file", "a file that the content file does not cover").findings


def open_model(
    place: Folder | Path | str,
    keys: KeyProvider | None = None,
    *,
    on_revoked: Callable[[str], None] = lambda _: None,
) -> SealedModel:
    """Open a sealed model.

    Args:
        place: the directory of ``nodeseal.model.json``, its ``https`` address, or another folder.
        keys: provider of the data key; None: the agent of this node, at its usual socket.
        on_revoked: called with the reason, in another thread, after the node has lost the model and keys are wiped;
            not called for a model that was closed.

    Raises:
        ProofFailed: the key is for another model, or the folder is not what was sealed; holds every difference.
        PolicyRefused: the node or the caller may not open this model.
        MalformedInput: a document does not parse.
        Unavailable: no agent answers, or a file cannot be read.
    """
    folder = _folder(place)
    raw = read_document(folder, CONTENT_NAME, MAX_CONTENT)
    slots = parse_slots(read_document(folder, SLOTS_NAME, MAX_SLOTS_BYTES), f"{folder}/{SLOTS_NAME}")
    digest = digest_of(raw)
    if slots.model_digest != digest:
        raise _other_model(digest, f"slots of {slots.model_digest}")
    lease = (keys or AgentKeys()).open(slots)
    try:
        return SealedModel(folder, _released_content(raw, lease, f"{folder}/{CONTENT_NAME}"), lease, on_revoked)
    except BaseException:
        lease.end(CLOSED)
        raise


def _folder(place: Folder | Path | str) -> Folder:
    if isinstance(place, str) and place.startswith(("https://", "http://")):
        from nodeseal.loader.web import WebFolder  # noqa: PLC0415 - most models lie on a disk

        return WebFolder(place)
    return LocalFolder(Path(place)) if isinstance(place, str | Path) else place


def _released_content(raw: bytes, lease: Lease, source: str) -> Content:
    digest = digest_of(raw)
    if not hmac.compare_digest(lease.model_digest, digest):
        raise _other_model(digest, f"a key for {lease.model_digest}")
    return parse_content(raw, source)


def _differs(path: str, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.SEALED_FILE, expected=expected, seen=seen, where=path))


def _other_model(digest: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.SEALED_MODEL, expected=f"a key for {digest}", seen=seen))
