"""Tensors of one sealed safetensors file, in the shape of ``safetensors.safe_open``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from nodeseal.errors import MalformedInput, NotFound
from nodeseal.loader.closing import Closing
from nodeseal.loader.frameworks import Framework, check_length, framework_of
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.opened import OpenFile
from nodeseal.loader.safetensors import Header, TensorEntry, decode_header, header_size
from nodeseal.loader.slices import Selection, select, shifted, whole
from nodeseal.loader.targets import Targets
from nodeseal.sealed.paths import CONTENT_NAME, SEALED_SUFFIX

_TENSOR_ALIGNMENT: Final = 64
"""Alignment of the first tensor in memory, in bytes; kernels of tensor libraries are fastest with it."""
_MOST_HEADERS: Final = 1 << 17
"""Bytes that are enough for most headers; less than the smallest segment."""
_WORTH_SKIPPING: Final = 1 << 20
"""Bytes of a usual segment. A smaller gap between two selected parts is decrypted with them."""


class TensorFile(Closing):
    """One safetensors file of an open model. Close it, or use it with ``with``.

    :meth:`get_tensor` and slices verify the segments that they read. :meth:`get_tensors` and :meth:`load_into` verify
    the whole file, including the last segment and ``tags_digest``.
    """

    def __init__(self, opened: OpenFile, framework: Framework[Any], close: Callable[[], None]) -> None:
        """Verify and parse the header. Use :func:`safe_open` or :func:`open_tensors` instead.

        Args:
            opened: the file.
            framework: the library that makes the tensors.
            close: called when this object is closed.

        Raises:
            MalformedInput: not safetensors, or ``framework`` lacks a type.
            ProofFailed: the header is not what was sealed.
        """
        self._opened: Final = opened
        self._framework: Final = framework
        self._close: Final = close
        self._header: Final = _read_header(opened)
        self._entries: Final = {entry.name: entry for entry in self._header.tensors}
        for entry in self._header.tensors:
            check_length(entry, framework.item_size(entry), opened.file.path)

    def keys(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._entries)

    def offset_keys(self) -> list[str]:
        """Return the names of all tensors in the order of their data."""
        return list(self._entries)

    def metadata(self) -> dict[str, str] | None:
        """Return the texts of the file's writer, or None."""
        return dict(self._header.metadata) or None

    def get_tensor(self, name: str) -> Any:
        """Return one tensor. The segments that hold it are verified.

        Raises:
            NotFound: the file has no such tensor.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        entry = self._entry(name)
        return self._framework.deliver(self._framework.view(entry, entry.shape, self._read(entry.start, entry.stop)))

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor that is read when it is indexed.

        Raises:
            NotFound: the file has no such tensor.
        """
        return TensorSlice(self._entry(name), self._framework, self._read)

    def get_tensors(self) -> dict[str, Any]:
        """Return all tensors, as views of one piece of memory. The whole file is verified.

        Raises:
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        framework, padding = self._framework, -self._header.size % _TENSOR_ALIGNMENT
        memory = framework.allocate(padding + self._opened.file.size)
        self._opened.fill(Targets([(0, memory[padding:])], fresh=True))
        data = memory[padding + self._header.size :]
        return {
            entry.name: framework.deliver(framework.view(entry, entry.shape, data[entry.start : entry.stop]))
            for entry in self._header.tensors
        }

    def load_into(self, params: Mapping[str, Any], *, unseen: bool = False) -> None:
        """Fill existing tensors from the whole file. If that fails, they hold zeros.

        Each byte is verified before it is copied, because the model that owns the parameters may be running.

        Args:
            params: exactly one tensor for each tensor of the file, with its type and shape, contiguous in main memory.
            unseen: nobody reads ``params`` before this returns, so decrypt straight into them, which is faster.

        Raises:
            ValueError: names, types or shapes differ; nothing was changed.
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        _refuse_others(params, self._entries)
        self._opened.fill(self.targets(params, unseen=unseen))

    def targets(self, params: Mapping[str, Any], *, unseen: bool) -> Targets:
        """Return the targets of the file's bytes in ``params``, which may hold tensors of other files too.

        Raises:
            ValueError: a type or shape differs.
        """
        start, framework = self._header.size, self._framework
        parts = [(start + entry.start, framework.memory(entry, params[entry.name])) for entry in self._header.tensors]
        return Targets(parts, unseen=unseen)

    def fill(self, targets: Targets) -> None:
        """Verify the whole file and fill ``targets`` from it. If that fails, they hold zeros.

        Raises:
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self._opened.fill(targets)

    def verify_tags(self) -> None:
        """After :meth:`get_tensor` and slices: verify that all returned bytes are what was sealed.

        Raises:
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self._opened.verify_tags()

    def close(self) -> None:
        """Forget the file's keys. Returned tensors stay valid."""
        self._opened.close()
        self._close()

    def _entry(self, name: str) -> TensorEntry:
        if name not in self._entries:
            raise NotFound(f"{self._opened.file.path} has no tensor {name[:80]!a}")
        return self._entries[name]

    def _read(self, start: int, stop: int) -> memoryview:
        """Return bytes of the data, counted from the end of the header."""
        memory = self._framework.allocate(stop - start)
        self._opened.read_range_into(memory, self._header.size + start)
        return memory


class TensorSlice:
    """A tensor that is read when it is indexed. Only segments with selected elements are read."""

    def __init__(self, entry: TensorEntry, framework: Framework[Any], read: Callable[[int, int], memoryview]) -> None:
        """Read nothing yet. Use :meth:`TensorFile.get_slice` instead."""
        self._entry: Final = entry
        self._framework: Final = framework
        self._read: Final = read
        self._item_size: Final = framework.item_size(entry)

    def get_shape(self) -> list[int]:
        """Return the whole tensor's shape."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """Return the type in the file's spelling."""
        return self._entry.dtype

    def __getitem__(self, index: Any) -> Any:
        """Return the result of NumPy's basic indexing: integers, slices with positive steps, and an ellipsis.

        Raises:
            IndexError: too many indices, or one out of range.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        selection = select(self._entry.shape, index)
        return self._framework.deliver(self._take(selection, self._entry.shape, self._entry.start))

    def _take(self, selection: Selection, shape: tuple[int, ...], start: int) -> Any:
        """Return the selection of a part of the tensor. The part has this shape, and its bytes begin at ``start``."""
        row = self._item_size * math.prod(shape[1:])
        first, rest = (selection[0], selection[1:]) if selection else (0, ())
        rows = range(first, first + 1) if isinstance(first, int) else first
        if rows and row > _WORTH_SKIPPING and not (rows.step == 1 and whole(rest, shape[1:])):
            parts = [self._take(rest, shape[1:], start + number * row) for number in rows]
            return parts[0] if isinstance(first, int) else self._framework.stack(parts)
        low, high = (rows[0], rows[-1] + 1) if rows else (0, 0)
        data = self._read(start + low * row, start + high * row)
        view = self._framework.view(self._entry, (high - low, *shape[1:]), data)
        return view[(shifted(first, low), *(shifted(part, 0) for part in rest), ...)]


def _read_header(opened: OpenFile) -> Header:
    name, size = opened.file.path, opened.file.size
    beginning = opened.read_range(0, min(_MOST_HEADERS, size))
    if (needed := header_size(beginning, size, name)) > len(beginning):
        beginning = opened.read_range(0, needed)
    return decode_header(beginning, size, name)


def open_tensors(
    model: SealedModel, path: str, framework: str = "np", device: str = "cpu", *, pin_memory: bool = False
) -> TensorFile:
    """Open a safetensors file of an open model.

    Args:
        model: the model; it stays open when the file is closed.
        path: path of the file in the model.
        framework: ``np`` or ``pt``.
        device: device of the tensors.
        pin_memory: decrypt into page-locked memory.

    Raises:
        NotFound: the content file knows no such sealed file.
        MalformedInput: not safetensors, or the framework lacks a type.
        ProofFailed: the header is not what was sealed.
        PolicyRefused: the lease has ended, or ends during the read.
        Unavailable: the file cannot be read.
    """
    tensors = framework_of(framework, device, pin_memory=pin_memory)
    opened = model.open(path)
    try:
        return TensorFile(opened, tensors, lambda: None)
    except BaseException:
        opened.close()
        raise


def load_into(model: SealedModel, params: Mapping[str, Any], framework: str = "np", *, unseen: bool = False) -> None:
    """Fill existing tensors from all safetensors files of a model. If that fails, they hold zeros.

    Args:
        model: the open model.
        params: exactly one tensor for each tensor of the model, with its type and shape, contiguous in main memory.
        framework: ``np`` or ``pt``.
        unseen: as in :meth:`TensorFile.load_into`.

    Raises:
        ValueError: names, types or shapes differ; nothing was changed.
        MalformedInput: two files have a tensor of one name, a file is not safetensors, or the framework lacks a type.
        ProofFailed: a file is not what was sealed.
        PolicyRefused: the lease has ended, or ends during the read.
        Unavailable: the file cannot be read.
    """
    with ExitStack() as stack:
        paths = [file.path for file in model.content.sealed() if file.path.endswith(".safetensors")]
        files = [stack.enter_context(open_tensors(model, path, framework)) for path in paths]
        names = [name for file in files for name in file.offset_keys()]
        if len(set(names)) != len(names):
            raise MalformedInput("two files of the model have a tensor of one name")
        _refuse_others(params, names)
        targets = [file.targets(params, unseen=unseen) for file in files]
        try:
            for file, target in zip(files, targets, strict=True):
                file.fill(target)
        except BaseException:
            for target in targets:
                target.wipe()
            raise


def safe_open(
    path: Path | str,
    framework: str = "np",
    device: str = "cpu",
    *,
    pin_memory: bool = False,
    keys: KeyProvider | None = None,
) -> TensorFile:
    """Open one sealed safetensors file, as ``safetensors.safe_open`` does, and its model with it.

    Args:
        path: ``DIR/model.safetensors`` (or with ``.sealed``), where ``DIR`` or a folder above holds
            ``nodeseal.model.json``.
        framework: as in :func:`open_tensors`; so are ``device`` and ``pin_memory``.
        device: device of the tensors.
        pin_memory: decrypt into page-locked memory.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NotFound: the path is not in a sealed model, or the model has no such file.
        MalformedInput: not safetensors, or the framework lacks a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model.
        Unavailable: no agent answers, or a file cannot be read.
    """
    wanted = Path(path)
    for folder in wanted.parents:
        if (folder / CONTENT_NAME).is_file():
            return _open_alone(folder, wanted, framework_of(framework, device, pin_memory=pin_memory), keys)
    raise NotFound(f"{wanted}: not in a sealed model", remedy="name a file of a folder that `nodeseal seal` made")


def _open_alone(folder: Path, wanted: Path, framework: Framework[Any], keys: KeyProvider | None) -> TensorFile:
    model = open_model(folder, keys)
    try:
        opened = model.open(wanted.relative_to(folder).as_posix().removesuffix(SEALED_SUFFIX))
        return TensorFile(opened, framework, model.close)
    except BaseException:
        model.close()
        raise


def _refuse_others(params: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse missing and surplus parameters.

    Raises:
        ValueError: names differ; the message names the first missing or surplus one.
    """
    if missing := sorted(set(names) - params.keys()):
        raise ValueError(f"no parameter for {len(missing)} tensors of the file, such as {missing[0][:80]!a}")
    if surplus := sorted(params.keys() - set(names)):
        raise ValueError(f"no tensor for {len(surplus)} parameters, such as {surplus[0][:80]!a}")
