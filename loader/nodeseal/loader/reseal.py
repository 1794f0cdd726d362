"""Sealing again with a new data key, for when the old one may have leaked: other slots would not help then.

Happens where the model opens, on an attested node: segment by segment from the old ciphertext into the new, so that no
plaintext is on a disk and little of it in memory. What is sealed is what was sealed: the tags of every file are
compared with the content file before the new model appears.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nodeseal.errors import MalformedInput
from nodeseal.loader.model import SealedModel
from nodeseal.loader.seal import Label, Progress, seal_model
from nodeseal.loader.source import Read
from nodeseal.sealed.content import Content, PlainFile, SealedFile
from nodeseal.sealed.model_key import ModelKey


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file of an open model."""

    model: SealedModel
    file: SealedFile | PlainFile

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def size(self) -> int:
        return self.file.size

    @property
    def sealed(self) -> bool:
        return isinstance(self.file, SealedFile)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        if isinstance(self.file, PlainFile):
            plaintext = self.model.read(self.file.path)
            yield lambda buffer, offset: _copy(plaintext[offset : offset + len(buffer)], buffer)
            return
        with self.model.open(self.file.path) as file:
            yield file.read_range_into
            file.verify_tags()


def next_label(content: Content, created: datetime, version: int | None = None) -> Label:
    """Return what the content file of the next version says besides its files.

    Args:
        content: of the model as it is.
        created: by the clock of whoever seals.
        version: of the new model; the next one if None.

    Raises:
        MalformedInput: not a later version; verifiers accept no other.
    """
    chosen = content.version + 1 if version is None else version
    if chosen <= content.version:
        raise MalformedInput(f"version {chosen} is not later than {content.version}")
    segment_size = max(file.segment_size for file in content.sealed())
    return Label(model_id=content.model_id, version=chosen, created=created, segment_size=segment_size)


def reseal_model(
    model: SealedModel,
    destination: Path,
    keys: Sequence[ModelKey],
    label: Label,
    *,
    progress: Progress = lambda _: None,
) -> Content:
    """Seal an open model into the new directory ``destination``, under a new data key.

    Args:
        model: is not changed; stays open.
        destination: must not exist.
        keys: public halves; each of them alone can open the new model.
        label: from :func:`next_label`.
        progress: told of bytes that are done.

    Raises:
        MalformedInput: as :func:`~nodeseal.loader.seal.seal_model`.
        ProofFailed: the model is not what was sealed; nothing is left behind.
        PolicyRefused: the lease ended meanwhile; nothing is left behind.
        Unavailable: as :func:`~nodeseal.loader.seal.seal_model`.
    """
    return seal_model(
        [_Opened(model, file) for file in model.content.files], destination, keys, label, progress=progress
    )


def _copy(source: memoryview, target: memoryview) -> None:
    target[:] = source
