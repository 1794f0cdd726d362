"""The key store in a token: nothing gets a private key out, and no mishap of the token needs hands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nodeseal.crypto.hpke import Suite, finish_slot
from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.ids import Digest, KeyId
from nodeseal.verifier.keys.keystore import HeldKey
from nodeseal.verifier.keys.token_uri import parse_token_uri
from support.tokens import NAME, PIN, SoftToken, soft_token

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")

from nodeseal.verifier.keys import token as token_keys  # noqa: E402 - needs python-pkcs11
from nodeseal.verifier.keys.token import TokenKeyStore, require_locked_in  # noqa: E402 - needs python-pkcs11

MODEL = Digest("ab" * 32)
DATA_KEY = b"d" * 32
PLACE = "pkcs11:token=nodeseal%20test;object=llama"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return soft_token(tmp_path, monkeypatch)


@pytest.fixture
def store(token: SoftToken) -> Iterator[TokenKeyStore]:
    opened = TokenKeyStore(token.settings(), PIN)
    yield opened
    opened.close()


def created(store: TokenKeyStore, key_id: str = "llama", place: str = PLACE) -> HeldKey:
    return store.create(KeyId(key_id), 1, Suite.P384, place)


def opened(store: TokenKeyStore, held: HeldKey, sealed_to: HeldKey | None = None) -> bytearray:
    return store.open_slot(held, MODEL, (sealed_to or held).key.slot(MODEL, DATA_KEY).sealed)


def private_key(store: TokenKeyStore, held: HeldKey) -> Any:
    found = {pkcs11.Attribute.ID: parse_token_uri(held.place).object_id}
    (key,) = store._connected().get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, **found})
    return key


def test_what_was_sealed_to_the_public_half_opens_through_the_token(store: TokenKeyStore) -> None:
    held = created(store)
    assert opened(store, held) == DATA_KEY
    uri = parse_token_uri(held.place)
    assert (uri.name, uri.label, len(uri.object_id)) == (NAME, "llama", 16)


def test_a_key_is_named_for_the_model_key_unless_told(store: TokenKeyStore) -> None:
    held = created(store, place="pkcs11:")
    assert parse_token_uri(held.place).label == "llama.1"
    assert opened(store, held) == DATA_KEY


def test_a_private_key_cannot_be_exported(store: TokenKeyStore) -> None:
    key = private_key(store, created(store))
    for attribute in token_keys._LOCKED_IN:
        assert key[attribute] == token_keys._LOCKED_IN[attribute]
    with pytest.raises(pkcs11.AttributeSensitive):
        assert key[pkcs11.Attribute.VALUE]
    wrapping: Any = store._connected().generate_key(pkcs11.KeyType.AES, 256)
    with pytest.raises(pkcs11.KeyUnextractable):
        wrapping.wrap_key(key)
    for attribute, value in ((pkcs11.Attribute.SENSITIVE, False), (pkcs11.Attribute.EXTRACTABLE, True)):
        with pytest.raises(pkcs11.PKCS11Error):
            key[attribute] = value
    for open_up in ({pkcs11.Attribute.SENSITIVE: False}, {pkcs11.Attribute.EXTRACTABLE: True}):
        with pytest.raises(pkcs11.PKCS11Error):
            key.copy(open_up)


def test_a_private_key_does_ecdh_for_who_is_logged_in_and_can_be_neither_renamed_nor_changed(
    store: TokenKeyStore,
) -> None:
    key = private_key(store, created(store))
    expected = {
        pkcs11.Attribute.DERIVE: True,
        pkcs11.Attribute.MODIFIABLE: False,
        pkcs11.Attribute.PRIVATE: True,
        pkcs11.Attribute.SIGN: False,
        pkcs11.Attribute.TOKEN: True,
    }
    assert {attribute: key[attribute] for attribute in expected} == expected
    for attribute, value in ((pkcs11.Attribute.ID, b"other"), (pkcs11.Attribute.LABEL, "other")):
        with pytest.raises(pkcs11.PKCS11Error):
            key[attribute] = value


def test_a_token_is_asked_for_what_is_required_of_it_whatever_its_defaults_are() -> None:
    asked = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.PRIVATE: True}
    assert asked.items() <= token_keys._TEMPLATE.items()


def test_nothing_of_a_data_key_or_shared_secret_stays_in_the_token(store: TokenKeyStore) -> None:
    opened(store, created(store))
    kinds = [each[pkcs11.Attribute.CLASS] for each in store._connected().get_objects()]
    assert sorted(kinds) == [pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.ObjectClass.PRIVATE_KEY]


def test_a_shared_secret_is_wiped_whatever_comes_of_it(store: TokenKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    held, seen = created(store), []

    def noted(public: Any, model: Any, key_id: Any, slot: Any, dh: bytearray) -> bytearray:
        seen.append(dh)
        return finish_slot(public, model, key_id, slot, dh)

    monkeypatch.setattr(token_keys, "finish_slot", noted)
    opened(store, held)
    with pytest.raises(ProofFailed):
        store.open_slot(held, Digest("cd" * 32), held.key.slot(MODEL, DATA_KEY).sealed)
    assert seen == [bytearray(48)] * 2


class LooseKey(dict[Any, Any]):
    """A key of a token that does not do as it is told."""

    destroyed = False

    def destroy(self) -> None:
        self.destroyed = True


@pytest.mark.parametrize("attribute", token_keys._LOCKED_IN)
def test_a_key_that_its_token_would_let_out_is_destroyed(attribute: Any) -> None:
    honest = LooseKey(token_keys._LOCKED_IN)
    key: Any = honest
    require_locked_in(key)
    assert not honest.destroyed
    honest[attribute] = not honest[attribute]
    with pytest.raises(Unavailable, match="does not keep private keys to itself"):
        require_locked_in(key)
    assert honest.destroyed


def test_a_new_key_is_looked_at_before_it_is_used(store: TokenKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_keys, "_LOCKED_IN", {pkcs11.Attribute.EXTRACTABLE: True})
    with pytest.raises(Unavailable, match="does not keep private keys to itself"):
        created(store)
    private = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    assert not list(store._connected().get_objects(private))


def test_a_key_that_does_not_open_what_is_sealed_to_it_is_not_given_out(
    store: TokenKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "_agree", lambda *_: bytearray(48))
    with pytest.raises(ProofFailed):
        created(store)


def test_a_slot_of_another_model_or_key_does_not_open(store: TokenKeyStore) -> None:
    held, other = created(store), created(store, "other")
    slot = held.key.slot(MODEL, DATA_KEY).sealed
    renamed = replace(held, key=replace(held.key, key_id=KeyId("other")))
    swapped = (HeldKey(held.key, other.place), HeldKey(other.key, held.place))
    for wrong, model in ((held, Digest("cd" * 32)), (other, MODEL), (renamed, MODEL), *((s, MODEL) for s in swapped)):
        with pytest.raises(ProofFailed, match=r"release\.slot"):
            store.open_slot(wrong, model, slot)


def test_no_point_that_is_off_the_curve_reaches_the_token(
    store: TokenKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = created(store)
    slot = held.key.slot(MODEL, DATA_KEY).sealed
    monkeypatch.setattr(token_keys, "_agree", lambda *_: pytest.fail("the token was asked"))
    with pytest.raises(MalformedInput):
        store.open_slot(held, MODEL, replace(slot, enc=b"\x04" + bytes(96)))


@pytest.mark.parametrize(
    ("place", "suite", "complaint"),
    [
        ("pkcs11:token=another", Suite.P384, "this verifier's token is 'nodeseal test'"),
        (PLACE, Suite.MLKEM768_X25519, "keys of suite DHKEM"),
        (f"{PLACE};id=%01", Suite.P384, "the id of a new key is chosen"),
        (f"{PLACE}?pin-value=1", Suite.P384, "query attributes"),
    ],
)
def test_keys_are_made_in_the_configured_token_and_for_hpke_over_p_384_only(
    store: TokenKeyStore, place: str, suite: Suite, complaint: str
) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        store.create(KeyId("llama"), 1, suite, place)
    assert not list(store._connected().get_objects())


def test_a_wrong_pin_is_tried_once_and_never_shown(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = created(right := TokenKeyStore(token.settings(), PIN))
    right.close()
    store, logins = TokenKeyStore(token.settings(), "10293847"), []
    look = pkcs11.lib

    def counted(module: str) -> Any:
        logins.append(module)
        return look(module)

    monkeypatch.setattr(pkcs11, "lib", counted)
    for _ in range(3):
        with pytest.raises(Unavailable, match="refuses the PIN") as caught:
            opened(store, held)
        assert "10293847" not in f"{caught.value} {caught.value.remedy} {caught.value.__cause__!r} {store!r}"
    store.close()
    assert len(logins) == 1
    assert "10293847" not in "".join(capsys.readouterr())


def test_a_token_that_goes_away_refuses_and_recovers_without_hands(token: SoftToken, store: TokenKeyStore) -> None:
    held = created(store)
    token.remove()
    for _ in range(2):
        with pytest.raises(Unavailable, match="token nodeseal test: NoSuchToken"):
            opened(store, held)
    token.put_back()
    assert opened(store, held) == DATA_KEY


def test_a_session_that_died_between_two_releases_is_not_noticed(store: TokenKeyStore) -> None:
    held = created(store)
    store._connected().close()
    assert opened(store, held) == DATA_KEY


def test_a_key_that_is_missing_is_named(token: SoftToken, store: TokenKeyStore) -> None:
    held = created(store)
    token.drop_keys()
    with pytest.raises(Unavailable, match="it holds 0 keys pkcs11:token=nodeseal%20test;object=llama;id=%"):
        opened(store, held)


def test_of_two_keys_under_one_id_none_is_taken(store: TokenKeyStore) -> None:
    held = created(store)
    store._run(lambda session: token_keys._generate(session, parse_token_uri(held.place)))
    with pytest.raises(Unavailable, match="it holds 2 keys"):
        opened(store, held)


def test_a_module_that_is_not_there_is_named(token: SoftToken) -> None:
    store = TokenKeyStore(replace(token.settings(), module=token.folder / "absent.so"), PIN)
    with pytest.raises(Unavailable, match=r"absent\.so"):
        store.connect()


def test_a_token_that_hangs_keeps_others_waiting_for_so_long_only(
    store: TokenKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "_WAIT_SECONDS", 0.05)
    held = created(store)
    with store._lock, pytest.raises(Unavailable, match="does not answer"):  # it would wait for ever
        opened(store, held)


def test_many_threads_share_one_session(store: TokenKeyStore) -> None:
    held, seen = created(store), []
    threads = [Thread(target=lambda: seen.append(bytes(opened(store, held)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert seen == [DATA_KEY] * 8
