"""Seal a model again with a new data key, if the old key may have leaked. New slots would not help then.

This runs on an attested node, where the model opens. Each segment goes from the old ciphertext to the new one, so no
plaintext is on a disk and little is in memory. The tags of every file are compared with the content file before the new
model appears, so the new model has the sealed content.
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
    """Return the label of the next version.

    Args:
        content: content of the present model.
        created: time of sealing by the sealer's clock.
        version: version of the new model; None: the next one.

    Raises:
        MalformedInput: the version is not later; verifiers accept only later ones.
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
        model: the open model; it is not changed and stays open.
        destination: the new directory; must not exist.
        keys: public keys; each of them alone can open the new model.
        label: from :func:`next_label`.
        progress: called with the number of newly sealed bytes.

    Raises:
        MalformedInput: no key, two keys of one id and version, or ``destination`` exists.
        ProofFailed: the model is not what was sealed; nothing is left behind.
        PolicyRefused: the lease ended during the work; nothing is left behind.
        Unavailable: a file cannot be read, or the disk is full or too small; nothing is left behind.
    """
    return seal_model(
        [_Opened(model, file) for file in model.content.files], destination, keys, label, progress=progress
    )


def _copy(source: memoryview, target: memoryview) -> None:
    target[:] = source
