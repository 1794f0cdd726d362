"""The tree over the log: tiles and a signed checkpoint for each step of the sequencer, and never two trees.

A checkpoint is signed in the transaction that numbers the acts under it, then written to a file outside the database,
and only then given out. So the file is never ahead of the database, unless the database was put back to an earlier
state. A start compares both (:meth:`LogTree.last`) and refuses a database that is behind or that differs.

The origin of a log is its trust domain and the hash of its leaf 0, whose salt no other log has. A database that goes on
after a restore begins a new log (:mod:`nodeseal.verifier.ledger.tree.new_origin`), which has another leaf 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sa

from nodeseal.crypto.ed25519 import Ed25519Signer, new_log_key
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed
from nodeseal.files import PUBLIC, read_private, read_small, replace_file, write_new
from nodeseal.tlog.checkpoint import Checkpoint, SignedCheckpoint, log_key, open_checkpoint, sign_checkpoint
from nodeseal.tlog.note import MAX_NOTE, decode_note
from nodeseal.tlog.tiles import Tile, TiledTree, extended
from nodeseal.tlog.tree import hash_leaf, root_of
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.store.tree import find_tile, newest_checkpoint, numbered_envelopes, put_checkpoint, put_tiles

LOG_KEY_CREDENTIAL: Final = "nodeseal-log-key"
_FORKED: Final = (
    "if the database was restored, run nodeseal-verifier new-origin; otherwise find out who can write to it, "
    "and restore the last backup"
)


class Head(NamedTuple):
    """The tree in use.

    Attributes:
        first: index of the act that is its leaf 0.
        signed: its last checkpoint.
    """

    first: int
    signed: SignedCheckpoint


def make_log_key(path: Path) -> None:
    """Make the key that signs checkpoints, unless there is one.

    Raises:
        Unavailable: it cannot be written.
    """
    if not path.exists() and read_credential(LOG_KEY_CREDENTIAL) is None:
        write_new(path, new_log_key())


def load_log_key(path: Path) -> Ed25519Signer:
    """Return the key that signs checkpoints: from systemd's credential, else from the file.

    Raises:
        MalformedInput: it cannot be read, others may read it, or it is no key.
    """
    raw = read_credential(LOG_KEY_CREDENTIAL)
    if raw is None and not path.exists():
        remedy = "put back the one of this log; only for a verifier that never had one: run nodeseal-verifier upgrade"
        raise MalformedInput(f"keys.log: {path}: not there", remedy=remedy)
    return Ed25519Signer(read_private(path, "keys.log") if raw is None else raw, f"keys.log: {path}")


def origin_of(trust_domain: str, leaf: bytes) -> str:
    """Return the name of the log whose leaf 0 has this hash."""
    return f"{trust_domain}/nodeseal/{leaf.hex()[:32]}"


class LogTree:
    """Signs the tree of one verifier's log.

    Args:
        signer: its key.
        trust_domain: of the verifier.
        file: where the last checkpoint that was given out is kept, outside the database.
    """

    def __init__(self, signer: Ed25519Signer, trust_domain: str, file: Path) -> None:
        self._signer: Final = signer
        self._trust_domain: Final = trust_domain
        self._file: Final = file
        self._last: SignedCheckpoint | None = None

    @property
    def public(self) -> bytes:
        """The public key of the log."""
        return self._signer.public

    def head(self, connection: sa.Connection) -> Head:
        """Return the tree in use, whose last checkpoint this verifier signed.

        Raises:
            MalformedInput: there is none, or somebody else signed it.
        """
        return read_head(connection, self._signer.public)

    def last(self, connection: sa.Connection) -> SignedCheckpoint:
        """Return the last checkpoint in the database, if it goes on from the one that is kept outside.

        Raises:
            MalformedInput: one of them is not there, or the database is behind, or holds another tree.
            Unavailable: the file cannot be read.
        """
        head = self.head(connection)
        require_beginning(connection, head, read_checkpoint_file(self._file, self._signer.public).checkpoint)
        return head.signed

    def extend(self, connection: sa.Connection, envelopes: Sequence[bytes], index: int) -> SignedCheckpoint:
        """Add leaves to the tree and sign it, in the transaction that numbers them.

        Args:
            connection: of the transaction.
            envelopes: of the acts, in the order of the log.
            index: number of the first of them in the log.

        Raises:
            MalformedInput: the tree in the database is not the one that this process signed last.
        """
        head = self.head(connection)
        checkpoint = head.signed.checkpoint
        if index != head.first + checkpoint.size:
            raise _differs(f"the tree ends at act {head.first + checkpoint.size}, and act {index + 1} comes next")
        if self._last is not None and self._last.raw != head.signed.raw:
            require_beginning(connection, head, self._last.checkpoint)
        tree = tree_in(connection, head.first)
        if root_of(checkpoint.size, tree.subtree) != checkpoint.root:
            raise _differs("a tile of the tree was changed")
        return self._grown(connection, head.first, checkpoint, envelopes)

    def begin(self, connection: sa.Connection, first: int) -> SignedCheckpoint:
        """Begin a tree whose leaf 0 is the act with index ``first``, over all numbered acts from there on.

        Raises:
            MalformedInput: there is no such act.
        """
        signed: SignedCheckpoint | None = None
        for page in numbered_envelopes(connection, first):
            origin = origin_of(self._trust_domain, hash_leaf(page[0]))
            before = signed.checkpoint if signed else Checkpoint(origin=origin, size=0, root=b"")
            signed = self._grown(connection, first, before, page)
        if signed is None:
            raise MalformedInput(f"log: there is no act {first + 1} to begin a tree with")
        return signed

    def rebuild(self, connection: sa.Connection) -> None:
        """Build the tree over all acts of a log that has none, and publish its checkpoint.

        Raises:
            MalformedInput: a checkpoint is kept outside, and this tree does not go on from it.
            Unavailable: the file cannot be read or written.
        """
        signed = self.begin(connection, 0)
        if self._file.exists():
            self.last(connection)
        self.publish(signed)

    def publish(self, signed: SignedCheckpoint) -> None:
        """Keep a checkpoint outside the database, so that it may be given out.

        Raises:
            Unavailable: the disk refuses; it is not given out.
        """
        self._last = signed
        draft = self._file.with_name(f".{self._file.name}.new")
        replace_file(self._file, signed.raw, draft, PUBLIC)

    def _grown(
        self, connection: sa.Connection, first: int, before: Checkpoint, envelopes: Sequence[bytes]
    ) -> SignedCheckpoint:
        leaves = [hash_leaf(envelope) for envelope in envelopes]
        tiles = extended(before.size, leaves, partial(_read, connection, first))
        put_tiles(connection, first, ((*tile, content) for tile, content in tiles.items()))
        size = before.size + len(leaves)
        root = root_of(size, tree_in(connection, first).subtree)
        signed = sign_checkpoint(Checkpoint(origin=before.origin, size=size, root=root), self._signer)
        put_checkpoint(connection, first, signed.raw)
        return signed


def read_head(connection: sa.Connection, public: bytes) -> Head:
    """Return the tree in use, whose last checkpoint is signed by the log's key.

    Raises:
        MalformedInput: there is none, or somebody else signed it.
    """
    found = newest_checkpoint(connection)
    if found is None:
        raise MalformedInput("store: the log has no tree", remedy="run nodeseal-verifier upgrade")
    first, note = found
    try:
        origin = decode_note(note).text.partition("\n")[0]
        return Head(first, open_checkpoint(note, log_key(origin, public)))
    except NodesealError as error:
        remedy = "put back the log.key, or the credential, that this log was signed with"
        raise MalformedInput(f"store: the last checkpoint: {error}", remedy=remedy) from error


def tree_in(connection: sa.Connection, first: int) -> TiledTree:
    """Return the tree of the stored tiles."""
    return TiledTree(partial(_read, connection, first))


def require_beginning(connection: sa.Connection, head: Head, earlier: Checkpoint) -> None:
    """Make sure that an earlier checkpoint is of the tree in the database.

    Raises:
        MalformedInput: it is of another log, of a longer tree, or of another one.
    """
    now = head.signed.checkpoint
    if earlier.origin != now.origin:
        raise _differs(f"the database holds the log {now.origin}, and the last checkpoint is of {earlier.origin}")
    if earlier.size > now.size:
        raise _differs(f"the database has {now.size} acts of the log, and {earlier.size} were signed: it is behind")
    if root_of(earlier.size, tree_in(connection, head.first).subtree) != earlier.root:
        raise _differs(f"the first {earlier.size} acts are not those that were signed")


def read_checkpoint_file(file: Path, public: bytes) -> SignedCheckpoint:
    """Return the checkpoint that is kept outside the database.

    Raises:
        MalformedInput: it is not there, does not parse, or somebody else signed it.
        Unavailable: it cannot be read.
    """
    if not file.exists():
        remedy = "put back the file that lay there; after a restore: run nodeseal-verifier new-origin"
        raise MalformedInput(f"checkpoint: {file}: not there", remedy=remedy)
    raw = read_small(file, MAX_NOTE)
    try:
        origin = decode_note(raw).text.partition("\n")[0]
        return open_checkpoint(raw, log_key(origin, public))
    except (MalformedInput, ProofFailed) as error:
        remedy = "put back the file, or the log.key, of this log"
        raise MalformedInput(f"checkpoint: {file}: {error}", remedy=remedy) from error


def _read(connection: sa.Connection, first: int, tile: Tile) -> bytes:
    content = find_tile(connection, first, *tile)
    if not content:
        raise _differs(f"tile {tile.number} of level {tile.level} is not there")
    return content


def _differs(what: str) -> MalformedInput:
    return MalformedInput(f"store: {what}", remedy=_FORKED)
