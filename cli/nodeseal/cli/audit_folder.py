"""The folder of an export: what ``nodeseal audit export`` writes and ``audit verify`` reads.

::

    checkpoint          signed note: origin, size and root of the log, with cosignatures
    acts.jsonl          one act a line: sequence, envelope, body (null: withheld), leaf hash
    documents/DIGEST    findings, labels, goldens and content of models, named by their SHA-256
    state.jsonl         what is in force: one row a line, with its table

Envelope and body stand as text, since their exact bytes are hashed.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from nodeseal.documents import Fields, encode_json, parse_json
from nodeseal.errors import MalformedInput
from nodeseal.files import naming, read_regular, read_small, sync_folder, write_file
from nodeseal.ids import Digest, parse_digest
from nodeseal.tlog.note import MAX_NOTE
from nodeseal.v1 import log_pb2
from nodeseal.verifier.results.audit import WITHHOLDABLE, AuditExport, ExportedRecord

T = TypeVar("T")
_MAX_FILE: Final = 16 * 1024 * 1024 * 1024
_MAX_DOCUMENT: Final = 64 * 1024 * 1024


class ExportWriter:
    """Writes an export into a folder that is there only if all of it is.

    Args:
        folder: to fill.
        withhold: whether bodies of acts that only take trust away, or tell what was seen, are left out.
    """

    def __init__(self, folder: Path, *, withhold: bool) -> None:
        self._folder: Final = folder
        self._withhold: Final = withhold
        self._lines: dict[str, list[bytes]] = {"acts.jsonl": [], "state.jsonl": []}
        self._documents: dict[str, bytearray] = {}
        self._named: set[str] = set()
        self.withheld = 0
        """Bodies that were left out."""

    def add(self, part: log_pb2.ExportPart) -> None:
        """Take in the next part."""
        match part.WhichOneof("part"):
            case "act":
                self._add_act(part.act)
            case "document":
                self._documents.setdefault(part.document.digest, bytearray()).extend(part.document.data)
            case "row":
                self._lines["state.jsonl"].append(part.row.content)

    def write(self, note: bytes) -> None:
        """Write all files; ``note`` is the checkpoint.

        Raises:
            Unavailable: the disk refuses.
        """
        write_file(self._folder / "checkpoint", note)
        for name, lines in self._lines.items():
            write_file(self._folder / name, b"".join(line + b"\n" for line in lines))
        documents = self._folder / "documents"
        with naming(documents):
            documents.mkdir()
        for digest, content in self._documents.items():
            if not self._withhold or digest in self._named:
                write_file(documents / parse_digest(digest), bytes(content))
        with naming(documents):
            sync_folder(documents)

    def _add_act(self, act: log_pb2.ExportedAct) -> None:
        kind = json.loads(act.envelope)["kind"]
        withheld = self._withhold and kind in WITHHOLDABLE
        self.withheld += withheld
        if not withheld:
            fields = json.loads(act.body)["fields"]
            self._named.update(value for value in fields.values() if isinstance(value, str))
        line = {
            "sequence": act.sequence,
            "envelope": act.envelope.decode(),
            "body": None if withheld else act.body.decode(),
            "leaf_hash": act.leaf_hash.hex(),
        }
        self._lines["acts.jsonl"].append(encode_json(line))


@contextmanager
def new_export(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which is called ``folder`` when all of it is on the disk.

    Raises:
        MalformedInput: there is something of that name.
        Unavailable: the disk refuses.
    """
    if folder.exists() or folder.is_symlink():
        raise MalformedInput(f"{folder}: exists already", remedy="name a folder that does not exist yet")
    draft = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(8)}")
    with naming(folder):
        draft.mkdir(parents=True)
        try:
            yield draft
            sync_folder(draft)
            draft.rename(folder)
            sync_folder(folder.absolute().parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def read_export(folder: Path) -> AuditExport:
    """Read the folder of an export.

    Raises:
        MalformedInput: a file does not parse; the message names it.
        Unavailable: a file is missing or cannot be read.
    """
    return AuditExport(
        note=read_small(folder / "checkpoint", MAX_NOTE),
        records=tuple(_lines(folder / "acts.jsonl", _record)),
        documents=dict(_documents(folder / "documents")),
        rows=tuple(_lines(folder / "state.jsonl", lambda raw, where: encode_json(parse_json(raw, where)))),
    )


def _documents(folder: Path) -> Iterator[tuple[Digest, bytes]]:
    with naming(folder):
        paths = sorted(folder.iterdir())
    for path in paths:
        yield parse_digest(path.name, f"{folder}: a file's name"), read_small(path, _MAX_DOCUMENT)


def _lines(path: Path, parse: Callable[[bytes, str], T]) -> Iterator[T]:
    for number, line in enumerate(read_regular(path, _MAX_FILE).splitlines(), 1):
        yield parse(line, f"{path}, line {number}")


def _record(raw: bytes, where: str) -> ExportedRecord:
    fields = Fields(parse_json(raw, where), where)
    body = fields.take("body")
    if body is not None and not isinstance(body, str):
        raise fields.wrong("body", "text, or null")
    leaf = fields.take("leaf_hash")
    record = ExportedRecord(
        sequence=fields.integer("sequence", low=1, high=2**53 - 1),
        envelope=str(fields.take("envelope")).encode(),
        body=None if body is None else body.encode(),
        leaf=bytes.fromhex(leaf) if isinstance(leaf, str) and _is_hex(leaf) else b"",
    )
    fields.done()
    return record


def _is_hex(text: str) -> bool:
    return len(text) in {0, 64} and not set(text) - set("0123456789abcdef")
