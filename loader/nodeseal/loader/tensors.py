"""Tensors of one sealed safetensors file, in the shape of ``safetensors.safe_open``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodeseal.errors import MalformedInput, NotFound
from nodeseal.loader.closing import Closing
from nodeseal.loader.frameworks import Framework, framework_of
from nodeseal.loader.keys import KeyProvider
from nodeseal.loader.library_errors import FileClosed, NoSuchFile, NoSuchTensor
from nodeseal.loader.model import SealedModel, open_model
from nodeseal.loader.opened import OpenFile, fill_together
from nodeseal.loader.safetensors import Header, TensorEntry, check_length, decode_header, header_size
from nodeseal.loader.targets import Targets
from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.sealed.paths import CONTENT_NAME, SEALED_SUFFIX

_TENSOR_ALIGNMENT: Final = 64
"""Alignment of the first tensor in memory, in bytes; kernels of tensor libraries are fastest with it."""
_MOST_HEADERS: Final = 1 << 17
"""Bytes that are enough for most headers; less than the smallest segment."""
BACKENDS: Final = ("mmap", "pread")
"""Ways of safetensors to read a file. All are one here: mapped bytes could change after they were verified."""


class TensorFile(Closing):
    """One safetensors file of an open model. Close it, or use it with ``with``.

    :meth:`get_tensor` and slices verify the segments that they read. :meth:`get_tensors` and :meth:`load_into` verify
    the whole file, including the last segment and ``tags_digest``.

    Attributes:
        opened: the file without its tensors.
    """

    def __init__(
        self, opened: OpenFile, framework: Framework[Any], close: Callable[[], None], raw: Collection[str] = ()
    ) -> None:
        """Verify and parse the header. Use :func:`safe_open` or :func:`open_tensors` instead.

        Args:
            opened: the file.
            framework: the library that makes the tensors.
            close: called when this object is closed.
            raw: types whose tensors are given as their bytes.

        Raises:
            MalformedInput: not safetensors, or ``framework`` lacks a type.
            ProofFailed: the header is not what was sealed.
        """
        self.opened: Final = opened
        self._framework: Final = framework
        self._close: Final = close
        self._closed = False
        self._header: Final = _read_header(opened)
        self._entries: Final[dict[str, TensorEntry]] = {}
        for entry in self._header.tensors:
            check_length(entry, opened.file.path)
            self._entries[entry.name] = _bytes_of(entry) if entry.dtype in raw else framework.stored(entry)

    def keys(self) -> list[str]:
        """Return the names of all tensors, sorted.

        Raises:
            FileClosed: the file is closed.
        """
        return sorted(self.offset_keys())

    def offset_keys(self) -> list[str]:
        """Return the names of all tensors in the order of their data.

        Raises:
            FileClosed: the file is closed.
        """
        self._check_open()
        return list(self._entries)

    def metadata(self) -> dict[str, str] | None:
        """Return the texts of the file's writer, or None.

        Raises:
            FileClosed: the file is closed.
        """
        self._check_open()
        return dict(self._header.metadata) or None

    def get_tensor(self, name: str) -> Any:
        """Return one tensor. The segments that hold it are verified.

        Raises:
            FileClosed: the file is closed.
            NoSuchTensor: the file has no such tensor.
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        entry = self._entry(name)
        return self._framework.deliver(self._framework.view(entry, entry.shape, self._read(entry.start, entry.stop)))

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor that is read when it is indexed.

        Raises:
            FileClosed: the file is closed.
            NoSuchTensor: the file has no such tensor.
        """
        return TensorSlice(self._entry(name), self._framework, self._read)

    def get_tensors(self) -> dict[str, Any]:
        """Return all tensors, as views of one piece of memory. The whole file is verified.

        Raises:
            ProofFailed: the file is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self._check_open()
        framework, padding = self._framework, -self._header.size % _TENSOR_ALIGNMENT
        memory = framework.allocate(padding + self.opened.file.size)
        self.opened.fill(Targets([(0, memory[padding:])], fresh=True))
        data = memory[padding + self._header.size :]
        return {
            entry.name: framework.deliver(framework.view(entry, entry.shape, data[entry.start : entry.stop]))
            for entry in self._entries.values()
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
        self.opened.fill(self.targets(params, unseen=unseen))

    def targets(self, params: Mapping[str, Any], *, unseen: bool) -> Targets:
        """Return the targets of the file's bytes in ``params``, which may hold tensors of other files too.

        Raises:
            ValueError: a type or shape differs.
        """
        start, framework = self._header.size, self._framework
        parts = [(start + entry.start, framework.memory(entry, params[entry.name])) for entry in self._entries.values()]
        return Targets(parts, unseen=unseen)

    def verify_tags(self) -> None:
        """After :meth:`get_tensor` and slices: verify that all returned bytes are what was sealed.

        Raises:
            ProofFailed: a segment is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self.opened.verify_tags()

    def close(self) -> None:
        """Forget the file's keys. Returned tensors stay valid."""
        self._closed = True
        self.opened.close()
        self._close()

    def _check_open(self) -> None:
        if self._closed:
            raise FileClosed(f"{self.opened.file.path} is closed")

    def _entry(self, name: str) -> TensorEntry:
        self._check_open()
        if name not in self._entries:
            raise NoSuchTensor(f"{self.opened.file.path} has no tensor {name[:80]!a}")
        return self._entries[name]

    def _read(self, start: int, stop: int) -> memoryview:
        """Return bytes of the data, counted from the end of the header."""
        memory = self._framework.allocate(stop - start)
        self.opened.read_range_into(memory, self._header.size + start)
        return memory


def _bytes_of(entry: TensorEntry) -> TensorEntry:
    return replace(entry, dtype="U8", shape=(entry.stop - entry.start,))


def _read_header(opened: OpenFile) -> Header:
    name, size = opened.file.path, opened.file.size
    beginning = opened.read_range(0, min(_MOST_HEADERS, size))
    if (needed := header_size(beginning, size, name)) > len(beginning):
        beginning = opened.read_range(0, needed)
    return decode_header(beginning, size, name)


def open_tensors(  # noqa: PLR0913 - the file, and what its tensors shall be
    model: SealedModel,
    path: str,
    framework: str = "np",
    device: str = "cpu",
    *,
    pin_memory: bool = False,
    raw: Collection[str] = (),
) -> TensorFile:
    """Open a safetensors file of an open model.

    Args:
        model: the model; it stays open when the file is closed.
        path: path of the file in the model.
        framework: ``np`` or ``pt``.
        device: device of the tensors.
        pin_memory: decrypt into page-locked memory.
        raw: types whose tensors are given as their bytes, such as ``F6_E2M3``, which no library has.

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
        return TensorFile(opened, tensors, lambda: None, raw)
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
        fill_together([(file.opened, file.targets(params, unseen=unseen)) for file in files])


def safe_open(  # noqa: PLR0913 - safetensors' arguments and ours
    path: Path | str,
    framework: str = "np",
    device: str = "cpu",
    *,
    backend: str = BACKENDS[0],
    pin_memory: bool = False,
    raw: Collection[str] = (),
    keys: KeyProvider | None = None,
) -> TensorFile:
    """Open one sealed safetensors file, as ``safetensors.safe_open`` does, and its model with it.

    Args:
        path: ``DIR/model.safetensors`` (or with ``.sealed``), where ``DIR`` or a folder above holds
            ``nodeseal.model.json``.
        framework: as in :func:`open_tensors`; so are ``device``, ``pin_memory`` and ``raw``.
        device: device of the tensors.
        backend: one of :data:`BACKENDS`, which are all the same here: nothing is mapped.
        pin_memory: decrypt into page-locked memory.
        raw: types whose tensors are given as their bytes.
        keys: as in :func:`nodeseal.loader.open_model`.

    Raises:
        NoSuchFile: there is no such file, or the model does not have it.
        NotFound: the file is not in a sealed model.
        MalformedInput: not safetensors, or the framework lacks a type.
        ProofFailed: the model is not what was sealed.
        PolicyRefused: the node may not open the model.
        Unavailable: no agent answers, or a file cannot be read.
        ValueError: no such framework, device or backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    tensors, wanted = framework_of(framework, device, pin_memory=pin_memory), Path(path)
    for folder in wanted.parents:
        if (folder / CONTENT_NAME).is_file():
            return _open_alone(folder, wanted, keys, lambda opened, close: TensorFile(opened, tensors, close, raw))
    if not wanted.exists():
        raise NoSuchFile(f"No such file or directory: {wanted}")
    raise NotFound(f"{wanted}: not in a sealed model", remedy="name a file of a folder that `nodeseal seal` made")


def _open_alone(
    folder: Path,
    wanted: Path,
    keys: KeyProvider | None,
    make: Callable[[OpenFile, Callable[[], None]], TensorFile],
) -> TensorFile:
    model = open_model(folder, keys)
    try:
        return make(model.open(wanted.relative_to(folder).as_posix().removesuffix(SEALED_SUFFIX)), model.close)
    except BaseException as error:
        model.close()
        if isinstance(error, NotFound) and not wanted.exists():
            raise NoSuchFile(f"No such file or directory: {wanted}: {error}") from error
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
