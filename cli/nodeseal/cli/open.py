"""``nodeseal open``: open a sealed model on this node, verify all of it and show its content.

Nothing is written: plaintext stays in this process. Each SHA-256 is the original file's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.expected import DigestOption, agent_keys
from nodeseal.cli.output import BLANK_LINE, Block, FactList, JsonOption, Rows
from nodeseal.cli.progress import speed
from nodeseal.loader import SealedModel, open_model
from nodeseal.loader.agent_keys import DEFAULT_SOCKET
from nodeseal.loader.safetensors import TensorEntry, decode_header
from nodeseal.sealed.content import Content, PlainFile, SealedFile

_SHOWN_TENSORS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A file that verified.

    Attributes:
        file: its entry of the content file.
        sha256: of the plaintext.
        tensors: of a safetensors file.
    """

    file: SealedFile | PlainFile
    sha256: str
    tensors: tuple[TensorEntry, ...]


def open_sealed(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    socket: Annotated[Path, typer.Option(metavar="PATH", help="The agent's key socket.")] = DEFAULT_SOCKET,
    *,
    digest: DigestOption = "",
    hold: Annotated[bool, typer.Option("--hold", help="Stay open until the node loses the model, or Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a sealed model through this node's agent, verify all of it and show its content. Writes nothing.

    Each file is held in memory as a whole; `nodeseal verify` needs less.
    """
    revoked = _Revocation()
    started = time.monotonic()
    with open_model(directory, agent_keys(socket, digest), on_revoked=revoked.tell) as model:
        seen = [_read(model, file) for file in model.files()]
        seconds = time.monotonic() - started
        plain = _plain_opened(model.content, seen, seconds)
        output.show(plain, _opened_parts(model.content, seen, seconds), as_json=as_json)
        if hold:
            revoked.wait()


class _Revocation:
    """Waits for the end of a lease."""

    def __init__(self) -> None:
        self._happened = Event()
        self._reason = ""

    def tell(self, reason: str) -> None:
        self._reason = reason
        self._happened.set()

    def wait(self) -> None:
        output.errors.print("open until the node loses the model; Ctrl-C gives it back", highlight=False)
        try:
            self._happened.wait()
        except KeyboardInterrupt:
            return
        said = f"the model is closed, its keys are wiped: {escape(self._reason)}; nodeseal node show NODE says why"
        output.errors.print(said, highlight=False, soft_wrap=True)
        raise typer.Exit(output.REFUSED)


def _read(model: SealedModel, file: SealedFile | PlainFile) -> _Seen:
    plaintext = model.read(file.path)
    tensors = decode_header(plaintext, file.size, file.path).tensors if file.path.endswith(".safetensors") else ()
    return _Seen(file=file, sha256=hashlib.sha256(plaintext).hexdigest(), tensors=tensors)


def _plain_opened(content: Content, seen: list[_Seen], seconds: float) -> dict[str, object]:
    return {
        "model_digest": content.digest,
        "model_id": content.model_id,
        "version": content.version,
        "bytes": content.size,
        "seconds": round(seconds, 3),
        "files": [
            {
                "path": one.file.path,
                "size": one.file.size,
                "sealed": isinstance(one.file, SealedFile),
                "sha256": one.sha256,
                "tensors": [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in one.tensors],
            }
            for one in seen
        ],
    }


def _opened_parts(content: Content, seen: list[_Seen], seconds: float) -> Iterator[Block]:
    yield FactList(
        [
            ("model", f"{content.model_id}, version {content.version}"),
            ("digest", content.digest),
            ("verified", f"{len(seen)} files"),
            ("bytes", speed(content.size, seconds)),
        ]
    )
    yield BLANK_LINE
    rows = ((one.file.path, f"{one.file.size:,}", one.sha256) for one in seen)
    yield Rows(("file", "bytes", "SHA-256"), rows, empty="no files")
    tensors = [tensor for one in seen for tensor in one.tensors]
    if tensors:
        yield BLANK_LINE
        shown = ((t.name, t.dtype, " x ".join(map(str, t.shape)) or "scalar") for t in tensors[:_SHOWN_TENSORS])
        yield Rows(("tensor", "type", "shape"), shown, empty="")
        if len(tensors) > _SHOWN_TENSORS:
            yield Text(f"and {len(tensors) - _SHOWN_TENSORS} more; --json shows all")
