"""Backup and restore: a backup is a folder as ``nodeseal-verifier init`` makes it, whole or not there.

It may be taken beside a running verifier: the journal first and the database after it, so that a restriction that
moves from one to the other in between is in one of them. What is restored is proved like the folder of a start, before
it gets its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from nodeseal.checks.faults import Fault, find_faults, require_fit
from nodeseal.errors import MalformedInput
from nodeseal.files import PRIVATE, PUBLIC, draft_beside, naming, new_folder, read_file, sync_folder, write_file
from nodeseal.verifier.checks.start import checks_of
from nodeseal.verifier.config import DEFAULT_ACTS_KEY, DEFAULT_EAR_KEY, DEFAULT_JOURNAL, DEFAULT_LOG_KEY, load_config
from nodeseal.verifier.ledger.leaf import read_entry
from nodeseal.verifier.store.acts import Filter, log_page, log_size
from nodeseal.verifier.store.database import copy_database, opened_engine, run
from nodeseal.verifier.store.persons import list_persons
from nodeseal.verifier.store.policy import list_goldens, list_keys

_SETTINGS: Final = "verifier.yaml"
_DATABASE: Final = "verifier.sqlite"
_APART: Final = frozenset({"kek", "acts.key", "log.key"})
"""What is kept apart from the database, on request."""
_OPTIONAL: Final = _APART | {"token-pin", "ear.key", "quirks.yaml"}
"""What may be a credential of systemd's, or is made when it is missing."""
_MUST_HOLD: Final = frozenset({"--config", "database", "journal", "keys.acts", "keys.log", "keys.kek", "keys.folder"})
"""Fields whose faults keep a folder from being restored. Others are mended afterwards: a certificate that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPart:
    """A file or folder of a verifier.

    Attributes:
        setting: where its path stands in the settings.
        name: what it is called in a folder that ``init`` makes.
        default: what its path is if the setting is left out; empty: then there is none.
        mode: of the file, or of the files in the folder.
        folder: whether it is one.
    """

    setting: tuple[str, ...]
    name: str
    default: str = ""
    mode: int = PRIVATE
    folder: bool = False


_PARTS: Final = (
    BackupPart(setting=("journal",), name="journal", default=DEFAULT_JOURNAL, folder=True),
    BackupPart(setting=("database",), name=_DATABASE),
    BackupPart(setting=("keys", "folder"), name="keys", folder=True),
    BackupPart(setting=("keys", "kek"), name="kek"),
    BackupPart(setting=("keys", "acts"), name="acts.key", default=DEFAULT_ACTS_KEY),
    BackupPart(setting=("keys", "log"), name="log.key", default=DEFAULT_LOG_KEY),
    BackupPart(setting=("keys", "ear"), name="ear.key", default=DEFAULT_EAR_KEY),
    BackupPart(setting=("keys", "pkcs11", "pin"), name="token-pin"),
    BackupPart(setting=("tls", "ca"), name="ca.pem", mode=PUBLIC),
    BackupPart(setting=("tls", "ca_key"), name="ca.key"),
    BackupPart(setting=("tls", "certificate"), name="server.pem", mode=PUBLIC),
    BackupPart(setting=("tls", "key"), name="server.key"),
    BackupPart(setting=("attestation", "quirks"), name="quirks.yaml", mode=PUBLIC),
    BackupPart(setting=("enrolment", "ek_roots"), name="ek-roots", mode=PUBLIC, folder=True),
)
"""The checkpoint is no part: it says whether a database was put back.

The journal comes before the database, and the keys come after it: a key is on the disk before it is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredState:
    """What a backup brings back.

    Attributes:
        acts: how many acts its log has.
        last: when the last one was.
        people: who may operate the verifier then.
        keys: model keys in force then.
        goldens: active goldens then.
        warnings: what is wrong with the folder, and does not keep it from being restored.
    """

    acts: int
    last: datetime
    people: tuple[str, ...]
    keys: tuple[str, ...]
    goldens: tuple[str, ...]
    warnings: tuple[Fault, ...]


def back_up(settings: Path, folder: Path, apart: Path | None = None) -> tuple[str, ...]:
    """Make a copy of a verifier in ``folder``; a verifier may run on what is copied.

    Args:
        settings: its verifier.yaml.
        folder: the copy; it does not exist yet.
        apart: folder to make for the key-encryption key and the key of the log; None: they are with the rest.

    Returns:
        The names of the files that were not there to be copied, as where systemd's credentials stand for them.

    Raises:
        MalformedInput: a folder exists already, or the settings do not parse.
        Unavailable: something cannot be read or written. Nothing is left behind.
    """
    load_config(settings)
    with _drafted(folder) as draft:
        if apart is None:
            return _copy(settings, draft, draft)
        with _drafted(apart) as keys:
            return _copy(settings, draft, keys)


def restore(backup: Path, folder: Path, at: datetime, apart: Path | None = None) -> RestoredState:
    """Copy a backup to ``folder``, which appears only if a verifier would start on it.

    Args:
        backup: the folder of the backup.
        folder: where to; it does not exist yet.
        at: the current time.
        apart: folder with the keys that were kept apart; None: there is none.

    Raises:
        MalformedInput: ``folder`` exists already.
        Unfit: schema, log, journal or keys of the backup are not good. Nothing is left behind.
        Unavailable: something cannot be read or written. Nothing is left behind.
    """
    with _drafted(folder) as draft:
        return _restored(backup, draft, at, apart)


def try_restore(backup: Path, at: datetime, apart: Path | None = None) -> RestoredState:
    """Prove a backup as :func:`restore` does, and leave nothing behind.

    Raises:
        Unfit: schema, log, journal or keys of the backup are not good.
        Unavailable: something cannot be read, or there is no room for the trial beside the backup.
    """
    with naming(backup), draft_beside(backup) as draft:
        return _restored(backup, draft, at, apart)


def _restored(backup: Path, draft: Path, at: datetime, apart: Path | None) -> RestoredState:
    _copy(backup / _SETTINGS, draft, draft)
    for name in sorted(_APART) if apart is not None else ():
        if apart is not None and (apart / name).exists():
            (draft / name).unlink(missing_ok=True)
            write_file(draft / name, read_file(apart / name, name), PRIVATE)
    return _proved(draft, at)


def _proved(folder: Path, at: datetime) -> RestoredState:
    """Check a folder as a start does, and read what is in force in it."""
    config = load_config(folder / _SETTINGS)
    faults = find_faults(checks_of(config, folder / _SETTINGS, at))
    require_fit([fault for fault in faults if fault.field in _MUST_HOLD])
    with opened_engine(config.database) as engine:
        acts, goldens = run(engine, log_size), run(engine, partial(list_goldens, include_retired=False))
        (row,) = run(engine, lambda connection: log_page(connection, Filter(after=acts - 1), 1))
        return RestoredState(
            acts=acts,
            last=read_entry(row.envelope, row.body).at,
            people=tuple(person.name for person in run(engine, list_persons)),
            keys=tuple(key.key_id for key in run(engine, list_keys) if key.revoked is None),
            goldens=tuple(golden.name for golden in goldens),
            warnings=tuple(fault for fault in faults if fault.field != "checkpoint"),
        )


def _copy(settings: Path, target: Path, keys: Path) -> tuple[str, ...]:
    text = read_file(settings, "--config")
    document = yaml.safe_load(text)
    base, absent, moved = settings.parent.absolute(), [], False
    for part in _PARTS:
        said = _said(document, part.setting)
        if said is None and not part.default:
            continue
        source = base / (said or part.default)
        place = (keys if part.name in _APART else target) / part.name
        if not _copy_part(part, source, place):
            absent.append(part.name)
        if (said or part.default) != part.name:
            _say(document, part)
            moved = True
    write_file(target / _SETTINGS, json.dumps(document, indent=2).encode() if moved else text)
    return tuple(absent)


def _copy_part(part: BackupPart, source: Path, place: Path) -> bool:
    """Copy a file or folder; return whether it was there."""
    if part.name == _DATABASE:
        copy_database(source, place)
    elif part.folder:
        _copy_folder(source, place, part.mode, optional=part.name == DEFAULT_JOURNAL)
    elif source.exists() or part.name not in _OPTIONAL:
        write_file(place, read_file(source, ".".join(part.setting)), part.mode)
    else:
        return False
    return True


def _copy_folder(source: Path, place: Path, mode: int, *, optional: bool) -> None:
    with naming(place):
        place.mkdir(mode=0o700 if mode == PRIVATE else 0o755)
    if optional and not source.exists():
        return
    with naming(source):
        found = sorted(path for path in source.rglob("*") if not path.name.startswith("."))
    for path in found:
        copy = place / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(mode=0o755)
        elif path.is_file():
            with _vanishing(path, optional=optional):
                write_file(copy, read_file(path, str(path)), mode)
    with naming(place):
        sync_folder(place)


@contextmanager
def _vanishing(path: Path, *, optional: bool) -> Iterator[None]:
    """Let a restriction leave the journal while it is copied: it is in the database then, which is copied later."""
    try:
        yield
    except MalformedInput:
        if not optional or path.exists():
            raise


def _said(document: Mapping[str, Any], setting: tuple[str, ...]) -> str | None:
    value: Any = document
    for key in setting:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else str(value)


def _say(document: dict[str, Any], part: BackupPart) -> None:
    *outer, last = part.setting
    for key in outer:
        document = document[key]
    document[last] = part.name


@contextmanager
def _drafted(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which is called ``folder`` when all of it is on the disk."""
    if folder.exists() or folder.is_symlink():
        raise MalformedInput(f"{folder}: exists already", remedy="name a folder that does not exist yet")
    with new_folder(folder) as draft:
        yield draft
