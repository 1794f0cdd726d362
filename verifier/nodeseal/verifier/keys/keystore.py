"""Key stores hold the private halves of model keys: in files under a key-encryption key, or in a PKCS#11 token.

:class:`KeyStores` is both behind one interface; :mod:`nodeseal.verifier.keys.token` is the token.

In files: one per key pair, wrapped by :mod:`nodeseal.crypto.keywrap` with the key's id, version and public half as its
context. A digest of the public half is part of the file's name, so no file is ever replaced. If a creation cannot be
recorded, its file stays there unused. The key-encryption key comes from a file that only the
service can read, or from systemd (``$CREDENTIALS_DIRECTORY/nodeseal-kek``), and stays in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from nodeseal.crypto.hpke import ModelPrivateKey, Suite, Wrapped
from nodeseal.crypto.keywrap import KEK_SIZE, unwrap_private_key, wrap_private_key
from nodeseal.crypto.secret import wipe
from nodeseal.errors import MalformedInput
from nodeseal.files import MAX_PEM, read_private, read_small, replace_file, write_new
from nodeseal.ids import Digest, KeyId, digest_of
from nodeseal.sealed.model_key import ModelKey
from nodeseal.verifier.keys.credentials import read_credential
from nodeseal.verifier.keys.token_uri import SCHEME

CREDENTIAL: Final = "nodeseal-kek"
FILE_PLACE: Final = "file"
PROOF: Final = "kek.proof"
"""File of a folder of keys that opens only with the key-encryption key that was in use there last: nothing, wrapped."""
_PROOF_CONTEXT: Final = b"key-encryption key of this folder"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key pair in a store.

    Attributes:
        key: its public half.
        place: where the private half is: ``file``, or the PKCS#11 URI of an object in a token.
    """

    key: ModelKey
    place: str


class KeyStore(Protocol):
    """Store of private model keys, which never leave it. It opens slots and returns data keys."""

    def create(self, key_id: KeyId, version: int, suite: Suite, place: str) -> HeldKey:
        """Make a key pair at ``place``."""

    def open_slot(self, held: HeldKey, model: Digest, slot: Wrapped) -> bytearray:
        """Return the data key in a slot of a sealed model; the caller wipes it."""


class FileKeyStore:
    """A folder of wrapped private keys."""

    def __init__(self, folder: Path, kek: bytes) -> None:
        self._folder: Final = folder
        self._kek: Final = kek

    def create(self, key_id: KeyId, version: int, suite: Suite, place: str = FILE_PLACE) -> HeldKey:
        """Make a key pair; its private half is on disk when this returns.

        Raises:
            Unavailable: the folder cannot be written.
        """
        private = ModelPrivateKey.generate(suite)
        secret = private.to_bytes()
        try:
            key = ModelKey(key_id=key_id, key_version=version, public=private.public)
            write_new(self._path(key), wrap_private_key(self._kek, secret, key.encode()))
            return HeldKey(key, place)
        finally:
            wipe(secret)
            private.wipe()

    def open_slot(self, held: HeldKey, model: Digest, slot: Wrapped) -> bytearray:
        """Open a slot.

        Raises:
            MalformedInput: the key file is absent, altered or of another key.
            ProofFailed: ``release.slot``: the slot does not open with this key for this model.
        """
        key = held.key
        secret = self._secret(key)
        private = ModelPrivateKey(key.public.suite, secret)
        try:
            return private.open_slot(model, key.key_id, slot)
        finally:
            wipe(secret)
            private.wipe()

    def prove(self, key: ModelKey) -> None:
        """Make sure that the private half is there and opens under the key-encryption key.

        Raises:
            MalformedInput: the key file is absent, altered, of another key, or under another key-encryption key.
        """
        wipe(self._secret(key))

    def known(self) -> bool | None:
        """Tell whether this is the key-encryption key that was in use here last; None: that is not known.

        Raises:
            Unavailable: the folder cannot be read.
        """
        path = self._folder / PROOF
        if not path.exists():
            return None
        try:
            unwrap_private_key(self._kek, read_small(path, MAX_PEM), _PROOF_CONTEXT)
        except MalformedInput:
            return False
        return True

    def remember(self) -> None:
        """Note that this is the key-encryption key that is in use here.

        Raises:
            Unavailable: the folder cannot be written.
        """
        if not self.known():
            path = self._folder / PROOF
            proof = wrap_private_key(self._kek, b"", _PROOF_CONTEXT)
            replace_file(path, proof, path.with_name(f".{PROOF}"))

    def _secret(self, key: ModelKey) -> bytearray:
        return unwrap_private_key(self._kek, read_private(self._path(key), "model key"), key.encode())

    def _path(self, key: ModelKey) -> Path:
        return self._folder / f"{key.key_id}.{key.key_version}.{digest_of(key.public.raw)[:16]}.key"


class KeyStores:
    """All key stores of one verifier; the place of a key names its store."""

    def __init__(self, files: KeyStore, token: KeyStore | None = None) -> None:
        self._files: Final = files
        self._token: Final = token

    def create(self, key_id: KeyId, version: int, suite: Suite, place: str) -> HeldKey:
        """Make a key pair in the store that ``place`` names.

        Raises:
            MalformedInput: no such place, the verifier has no token, or the store has no keys of that suite.
            Unavailable: the store cannot be reached or written.
        """
        return self._at(place).create(key_id, version, suite, place)

    def open_slot(self, held: HeldKey, model: Digest, slot: Wrapped) -> bytearray:
        """Open a slot.

        Raises:
            MalformedInput: no such place, the verifier has no token, or the store's copy of the key is damaged.
            ProofFailed: ``release.slot``: the slot does not open with this key for this model.
            Unavailable: the store cannot be reached.
        """
        return self._at(held.place).open_slot(held, model, slot)

    def _at(self, place: str) -> KeyStore:
        if place == FILE_PLACE:
            return self._files
        if not place.startswith(SCHEME):
            raise MalformedInput(f"key store: neither {FILE_PLACE} nor {SCHEME}token=NAME;object=NAME")
        if self._token is None:
            raise MalformedInput("key store: this verifier has no token", remedy="set keys.pkcs11 in verifier.yaml")
        return self._token


def load_kek(path: Path) -> bytes:
    """Return the key-encryption key: systemd's credential where there is one, else the file ``path``.

    Raises:
        MalformedInput: it cannot be read, is not 32 bytes, or others may read it.
    """
    kek = read_credential(CREDENTIAL)
    if kek is None:
        kek = read_private(path, "key-encryption key")
    if len(kek) != KEK_SIZE:
        raise MalformedInput(f"key-encryption key: {len(kek)} bytes, not {KEK_SIZE}")
    return kek
