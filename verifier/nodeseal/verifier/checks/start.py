"""The one list of checks of a verifier's setup, for its start and for ``nodeseal-verifier check``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from nodeseal.checks.faults import Check, Fault, find_faults, require_fit
from nodeseal.checks.files import Named, file_faults, owner_of, private_folder_faults, secret_faults
from nodeseal.errors import NodesealError, Unavailable
from nodeseal.files import claim_folder
from nodeseal.verifier.checks import addresses, keys, store, tls, vendors
from nodeseal.verifier.config import Config

_REMEDY: Final = "stop the verifier that runs there, or give each verifier a folder of its own"
_RESTORE: Final = "restore it from the backup, or correct the setting that names it"
_log: Final = structlog.get_logger()


def checks_of(config: Config, file: Path, now: datetime) -> tuple[Check, ...]:
    """Return all checks of a setup but those of its addresses, which a running verifier holds itself.

    Args:
        config: the settings.
        file: where they stand.
        now: the current time.
    """
    owner, files = owner_of(config.database), config.tls
    ear, folder = Named("keys.ear", config.ear_key), Named("keys.folder", config.key_folder)

    def check(field: str, place: Path, find: Callable[..., Iterable[Fault]], *facts: object) -> Check:
        return Check(field, place, partial(find, *facts), _RESTORE)

    return (
        check("--config", file, file_faults, Named("--config", file)),
        check("database", config.database, store.database_faults, config, owner),
        check("journal", config.journal, store.journal_faults, config),
        check("tls.ca", files.ca, tls.authority_faults, config, owner, now),
        check("tls.certificate", files.certificate, tls.server_faults, config, owner, now),
        check(ear.field, ear.path, secret_faults, ear, owner),
        check(keys.KEK, config.kek, keys.model_key_faults, config, owner),
        check("keys.pkcs11", config.key_folder, keys.token_faults, config, owner),
        check(folder.field, folder.path, private_folder_faults, folder),
        check(vendors.FIELD, config.enrolment.ek_roots, vendors.vendor_faults, config.enrolment, now),
    )


@contextmanager
def claimed(config: Config) -> Iterator[None]:
    """Keep every other verifier off the database and the journal while the block runs.

    Raises:
        Unavailable: another one uses them.
    """
    folders = {config.database.parent.resolve(), config.journal.resolve()}
    with ExitStack() as claims:
        for folder in sorted(folders):
            if folder.is_dir():
                claims.callback(os.close, claim_folder(folder, _REMEDY))
        yield


@contextmanager
def proved(config: Config, file: Path, now: datetime) -> Iterator[None]:
    """Check a setup, and keep it claimed while the block runs.

    Raises:
        Unavailable: another verifier uses it.
        Unfit: a check found what the verifier must not start with.
    """
    with claimed(config):
        faults = find_faults((*checks_of(config, file, now), _addresses(config, file)))
        for fault in faults:
            if not fault.fatal:
                _log.warning("setup", field=fault.field, file=fault.file, what=fault.what, remedy=fault.remedy)
        require_fit(faults)
        yield


def faults_beside(config: Config, file: Path, now: datetime) -> tuple[tuple[Fault, ...], str]:
    """Check a setup that a verifier may be running on.

    Returns:
        What was found, and who runs there; empty: nobody does, so its addresses were checked too.
    """
    holder = ""
    try:
        with claimed(config):
            pass
    except Unavailable as error:
        holder = str(error)
    others = () if holder else (_addresses(config, file),)
    return find_faults((*checks_of(config, file, now), *others)), holder


def _addresses(config: Config, file: Path) -> Check:
    return Check("listen", file, partial(addresses.address_faults, config), "correct it")


def fault_of(error: NodesealError) -> Fault:
    """Return settings that do not parse as a fault."""
    return Fault(what=str(error), remedy=error.remedy)
