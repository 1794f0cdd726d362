"""The one list of checks of a verifier's setup, for its start and for ``nodeseal-verifier check``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from nodeseal.checks.faults import Check, Fault, find_faults, require_fit
from nodeseal.checks.files import Named, file_faults, folder_faults, owner_of, secret_faults
from nodeseal.errors import NodesealError, Unavailable
from nodeseal.files import claim_folder
from nodeseal.verifier.checks import addresses, keys, store, tls, vendors
from nodeseal.verifier.config import Config

_REMEDY: Final = "stop the verifier that runs there, or give each verifier a folder of its own"
_log: Final = structlog.get_logger()


def checks_of(config: Config, file: Path, now: datetime) -> tuple[Check, ...]:
    """Return all checks of a setup but those of its addresses, which a running verifier holds itself.

    Args:
        config: the settings.
        file: where they stand.
        now: the current time.
    """
    owner = owner_of(config.database)
    return (
        partial(file_faults, Named("--config", file)),
        partial(store.database_faults, config, owner),
        partial(store.journal_faults, config),
        partial(tls.authority_faults, config, owner, now),
        partial(tls.server_faults, config, owner, now),
        partial(secret_faults, Named("keys.ear", config.ear_key), owner),
        partial(keys.model_key_faults, config, owner),
        partial(keys.token_faults, config, owner),
        partial(folder_faults, Named("keys.folder", config.key_folder), private=True),
        partial(vendors.vendor_faults, config.enrolment, now),
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
        faults = find_faults((*checks_of(config, file, now), partial(addresses.address_faults, config)))
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
    others = () if holder else (partial(addresses.address_faults, config),)
    return find_faults((*checks_of(config, file, now), *others)), holder


def fault_of(error: NodesealError) -> Fault:
    """Return settings that do not parse as a fault."""
    return Fault(what=str(error), remedy=error.remedy)
