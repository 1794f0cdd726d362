"""Check the files of a model before they are sealed: what would loaders say of them?

A sealed folder that no loader opens is found after the upload, on a node. So every header is parsed, and indexes are
compared with the files that they name. A file that would stay readable although it looks like weights is found here,
too. Nothing is changed, and no weights are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.loader.safetensors import ITEM_BITS, Header, check_length, decode_header, header_size
from nodeseal.loader.source import SourceFile
from nodeseal.loader.weights import parse_index

_SAFETENSORS: Final = ".safetensors"
_INDEX: Final = re.compile(r".*\.safetensors\.index(\.[\w-]+)?\.json")
_FOUND: Final = re.compile(r"model(\.[\w-]+)?\.safetensors|model\.safetensors\.index(\.[\w-]+)?\.json")
"""Names in a model's folder that transformers opens."""
_SHARD: Final = re.compile(r"(?P<stem>.*)-\d+-of-\d+(\.[\w-]+)?\.safetensors")
_PARTIAL: Final = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".tmp", ".download")
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_RAW_TYPES: Final = frozenset(("F6_E2M3", "F6_E3M2"))
_BEGINNING: Final = 1 << 16
_MAX_INDEX: Final = 64 << 20
_MAX_NAMES: Final = 3

_MAGIC: Final = {
    b"GGUF": "GGUF",
    b"PK\x03\x04": "a ZIP archive, as PyTorch saves it",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF\r\n": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a compressed file",
    b"\x28\xb5\x2f\xfd": "a compressed file",
    b"TFL3": "TensorFlow Lite",
    b"ggml": "GGML",
    b"lmgg": "GGML",
    b"tree\nversion=": "a LightGBM model",
}
_TREES: Final = (b'"gradient_booster"', b'"tree_info"', b'"oblivious_trees"')
"""Words of models of trees in JSON."""
_NUMBERS: Final = frozenset(b"0123456789.,-+eE[] \t\r\n")
_NUMERIC_SHARE: Final = 0.95
_SMALLEST_WEIGHTS: Final = 1 << 12
"""Bytes. Lists of numbers that are shorter are configuration."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reason why loaders would not open what is sealed.

    Attributes:
        path: the file.
        problem: what is wrong with it.
        remedy: what to do.
        readable: True: weights would stay readable. False: something would not open.
    """

    path: str
    problem: str
    remedy: str
    readable: bool = False


def check_files(files: Sequence[SourceFile]) -> tuple[Trouble, ...]:
    """Return all troubles, in the order of the paths.

    Raises:
        Unavailable: a file cannot be read, or changes meanwhile.
    """
    by_path = {file.path: file for file in files}
    headers: dict[str, Header] = {}
    troubles: list[Trouble] = []
    for file in files:
        troubles += _check_file(file, headers)
    for path in filter(_INDEX.fullmatch, by_path):
        troubles += _check_index(by_path[path], by_path, headers)
    troubles += _check_layout(by_path)
    return tuple(sorted(troubles, key=lambda trouble: trouble.path))


def _check_file(file: SourceFile, headers: dict[str, Header]) -> Iterator[Trouble]:
    beginning = _read(file, 0, min(file.size, _BEGINNING))
    if beginning.startswith(_POINTER):
        yield Trouble(file.path, "a Git LFS pointer, not the file itself", "git lfs pull")
    elif file.path.endswith(_PARTIAL):
        yield Trouble(file.path, "a download that did not end", "download it again, or leave it out with --exclude")
    elif file.path.endswith(_SAFETENSORS):
        yield from _check_header(file, headers)
    elif not file.sealed and (found := looks_like_weights(beginning, file.size)):
        remedy = "--all or --seal seals it, --exclude leaves it out"
        yield Trouble(file.path, f"would stay readable, and looks like weights: {found}", remedy, readable=True)


def _check_header(file: SourceFile, headers: dict[str, Header]) -> Iterator[Trouble]:
    try:
        size = header_size(memoryview(_read(file, 0, min(8, file.size))), file.size, file.path)
        header = decode_header(memoryview(_read(file, 0, size)), file.size, file.path)
        for entry in header.tensors:
            check_length(entry, file.path)
    except MalformedInput as error:
        yield Trouble(file.path, str(error).removeprefix(f"{file.path}: "), error.remedy or "download or save it again")
        return
    headers[file.path] = header
    types = {entry.dtype for entry in header.tensors}
    for dtype in sorted(types - ITEM_BITS.keys()):
        yield Trouble(file.path, f"has tensors of the type {dtype[:16]!a}, which no loader knows", "convert them")
    for dtype in sorted(types & _RAW_TYPES):
        remedy = f"read them with raw=[{dtype!r}], or convert them"
        yield Trouble(file.path, f"has tensors of the type {dtype}, which open as bytes only", remedy)


def _check_index(
    file: SourceFile, by_path: Mapping[str, SourceFile], headers: Mapping[str, Header]
) -> Iterator[Trouble]:
    if file.size > _MAX_INDEX:
        yield Trouble(file.path, f"an index of {file.size:,} bytes", "save the model again")
        return
    try:
        layout = parse_index(_read(file, 0, file.size), file.path)
    except MalformedInput as error:
        if not _read(file, 0, min(file.size, _BEGINNING)).startswith(_POINTER):
            yield Trouble(file.path, str(error).removeprefix(f"{file.path}: "), "save the model again")
        return
    for name, tensors in layout.items():
        path = (PurePosixPath(file.path).parent / name).as_posix()
        if path not in by_path:
            yield Trouble(file.path, f"names {path[:200]!a}, which is not there", "download all files of the model")
        elif path in headers and (odd := tensors ^ {entry.name for entry in headers[path].tensors}):
            names = ", ".join(ascii(name[:80]) for name in sorted(odd)[:_MAX_NAMES])
            yield Trouble(path, f"{len(odd)} tensors differ from {file.path}, such as {names}", "save the model again")


def _check_layout(by_path: Mapping[str, SourceFile]) -> Iterator[Trouble]:
    """Find weights beside ``config.json`` that no loader opens, since no name and no index leads to them."""
    folders: dict[str, list[str]] = {}
    for path in by_path:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        shards = [name for name in names if _SHARD.fullmatch(name)]
        indexes = [name for name in names if _INDEX.fullmatch(name)]
        weights = [name for name in names if name.endswith(_SAFETENSORS)]
        if shards and not indexes:
            yield Trouble(_join(folder, shards[0]), "a part of a model without its index", "download the index, too")
        elif not folder and "config.json" in names and weights and not any(map(_opens, names)):
            remedy = "rename it to model.safetensors, or read it with safe_open"
            yield Trouble(weights[0], "transformers and vLLM do not look for a file of this name", remedy)


def _opens(name: str) -> bool:
    return bool(_FOUND.fullmatch(name)) or name == "adapter_model.safetensors"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def looks_like_weights(beginning: bytes, size: int) -> str:
    """Return what a file looks like by its first bytes, if that is weights; otherwise an empty text."""
    for magic, name in _MAGIC.items():
        if beginning.startswith(magic):
            return name
    if len(beginning) > 8 and beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < size:  # noqa: PLR2004 - the length of a header
        return "safetensors"
    if any(word in beginning for word in _TREES):
        return "a model of trees"
    if size >= _SMALLEST_WEIGHTS and sum(map(_NUMBERS.__contains__, beginning)) > _NUMERIC_SHARE * len(beginning):
        return "a list of numbers"
    return ""


def _read(file: SourceFile, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    with file.reading() as read:
        read(memoryview(buffer), start)
    return bytes(buffer)
