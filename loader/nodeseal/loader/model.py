"""Opening a sealed model: nothing in its directory is parsed before the released key's model digest was compared.

Which files must be ciphertext is decided by the content file alone. A directory that lacks a file, has one too many,
or one that differs is refused with every difference, so that no ``*.py`` or adapter slips in beside the sealed weights.
Entries whose name starts with a dot are overlooked.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nodeseal.crypto.secret import allocate
from nodeseal.errors import MalformedInput, NotFound, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import digest_of
from nodeseal.loader.agent_keys import AgentKeys
from nodeseal.loader.files import naming, opened, read_exactly, read_small
from nodeseal.loader.keys import CLOSED, KeyProvider, Lease
from nodeseal.loader.reader import Progress, SegmentReader
from nodeseal.sealed.content import MAX_CONTENT, Content, PlainFile, SealedFile, parse_content
from nodeseal.sealed.paths import CONTENT_NAME, SEALED_SUFFIX, SLOTS_NAME
from nodeseal.sealed.slots import MAX_SLOTS_BYTES, parse_slots

if TYPE_CHECKING:
    import numpy as np

_MAX_FINDINGS = 100


class SealedModel:
    """A model that is open. Close it, or use it as a context manager: that wipes the keys and gives the lease back.

    Reads may run in several threads. After one that did not verify, every read raises the same error: whoever could
    change one file could change others. Plaintext that was returned stays with the caller.

    Attributes:
        content: what the model consists of.
    """

    def __init__(self, directory: Path, content: Content, lease: Lease) -> None:
        """Verify every header, every plain file and the directory's list of files; use :func:`open_model`."""
        self.content = content
        self._directory = directory
        self._lease = lease
        self._lock = Lock()
        self._refusal: ProofFailed | None = None
        self._files = {file.path: file for file in content.files}
        self._check_directory()

    def files(self) -> tuple[SealedFile | PlainFile, ...]:
        """Return the model's files in the order of their paths."""
        return self.content.files

    def read(self, path: str, *, progress: Progress = lambda _: None) -> memoryview:
        """Return a file's whole plaintext; all of it is verified.

        Sealed files come with their last segment and ``tags_digest`` checked, plain ones with their SHA-256. The
        memory is left out of core dumps.

        Raises:
            NotFound: the content file knows no such path.
            ProofFailed: the file is not what was sealed; no plaintext of it is left in memory.
            PolicyRefused: the lease has ended, or ends meanwhile.
            Unavailable: the file cannot be read.
        """
        file = self._find(path)
        with self._poisoning():
            if isinstance(file, PlainFile):
                return self._read_plain(file, progress)
            with self._segments(file) as segments:
                return segments.read_all(progress=progress)

    def read_range(self, path: str, start: int, stop: int) -> memoryview:
        """Return bytes ``start`` to ``stop`` of a sealed file, verifying only the segments that hold them.

        Raises:
            NotFound: the content file knows no such sealed file.
            ValueError: the range is not in the file.
            ProofFailed: as :meth:`read`; so do PolicyRefused and Unavailable.
        """
        file = self._find(path)
        if isinstance(file, PlainFile):
            raise NotFound(f"{path} is not a sealed file")
        with self._poisoning(), self._segments(file) as segments:
            return segments.read_range(start, stop)

    def verify(self, path: str, *, progress: Progress = lambda _: None) -> None:
        """Verify a file as :meth:`read` does, keeping no plaintext.

        Raises:
            NotFound: as :meth:`read`; so do ProofFailed, PolicyRefused and Unavailable.
        """
        file = self._find(path)
        with self._poisoning():
            if isinstance(file, PlainFile):
                self._read_plain(file, progress)
                return
            with self._segments(file) as segments:
                segments.verify_all(progress=progress)

    def load(self, path: str) -> dict[str, np.ndarray]:
        """Return the tensors of a safetensors file, verified whole as :meth:`read` does.

        Raises:
            MalformedInput: not safetensors, or a type that NumPy and ml_dtypes do not have.
            NotFound: as :meth:`read`; so do ProofFailed, PolicyRefused and Unavailable.
        """
        from nodeseal.loader.arrays import decode_tensors  # noqa: PLC0415 - sealing needs no NumPy

        return decode_tensors(self.read(path), path)

    def close(self) -> None:
        """Wipe the keys and give the lease back."""
        self._lease.end(CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, path: str) -> SealedFile | PlainFile:
        if path not in self._files:
            raise NotFound(f"the model has no file {path[:80]!a}")
        return self._files[path]

    @contextmanager
    def _poisoning(self) -> Iterator[None]:
        self._lease.check()
        if self._refusal is not None:
            raise self._refusal
        try:
            yield
        except ProofFailed as error:
            self._lease.check()  # a key that is wiped in the middle of a read looks like tampering
            with self._lock:
                self._refusal = error
            raise

    @contextmanager
    def _segments(self, file: SealedFile) -> Iterator[SegmentReader]:
        path = self._directory / file.stored_path
        with opened(path) as descriptor:
            segments = SegmentReader(file, self.content.model_id, self._lease, descriptor, path)
            try:
                yield segments
            finally:
                segments.close()

    def _read_plain(self, file: PlainFile, progress: Progress) -> memoryview:
        path = self._directory / file.path
        with opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            if size != file.size:
                raise _differs(file.path, f"{file.size} bytes", f"{size} bytes")
            plaintext = allocate(size)
            read_exactly(descriptor, plaintext, 0, path)
        if not hmac.compare_digest(hashlib.sha256(plaintext).hexdigest(), file.sha256):
            raise _differs(file.path, f"SHA-256 {file.sha256}", "another content")
        progress(size)
        return plaintext

    def _check_directory(self) -> None:
        findings = list(self._unexpected_files())
        for file in self.content.files:
            try:
                self._check_file(file)
            except ProofFailed as error:
                findings += error.findings
            except (MalformedInput, Unavailable) as error:
                findings += _differs(file.stored_path, "the file that was sealed", str(error)).findings
        if findings:
            self._lease.check()
            raise ProofFailed(*findings[:_MAX_FINDINGS])

    def _check_file(self, file: SealedFile | PlainFile) -> None:
        if isinstance(file, PlainFile):
            self._read_plain(file, lambda _: None)
            return
        with self._segments(file):
            pass

    def _unexpected_files(self) -> Iterator[Finding]:
        expected = {file.stored_path for file in self.content.files} | {CONTENT_NAME, SLOTS_NAME}
        for path in _walk(self._directory):
            name = path.relative_to(self._directory).as_posix()
            if name not in expected:
                yield from _differs(name, "no such file", "a file that the content file does not cover").findings


def open_model(
    directory: Path | str,
    keys: KeyProvider | None = None,
    *,
    on_revoked: Callable[[str], None] = lambda _: None,
) -> SealedModel:
    """Open a sealed model.

    Args:
        directory: where ``nodeseal.model.json`` lies.
        keys: who releases the data key; the agent of this node, at its usual socket, if None.
        on_revoked: called with the reason, in another thread, once the node has lost the model and keys are wiped;
            not called for a model that was closed.

    Raises:
        ProofFailed: the key is for another model, or the directory is not what was sealed; every difference is named.
        PolicyRefused: the node or the caller may not open this model.
        MalformedInput: a document that does not parse.
        Unavailable: no agent, or a file that cannot be read.
    """
    folder = Path(directory)
    raw = read_small(folder / CONTENT_NAME, MAX_CONTENT)
    slots = parse_slots(read_small(folder / SLOTS_NAME, MAX_SLOTS_BYTES), str(folder / SLOTS_NAME))
    digest = digest_of(raw)
    if slots.model_digest != digest:
        raise _other_model(digest, f"slots of {slots.model_digest}")
    lease = (keys or AgentKeys()).open(slots)
    try:
        model = SealedModel(folder, _released_content(raw, lease, str(folder / CONTENT_NAME)), lease)
    except BaseException:
        lease.end(CLOSED)
        raise
    lease.watch(lambda reason: on_revoked(reason) if reason != CLOSED else None)
    return model


def load_file(path: Path | str, *, keys: KeyProvider | None = None) -> dict[str, np.ndarray]:
    """Return all tensors of one sealed safetensors file as NumPy arrays.

    The whole file is verified before anything is returned: every segment, the last one, and ``tags_digest``. The
    model is closed again at once; use :func:`open_model` to read several files or to hear of revocations.

    Args:
        path: ``DIR/model.safetensors`` (or with ``.sealed``), where ``DIR`` or a folder above holds
            ``nodeseal.model.json``.
        keys: as in :func:`open_model`.

    Raises:
        NotFound: no sealed model here, or not a file of it.
        MalformedInput: as :meth:`SealedModel.load`; so do ProofFailed, PolicyRefused and Unavailable.
    """
    wanted = Path(path)
    for folder in wanted.parents:
        if (folder / CONTENT_NAME).is_file():
            with open_model(folder, keys) as model:
                return model.load(wanted.relative_to(folder).as_posix().removesuffix(SEALED_SUFFIX))
    raise NotFound(f"{wanted}: not in a sealed model")


def _released_content(raw: bytes, lease: Lease, source: str) -> Content:
    digest = digest_of(raw)
    if not hmac.compare_digest(lease.model_digest, digest):
        raise _other_model(digest, f"a key for {lease.model_digest}")
    return parse_content(raw, source)


def _walk(folder: Path) -> Iterator[Path]:
    with naming(folder):
        entries = sorted(folder.iterdir())
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def _differs(path: str, expected: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.SEALED_FILE, expected=expected, seen=seen, where=path))


def _other_model(digest: str, seen: str) -> ProofFailed:
    return ProofFailed(Finding(id=FindingId.SEALED_MODEL, expected=f"a key for {digest}", seen=seen))
