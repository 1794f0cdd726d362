"""Opens the key stores that ``verifier.yaml`` describes. The PIN of a token comes from a file, systemd or the terminal.

The PIN is never an argument and never logged. It stays in memory, because the verifier logs in again by itself after
the token was absent.
"""

from __future__ import annotations

import getpass
import sys
from typing import Final

import structlog

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_private
from nodeseal.verifier.config import Config, TokenSettings
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.keys.keystore import FileKeyStore, KeyStore, KeyStores, load_kek

PIN_CREDENTIAL: Final = "nodeseal-token-pin"
_MAX_PIN: Final = 255
_log: Final = structlog.get_logger()


def open_key_stores(config: Config) -> KeyStores:
    """Open the file store, and the token where there is one.

    The verifier starts even if the token is absent or refuses the PIN: nodes can be appraised without it, and a
    supervisor that keeps restarting the verifier would use up the tries that the token allows.

    Raises:
        MalformedInput: the key-encryption key or the PIN cannot be read, or python-pkcs11 is not installed.
    """
    files = FileKeyStore(config.key_folder, load_kek(config.kek))
    return KeyStores(files, _open_token(config.token) if config.token is not None else None)


def _open_token(settings: TokenSettings) -> KeyStore:
    try:
        from nodeseal.verifier.keys.token import TokenKeyStore  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        remedy = "in a clone of nodeseal: pip install '.[pkcs11]', with the verifier's pip"
        raise MalformedInput("keys.pkcs11 needs python-pkcs11, which is not installed", remedy=remedy) from error
    store = TokenKeyStore(settings, load_pin(settings))
    try:
        store.connect()
    except Unavailable as error:
        _log.error("no keys of the token", token=settings.name, error=str(error), remedy=error.remedy)
    return store


def load_pin(settings: TokenSettings) -> str:
    """Return the user PIN: from systemd's credential, else the file, else the terminal.

    Raises:
        MalformedInput: it cannot be read or is no PIN, other users may read the file, or there is no terminal.
    """
    credential = read_credential(PIN_CREDENTIAL)
    if credential is not None:
        return _parse_pin(credential)
    if settings.pin is not None:
        return _parse_pin(read_private(settings.pin, "keys.pkcs11.pin"))
    if not sys.stdin.isatty():
        remedy = f"name a file in keys.pkcs11.pin, or load the credential {PIN_CREDENTIAL}"
        raise MalformedInput(f"token {settings.name}: no PIN and no terminal to ask for it", remedy=remedy)
    return _parse_pin(getpass.getpass(f"PIN of token {settings.name}: ").encode())


def _parse_pin(raw: bytes) -> str:
    try:
        pin = raw.decode().removesuffix("\n")
    except UnicodeDecodeError:
        pin = ""
    if not 1 <= len(pin) <= _MAX_PIN or not pin.isprintable():
        raise MalformedInput(f"keys.pkcs11.pin: not 1 to {_MAX_PIN} printable characters")
    return pin
