"""The journal: restrictions that are in force and not recorded yet, one synced file each, in the worker's own folder.

A verifier that ends before the store could take a restriction finds it here when it starts, before it accepts any
stream. A file is removed once its restriction is in the log; one that is left over is known by its salt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_small, write_new
from nodeseal.verifier.ledger.acts import Act, NodeJudged
from nodeseal.verifier.ledger.codec import act_from_plain, act_to_plain, spell_time
from nodeseal.verifier.ledger.documents import Document, document_of
from nodeseal.verifier.ledger.leaf import SALT_SIZE, parse_time
from nodeseal.verifier.ledger.restrictions import Restricting, Restriction, is_restricting
from nodeseal.verifier.store.nodes import decode_findings

_SUFFIX: Final = ".json"
_MAX_FILE: Final = 512 * 1024


class Journal:
    """The files of one folder; its methods wait for the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def write(self, restriction: Restriction) -> None:
        """Put a restriction on the disk.

        Raises:
            Unavailable: the disk refuses.
        """
        write_new(self._file(restriction), _encode(restriction))

    def discard(self, restriction: Restriction) -> None:
        """Remove a restriction that is recorded.

        Raises:
            Unavailable: the disk refuses.
        """
        try:
            self._file(restriction).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{self._folder}: {error.strerror}") from error

    def read(self) -> list[Restriction]:
        """Return all restrictions, the oldest first; make the folder if there is none.

        Raises:
            MalformedInput: a file does not parse; the message names it.
            Unavailable: the folder cannot be read or made.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for draft in self._folder.glob(".*"):  # a verifier was killed before this restriction was on the disk
                draft.unlink()
        except OSError as error:
            raise self._refused(error) from error
        return self.peek()

    def peek(self) -> list[Restriction]:
        """Return all restrictions, the oldest first, and change nothing.

        Raises:
            MalformedInput: a file does not parse; the message names it.
            Unavailable: the folder cannot be read.
        """
        try:
            paths = sorted(path for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        except OSError as error:
            raise self._refused(error) from error
        return sorted(map(_read, paths), key=lambda restriction: restriction.at)

    def _refused(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self._folder}: {error.strerror}", remedy="let the verifier's user own it")

    def _file(self, restriction: Restriction) -> Path:
        return self._folder / f"{restriction.salt.hex()}{_SUFFIX}"


def _encode(restriction: Restriction) -> bytes:
    return encode_json(
        {
            "actor": restriction.actor,
            "at": spell_time(restriction.at),
            "documents": [document.content.decode() for document in restriction.documents if document.digest],
            "fields": act_to_plain(restriction.act),
            "kind": restriction.act.kind,
            "salt": restriction.salt.hex(),
        }
    )


def _read(path: Path) -> Restriction:
    try:
        return _decode(Fields(decode_json(read_small(path, _MAX_FILE), "restriction"), "restriction"))
    except MalformedInput as error:
        remedy = "move the file away if you know what it restricts, and restrict that again"
        raise MalformedInput(f"{path}: {error}", remedy=remedy) from error


def _decode(fields: Fields) -> Restriction:
    act: Act = act_from_plain(fields.text("kind"), fields.take("fields"))
    if not is_restricting(act):
        raise MalformedInput(f"{act.kind} restricts nothing")
    documents = _documents(fields)
    _require_named(act, documents)
    restriction = Restriction(
        act=act,
        actor=fields.text("actor"),
        at=parse_time(fields, "at"),
        salt=fields.hex("salt", size=SALT_SIZE),
        documents=documents,
    )
    fields.done()
    return restriction


def _documents(fields: Fields) -> tuple[Document, ...]:
    items = fields.items("documents")
    if not all(isinstance(item, str) for item in items):
        raise fields.wrong("documents", "a list of texts")
    return tuple(document_of(str(item).encode()) for item in items)


def _require_named(act: Restricting, documents: tuple[Document, ...]) -> None:
    """Make sure that the documents are those that the act names, and hold findings."""
    named = {act.findings} - {""} if isinstance(act, NodeJudged) else set()
    if named != {document.digest for document in documents}:
        raise MalformedInput("other documents than the act names")
    for document in documents:
        decode_findings(document.content)
