"""Checks of the database and what lies beside it: there, this version's, whole, written by this verifier, with room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import sqlalchemy as sa

from nodeseal.checks.faults import Fault, passed
from nodeseal.checks.files import Named, file_faults, folder_faults, private_folder_faults, secret_faults, space_faults
from nodeseal.verifier.config import Config
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.ledger import RESERVED_BYTES
from nodeseal.verifier.ledger.log import MAC_KEY_CREDENTIAL, check_log, check_tree, load_mac_key
from nodeseal.verifier.ledger.tree.explained import Explained
from nodeseal.verifier.ledger.tree.log_tree import (
    LOG_KEY_CREDENTIAL,
    load_log_key,
    read_checkpoint_file,
    read_head,
    require_beginning,
)
from nodeseal.verifier.store.database import require_database, run
from nodeseal.verifier.store.migrate import current_database
from nodeseal.verifier.trust.sanctions import Place, check_sanctions


def database_faults(config: Config, owner: int, *, untouched: bool) -> Iterator[Fault]:
    """Check the database from outside to inside; what is inside is looked at only if the outside is good.

    Args:
        config: the settings.
        owner: as whom the verifier runs.
        untouched: whether nothing may change while it is read.

    Raises:
        Unavailable: it is not there, of another version, or cannot be read.
        MalformedInput: an act in it was not written by this verifier.
    """
    require_database(config.database)
    named = Named("database", config.database)
    outside = [*file_faults(named), *_writable(named), *folder_faults(Named("database", config.database.parent))]
    good = yield from passed(outside)
    yield from space_faults(named, RESERVED_BYTES)
    if read_credential(MAC_KEY_CREDENTIAL) is None and config.acts_key.exists():
        yield from secret_faults(Named("keys.acts", config.acts_key), owner)
    if read_credential(LOG_KEY_CREDENTIAL) is None and config.log_key.exists():
        yield from secret_faults(Named("keys.log", config.log_key), owner)
    if not good:
        return
    with current_database(config.database, untouched=untouched) as engine:
        yield from _inside(engine, named)
        mac_key = load_mac_key(config.acts_key)
        shape = check_log(engine, mac_key)
        with closing(Explained(mac_key)) as explained:
            run(engine, explained.require_policy)
        public = load_log_key(config.log_key).public
        check_tree(engine, shape, public)
        origin = run(engine, lambda connection: read_head(connection, public)).signed.checkpoint.origin
        run(engine, lambda connection: check_sanctions(connection, Place(config.trust_domain, origin)))


def checkpoint_faults(config: Config, *, untouched: bool) -> Iterator[Fault]:
    """Compare the database with the last checkpoint, which is kept outside it.

    Args:
        config: the settings.
        untouched: whether nothing may change while it is read.

    Raises:
        MalformedInput: a checkpoint is missing or forged, or the database is behind, or holds another tree.
        Unavailable: something cannot be read.
    """
    yield from folder_faults(Named("checkpoint", config.checkpoint.parent))
    public = load_log_key(config.log_key).public
    kept = read_checkpoint_file(config.checkpoint, public).checkpoint  # before the database, which may go on

    with current_database(config.database, untouched=untouched) as engine:
        run(engine, lambda connection: require_beginning(connection, read_head(connection, public), kept))


def _writable(named: Named) -> Iterator[Fault]:
    if not os.access(named.path, os.W_OK):
        remedy = "let the verifier's user own it; is its file system read-only?"
        yield named.fault(
            "cannot be written: nothing is released, and only what takes trust away counts", remedy, fatal=False
        )


def _inside(engine: sa.Engine, named: Named) -> Iterator[Fault]:
    """Let SQLite look for damage; it names the first places."""
    damage = run(engine, lambda connection: connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all())
    if damage != ["ok"]:
        said = "; ".join(" ".join(str(each).split()) for each in damage)
        yield named.fault(f"damaged: {said[:300]}", "restore the last backup; check the disk that it lies on")


def journal_faults(config: Config) -> Iterator[Fault]:
    """Check the journal's folder and the restrictions in it; the verifier makes a folder that is not there.

    Raises:
        MalformedInput: a file in it does not parse.
        Unavailable: a file in it cannot be read.
    """
    if not config.journal.exists() and not config.journal.is_symlink():
        yield from folder_faults(Named("journal", config.journal.parent))
        return
    if (yield from passed(private_folder_faults(Named("journal", config.journal)))):
        Journal(config.journal).peek()
