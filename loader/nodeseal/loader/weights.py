"""All tensors of a model, from all its files.

The layout is Hugging Face's: ``model.safetensors``, or several files that ``model.safetensors.index.json`` names, as
``{"metadata": {...}, "weight_map": {tensor: file}}``. The files must hold exactly the tensors of the index, so that
none is missing or added unnoticed. Safetensors files that the index does not name are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nodeseal.errors import MalformedInput
from nodeseal.loader.closing import Closing
from nodeseal.loader.model import SealedModel
from nodeseal.loader.tensor_slice import TensorSlice
from nodeseal.loader.tensors import TensorFile, open_tensors
from nodeseal.sealed.content import SealedFile

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsChoice:
    """The weights that are asked for, where a model has several.

    Attributes:
        subfolder: folder in the model, or an empty text.
        variant: such as ``fp16``, which is part of the file's name; or an empty text.
        name: name of the file or index in that folder, if the configuration says it; or an empty text.
        extra: names of further files in that folder, which need not be there.
        single_first: whether a single file counts before an index.
    """

    subfolder: str = ""
    variant: str = ""
    name: str = ""
    extra: tuple[str, ...] = ()
    single_first: bool = False

    def candidates(self) -> tuple[str, ...]:
        """Return the paths to look for, the first one first."""
        if self.name:
            return (self.path(self.name),)
        names = (SINGLE, INDEX) if self.single_first else (INDEX, SINGLE)
        return tuple(self.path(self._with_variant(name)) for name in names)

    def path(self, name: str) -> str:
        """Return the path in the model of a file in the folder."""
        folder = self.subfolder.strip("/")
        return f"{folder}/{name}" if folder else name

    def _with_variant(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        return f"{stem}.{self.variant}.{suffix}" if self.variant else name


_ANY: Final = WeightsChoice()


class Weights(Closing):
    """All tensors of an open model. Close it, or use it with ``with``. Returned tensors stay valid."""

    def __init__(
        self, model: SealedModel, framework: str = "pt", device: str = "cpu", *, choice: WeightsChoice = _ANY
    ) -> None:
        """Open all files and verify their headers.

        Args:
            model: the model; it stays open when this object is closed.
            framework: as in :func:`nodeseal.loader.open_tensors`.
            device: device of the tensors.
            choice: which of the model's weights.

        Raises:
            NotFound: the index names a file that is missing or not sealed.
            MalformedInput: the model has no weights, or its tensors differ from the index.
            ProofFailed: a header is not what was sealed.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        self._files: Final[list[TensorFile]] = []
        self._where: Final[dict[str, TensorFile]] = {}
        try:
            for path, names in _layout(model, choice).items():
                file = open_tensors(model, path, framework, device)
                self._files.append(file)
                _compare(path, file.keys(), names)
                self._where.update(dict.fromkeys(file.offset_keys(), file))
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Return the names of all tensors, file by file, in the order of their data."""
        return list(self._where)

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor that is read when it is indexed, as :meth:`TensorFile.get_slice` does."""
        return self._where[name].get_slice(name)

    def verify_tags(self) -> None:
        """Verify that all bytes read so far are what was sealed; see :meth:`TensorFile.verify_tags`.

        Raises:
            ProofFailed: a segment is not what was sealed, or an earlier read did not verify.
            PolicyRefused: the lease has ended, or ends during the read.
            Unavailable: the file cannot be read.
        """
        for file in self._files:
            file.verify_tags()

    def close(self) -> None:
        """Forget the files' keys."""
        for file in self._files:
            file.close()


def parse_index(raw: bytes, source: str = INDEX) -> Mapping[str, frozenset[str]]:
    """Return the tensors of each file that an index names.

    Args:
        raw: the document.
        source: its name, for errors.

    Raises:
        MalformedInput: the document is not such an index, or names no tensor.
    """
    try:
        document: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedInput(f"{source}: not JSON") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(path, str) for path in weight_map.values()):
        raise MalformedInput(f"{source}: expected a weight_map from tensors to files")
    if not weight_map:
        raise MalformedInput(f"{source}: names no tensor")
    names: dict[str, set[str]] = {}
    for name, path in weight_map.items():
        names.setdefault(path, set()).add(name)
    return {path: frozenset(names[path]) for path in sorted(names)}


def _layout(model: SealedModel, choice: WeightsChoice) -> Mapping[str, frozenset[str] | None]:
    """Return the files with weights and, if there is an index, the tensors of each."""
    paths = {file.path for file in model.files()}
    found = next((path for path in choice.candidates() if path in paths), None)
    if found is None:
        raise _no_weights(model, choice)
    layout: dict[str, frozenset[str] | None] = {found: None}
    if found.endswith(".json"):
        layout = {choice.path(name): names for name, names in parse_index(bytes(model.read(found)), found).items()}
    return layout | {path: None for path in map(choice.path, choice.extra) if path in paths and path not in layout}


def _no_weights(model: SealedModel, choice: WeightsChoice) -> MalformedInput:
    weights = [file.path for file in model.files() if isinstance(file, SealedFile)]
    asked = {"subfolder": choice.subfolder, "variant": choice.variant}
    told = "".join(f", {name}={value[:80]!a}" for name, value in asked.items() if value)
    return MalformedInput(
        f"neither {' nor '.join(choice.candidates())} among the sealed files{told}: {', '.join(weights)[:200]}",
        remedy="save the model with safe_serialization=True before sealing, or read its files with open_tensors",
    )


def _compare(path: str, found: list[str], expected: frozenset[str] | None) -> None:
    if expected is None or expected == set(found):
        return
    odd = sorted(expected ^ set(found))
    raise MalformedInput(f"{path}: {len(odd)} tensors differ from the index, such as {odd[0][:80]!a}")
