"""Checks of private keys: the key-encryption key opens those of models, the token's files are there, tokens are signed.

No token is asked: a wrong PIN would use up one of the tries that it allows. The verifier logs in when it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nodeseal.checks.faults import Fault, passed
from nodeseal.checks.files import Named, file_faults, secret_faults
from nodeseal.errors import NodesealError, Unavailable
from nodeseal.files import read_private
from nodeseal.verifier.config import Config
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.keys.keystore import CREDENTIAL, FILE_PLACE, PROOF, FileKeyStore, load_kek
from nodeseal.verifier.keys.stores import PIN_CREDENTIAL
from nodeseal.verifier.results.tokens import EarSigner
from nodeseal.verifier.store.database import run
from nodeseal.verifier.store.migrate import current_database
from nodeseal.verifier.store.policy import KeyRecord, list_keys

KEK: Final = "keys.kek"
EAR: Final = "keys.ear"
_FOLDER: Final = "keys.folder"
_CONCERNED: Final = frozenset({KEK, _FOLDER})


def model_key_faults(config: Config, owner: int, *, untouched: bool) -> Iterator[Fault]:
    """Check every model key in a file against the key-encryption key.

    If none opens, the key-encryption key or the folder is not the one of this database: nothing may be made under it.
    If some open, and it is the one that was in use here last, each other key is damaged by itself. Revoked keys need
    not open any more.

    Raises:
        MalformedInput: the key-encryption key cannot be read, or is none.
    """
    kek = Named(KEK, config.kek)
    credential = read_credential(CREDENTIAL) is not None
    if not credential and not (yield from passed(secret_faults(kek, owner))):
        return
    files = FileKeyStore(config.key_folder, load_kek(config.kek))
    keys = [key for key in _recorded(config, untouched=untouched) if key.place == FILE_PLACE and key.revoked is None]
    damaged = {key.key_id: said for key in keys if (said := _damage(files, key))}
    place = f"systemd's credential {CREDENTIAL}" if credential else str(config.kek)
    if keys and len(damaged) == len(keys):
        yield _wrong(place, config, next(iter(damaged.values())), len(keys))
        return
    if damaged and files.known() is False:
        yield _changed(place, config, len(keys) - len(damaged), len(keys))
        return
    for key_id, said in damaged.items():
        what = f"key {key_id}: {said}"
        remedy = f"restore its file from the backup, or: nodeseal key revoke {key_id} --reason lost"
        yield Named(_FOLDER, config.key_folder).fault(what, remedy, fatal=False)


def _wrong(place: str, config: Config, said: str, count: int) -> Fault:
    return Fault(
        field=KEK,
        file=place,
        what=f"opens none of the {count} model keys of this database in {config.key_folder}: {said}",
        remedy="put back the key-encryption key and the keys folder of this database; they are backed up apart from it",
    )


def _changed(place: str, config: Config, opened: int, count: int) -> Fault:
    return Fault(
        field=KEK,
        file=place,
        what=f"is not the one that was in use with {config.key_folder} last: opens {opened} of its {count} model keys",
        remedy=f"put that one back; if it is lost for good: rm {config.key_folder / PROOF}, and revoke what it wrapped",
    )


def remember_kek(config: Config, faults: Iterable[Fault]) -> None:
    """Note which key-encryption key is in use, if a start has found nothing wrong with it or the keys.

    Raises:
        MalformedInput: it cannot be read.
        Unavailable: the folder of keys cannot be written.
    """
    if not any(fault.field in _CONCERNED for fault in faults):
        FileKeyStore(config.key_folder, load_kek(config.kek)).remember()


def _damage(files: FileKeyStore, key: KeyRecord) -> str:
    try:
        files.prove(key.model_key)
    except NodesealError as error:
        return str(error)
    return ""


def _recorded(config: Config, *, untouched: bool) -> list[KeyRecord]:
    """Return all model keys; none if the database cannot be read, which its own check says."""
    try:
        with current_database(config.database, untouched=untouched) as engine:
            return run(engine, list_keys)
    except Unavailable:
        return []


def ear_faults(config: Config, owner: int) -> Iterator[Fault]:
    """Check the key that signs attestation results.

    Raises:
        MalformedInput: it is none.
    """
    if (yield from passed(secret_faults(Named(EAR, config.ear_key), owner))):
        EarSigner(read_private(config.ear_key, EAR))


def token_faults(config: Config, owner: int) -> Iterator[Fault]:
    """Check the files of the token, where there is one."""
    if config.token is None:
        return
    yield from file_faults(Named("keys.pkcs11.module", config.token.module))
    if config.token.pin is not None and read_credential(PIN_CREDENTIAL) is None:
        yield from secret_faults(Named("keys.pkcs11.pin", config.token.pin), owner)
