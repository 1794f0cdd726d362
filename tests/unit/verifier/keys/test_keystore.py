"""The file key store: what lies on disk opens for nobody but the store that wrote it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.crypto.hpke import ModelPrivateKey, Suite, Wrapped
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import ModelKey
from nodeseal.verifier.keys.keystore import FILE_PLACE, FileKeyStore, HeldKey, KeyStores, load_kek

KEK = bytes(range(32))
MODEL = Digest("ab" * 32)
DATA_KEY = b"d" * 32
PUBLIC = ModelPrivateKey.generate(Suite.P384).public


@pytest.mark.parametrize("suite", Suite)
def test_what_was_sealed_to_the_public_half_opens(tmp_path: Path, suite: Suite) -> None:
    store = FileKeyStore(tmp_path, KEK)
    held = store.create(KeyId("k"), 1, suite)
    assert store.open_slot(held, MODEL, held.key.slot(MODEL, DATA_KEY).sealed) == DATA_KEY


def test_a_slot_of_another_model_does_not_open(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path, KEK)
    held = store.create(KeyId("k"), 1, Suite.P384)
    with pytest.raises(ProofFailed, match=r"release\.slot"):
        store.open_slot(held, Digest("cd" * 32), held.key.slot(MODEL, DATA_KEY).sealed)


def test_files_are_private_and_refused_when_they_are_not(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path, KEK)
    held = store.create(KeyId("k"), 1, Suite.P384)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(MalformedInput, match="other users may read"):
        store.open_slot(held, MODEL, held.key.slot(MODEL, DATA_KEY).sealed)


def test_files_cannot_be_swapped_between_keys(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path, KEK)
    first, second = store.create(KeyId("a"), 1, Suite.P384), store.create(KeyId("b"), 1, Suite.P384)
    store._path(second.key).write_bytes(store._path(first.key).read_bytes())
    with pytest.raises(MalformedInput, match="altered, or belongs to another"):
        store.open_slot(second, MODEL, second.key.slot(MODEL, DATA_KEY).sealed)


def test_another_version_of_a_key_is_another_key(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path, KEK)
    held = store.create(KeyId("a"), 1, Suite.P384)
    with pytest.raises(MalformedInput, match="No such file"):
        store.open_slot(
            replace(held, key=replace(held.key, key_version=2)), MODEL, held.key.slot(MODEL, DATA_KEY).sealed
        )


def test_another_key_encryption_key_opens_nothing(tmp_path: Path) -> None:
    held = FileKeyStore(tmp_path, KEK).create(KeyId("a"), 1, Suite.P384)
    with pytest.raises(MalformedInput, match="altered, or belongs to another"):
        FileKeyStore(tmp_path, bytes(32)).open_slot(held, MODEL, held.key.slot(MODEL, DATA_KEY).sealed)


class Token:
    """A store whose keys are elsewhere."""

    def create(self, key_id: KeyId, version: int, suite: Suite, place: str) -> HeldKey:
        return HeldKey(ModelKey(key_id=key_id, key_version=version, public=PUBLIC), f"{place} {suite.name}")

    def open_slot(self, held: HeldKey, model: Digest, slot: Wrapped) -> bytearray:
        return bytearray(f"{held.place} {model[:2]} {slot.enc!r}".encode())


def test_the_place_of_a_key_says_which_store_holds_it(tmp_path: Path) -> None:
    stores = KeyStores(FileKeyStore(tmp_path, KEK), Token())
    held = stores.create(KeyId("k"), 1, Suite.P384, FILE_PLACE)
    assert stores.open_slot(held, MODEL, held.key.slot(MODEL, DATA_KEY).sealed) == DATA_KEY
    away = stores.create(KeyId("k"), 1, Suite.P384, "pkcs11:token=t")
    assert away.place == "pkcs11:token=t P384"
    assert stores.open_slot(away, MODEL, Wrapped(b"e", b"w")) == b"pkcs11:token=t P384 ab b'e'"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("place", "complaint"), [("", "neither file nor"), ("File", "neither"), ("pkcs11:token=t", "no token")]
)
def test_a_place_that_the_verifier_does_not_have_is_refused(tmp_path: Path, place: str, complaint: str) -> None:
    stores = KeyStores(FileKeyStore(tmp_path, KEK))
    with pytest.raises(MalformedInput, match=complaint):
        stores.create(KeyId("k"), 1, Suite.P384, place)
    assert not list(tmp_path.iterdir())


def test_systemds_credential_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodeseal-kek").write_bytes(KEK)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_kek(tmp_path / "absent") == KEK


@pytest.mark.parametrize(
    ("mode", "size", "complaint"),
    [(0o640, 32, "other users may read"), (0o604, 32, "other users may read"), (0o600, 31, "31 bytes, not 32")],
)
def test_a_key_encryption_key_that_is_readable_or_short_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, size: int, complaint: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = tmp_path / "kek"
    path.write_bytes(os.urandom(size))
    path.chmod(mode)
    with pytest.raises(MalformedInput, match=complaint):
        load_kek(path)
