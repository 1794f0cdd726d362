"""The one list of checks of a verifier's setup, for its start and for ``nodeseal-verifier check``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

import structlog

from nodeseal.checks.faults import Check, Fault, find_faults, require_fit
from nodeseal.checks.files import Named, file_faults, owner_of, private_folder_faults
from nodeseal.errors import NodesealError, Unavailable
from nodeseal.files import claim_folder
from nodeseal.verifier.checks import addresses, keys, people, store, tls, vendors
from nodeseal.verifier.clock import Clock
from nodeseal.verifier.config import Config
from nodeseal.verifier.enrolment.vendors import FIELD, Vendors, load_vendors

_REMEDY: Final = "stop the verifier that runs there, or give each verifier a folder of its own"
_RESTORE: Final = "restore it from the backup, or correct the setting that names it"
_DAY_SECONDS: Final = 24 * 3600.0
_log: Final = structlog.get_logger()


Reads = Callable[[], Vendors]


def checks_of(
    config: Config, file: Path, now: datetime, *, read: Reads | None = None, untouched: bool = False
) -> tuple[Check, ...]:
    """Return all checks of a setup but those of its addresses, which a running verifier holds itself.

    Args:
        config: the settings.
        file: where they stand.
        now: the current time.
        read: reads the folder of vendors' certificates; None: anew.
        untouched: whether nothing may change, not even how SQLite has laid out what the database holds.
    """
    owner = owner_of(config.database)
    folder = Named("keys.folder", config.key_folder)

    return (
        check("--config", file, file_faults, Named("--config", file)),
        check("database", config.database, partial(store.database_faults, untouched=untouched), config, owner),
        check("checkpoint", config.checkpoint, partial(store.checkpoint_faults, untouched=untouched), config),
        check("journal", config.journal, store.journal_faults, config),
        *expiry_checks(config, owner, now, read=read, untouched=untouched),
        check(keys.EAR, config.ear_key, keys.ear_faults, config, owner),
        check(keys.KEK, config.kek, partial(keys.model_key_faults, untouched=untouched), config, owner),
        check("keys.pkcs11", config.key_folder, keys.token_faults, config, owner),
        check(folder.field, folder.path, private_folder_faults, folder),
    )


def expiry_checks(
    config: Config, owner: int, now: datetime, *, read: Reads | None = None, untouched: bool = False
) -> tuple[Check, ...]:
    """Return the checks of what ends by itself, which a running verifier repeats every day."""
    files, folder = config.tls, config.enrolment.ek_roots
    read = read or partial(load_vendors, folder)
    return (
        check("tls.ca", files.ca, tls.authority_faults, config, owner, now),
        check("tls.certificate", files.certificate, tls.server_faults, config, owner, now),
        check("database", config.database, partial(people.people_faults, untouched=untouched), config, now),
        check(FIELD, folder, vendors.vendor_faults, config.enrolment, read, now),
    )


def check(field: str, place: Path, find: Callable[..., Iterable[Fault]], *facts: object) -> Check:
    """Return the check that ``find`` makes of ``facts``."""
    return Check(field, place, partial(find, *facts), _RESTORE)


async def keep_warning(config: Config, clock: Clock) -> None:
    """Say in the log every day what will end, or has ended; runs until cancelled."""
    while True:
        await asyncio.sleep(_DAY_SECONDS)
        checks = expiry_checks(config, owner_of(config.database), clock.wall())
        tell(await asyncio.to_thread(find_faults, checks))


def tell(faults: Iterable[Fault]) -> None:
    """Put faults into the log."""
    for fault in faults:
        _log.warning("setup", field=fault.field, file=fault.file, what=fault.what, remedy=fault.remedy)


@contextmanager
def claimed(config: Config) -> Iterator[None]:
    """Keep every other verifier off the database and the journal while the block runs.

    Raises:
        Unavailable: another one uses them.
    """
    beside = (config.database.parent, Path(os.path.realpath(config.database)).parent, config.journal)
    folders = {Path(os.path.realpath(folder)) for folder in beside}
    with ExitStack() as claims:
        for folder in sorted(folders):
            if folder.is_dir():
                claims.callback(os.close, claim_folder(folder, _REMEDY))
        yield


@contextmanager
def proved(config: Config, file: Path, now: datetime) -> Iterator[Vendors]:
    """Check a setup, and keep it claimed while the block runs.

    Yields:
        The vendors' certificates, which were read for it.

    Raises:
        Unavailable: another verifier uses it.
        Unfit: a check found what the verifier must not start with.
    """
    with claimed(config):
        read = cache(partial(load_vendors, config.enrolment.ek_roots))
        faults = find_faults((*checks_of(config, file, now, read=read), _addresses(config, file)))
        tell(fault for fault in faults if not fault.fatal)
        require_fit(faults)
        with suppress(Unavailable):  # a start on a disk that is read-only lets people take trust away
            keys.remember_kek(config, faults)
        yield read()


def faults_beside(config: Config, file: Path, now: datetime) -> tuple[tuple[Fault, ...], str]:
    """Check a setup that a verifier may be running on, and change nothing.

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
    return find_faults((*checks_of(config, file, now, untouched=True), *others)), holder


def _addresses(config: Config, file: Path) -> Check:
    return Check("listen", file, partial(addresses.address_faults, config), "correct it")


def fault_of(error: NodesealError) -> Fault:
    """Return settings that do not parse as a fault."""
    return Fault(what=str(error), remedy=error.remedy)
