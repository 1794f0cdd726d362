"""Seal tensors straight from memory, as a new sealed model of one safetensors file. No plaintext reaches a disk.

The libraries of tensors call this: :func:`nodeseal.loader.torch.save_file`, :func:`nodeseal.loader.numpy.save_file`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nodeseal.errors import MalformedInput
from nodeseal.files import read_small
from nodeseal.ids import parse_model_id
from nodeseal.loader.safetensors import ITEM_BITS, encode_header
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import Read
from nodeseal.loader.targets import Targets
from nodeseal.sealed.content import Content
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, ModelKey, parse_model_key
from nodeseal.sealed.paths import SEALED_SUFFIX, parse_path

_ORDER = {dtype: number for number, dtype in enumerate(ITEM_BITS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A tensor to seal.

    Attributes:
        dtype: type in the format's spelling.
        shape: elements in each dimension, in the format's count.
        data: the bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class _InMemory:
    """A file that lies in memory, in parts."""

    path: str
    size: int
    parts: tuple[tuple[int, memoryview], ...] = field(repr=False)
    sealed: bool = True

    @contextmanager
    def reading(self) -> Iterator[Read]:
        yield self._read

    def _read(self, buffer: memoryview, offset: int) -> None:
        target = Targets([(offset, buffer)])
        for start, part in self.parts:
            if start < offset + len(buffer) and offset < start + len(part):
                low, high = max(start, offset), min(start + len(part), offset + len(buffer))
                target.copy(low, part[low - start : high - start])


def save_tensors(  # noqa: PLR0913 - the file, and what the model shall be
    tensors: Mapping[str, Plain],
    path: Path | str,
    model_keys: Sequence[ModelKey | Path | str],
    *,
    metadata: Mapping[str, str] | None = None,
    model_id: str = "",
    version: int = 1,
) -> Content:
    """Seal tensors into a new folder.

    Args:
        tensors: the tensors; nobody may change them meanwhile.
        path: ``DIR/model.safetensors``, where ``DIR`` is the new folder.
        model_keys: public keys or their files; each of them alone can open the model.
        metadata: texts for the header.
        model_id: name of the model; the name of ``DIR`` if left out.
        version: version of the model; count up.

    Returns:
        The content; register its digest with the verifier.

    Raises:
        MalformedInput: the folder exists, a key or name is malformed, or the header becomes too large.
        Unavailable: a key cannot be read, or the disk is full or too small; nothing is left behind.
    """
    place = Path(path)
    name = parse_path(place.name.removesuffix(SEALED_SUFFIX))
    folder = place.absolute().parent
    if folder.exists():
        raise MalformedInput(f"{folder}: exists already", remedy="name a file in a folder that does not exist yet")
    ordered = dict(sorted(tensors.items(), key=lambda item: (-_ORDER[item[1].dtype], item[0])))
    label = Label(model_id=parse_model_id(model_id or folder.name.lower()), version=version, created=datetime.now(UTC))
    return seal_model([_file(name, ordered, metadata or {})], folder, [_key(key) for key in model_keys], label)


def _file(name: str, tensors: Mapping[str, Plain], metadata: Mapping[str, str]) -> _InMemory:
    sizes = {key: (tensor.dtype, tensor.shape, len(tensor.data)) for key, tensor in tensors.items()}
    header = encode_header(sizes, metadata)
    parts, size = [(0, memoryview(bytearray(header)))], len(header)
    for tensor in tensors.values():
        parts.append((size, tensor.data))
        size += len(tensor.data)
    return _InMemory(name, size, tuple(parts))


def _key(key: ModelKey | Path | str) -> ModelKey:
    return key if isinstance(key, ModelKey) else parse_model_key(read_small(Path(key), MAX_MODEL_KEY_FILE), str(key))
