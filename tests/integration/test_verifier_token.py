"""Releases from a key that lives in a PKCS#11 token, against a running verifier; the token goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.v1 import admin_pb2
from support.admin import Entitled, a_sealed_model, entitled, slot_for
from support.tokens import NAME, PIN, SoftToken, a_verifier_with, soft_token
from support.verifier import RunningVerifier, Stubs, refused

P384 = "DHKEM(P-384, HKDF-SHA384) / HKDF-SHA384 / AES-256-GCM"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return soft_token(tmp_path, monkeypatch)


@pytest.fixture
def verifier(tmp_path: Path, token: SoftToken) -> Iterator[RunningVerifier]:
    with a_verifier_with(token, tmp_path) as made:
        yield made


def play(verifier: RunningVerifier, case: Any) -> None:
    """Run ``case`` with a trusted node and a model that it may open, sealed to a key in the token."""

    async def scene() -> None:
        async with verifier.person() as admin:
            await create(admin, "llama")
        async with entitled(verifier) as made:
            await case(made)

    asyncio.run(scene())


async def create(admin: Stubs, key_id: str, store: str = "pkcs11:token=nodeseal%20test") -> admin_pb2.Key:
    return await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key_id, store=store))


def test_a_model_opens_through_the_token_on_an_attested_node(verifier: RunningVerifier) -> None:
    async def case(scene: Entitled) -> None:
        key = await scene.admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))
        assert key.suite == P384
        assert key.store.startswith("pkcs11:token=nodeseal%20test;object=llama.1;id=%")
        assert await scene.lease()
        (created,) = (record for record in verifier.records() if record["action"] == "key.created")
        assert created["details"]["place"] == key.store
        assert {path.name for path in (verifier.folder / "keys").iterdir()} <= {"kek.proof"}  # which opens nothing
        log = (verifier.folder / "log").read_text()
        assert PIN not in log
        assert PIN not in str(verifier.records())

    play(verifier, case)


def test_without_the_token_nothing_is_released_and_with_it_back_it_is(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    async def case(scene: Entitled) -> None:
        token.remove()
        refusal = await scene.denied()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert f"token {NAME}: NoSuchToken" in refusal.details
        assert "put the token back" in refusal.details
        token.put_back()
        assert await scene.lease()

    play(verifier, case)


def test_a_key_that_was_deleted_from_the_token_is_named(verifier: RunningVerifier, token: SoftToken) -> None:
    async def case(scene: Entitled) -> None:
        token.drop_keys()
        refusal = await scene.denied()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert "it holds 0 keys pkcs11:token=nodeseal%20test;object=llama.1" in refusal.details

    play(verifier, case)


def test_a_verifier_with_a_wrong_pin_runs_and_releases_nothing_of_the_token(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    async def case(scene: Entitled) -> None:
        assert verifier.stop() == 0
        token.pin_file("10293847")
        verifier.start()
        async with verifier.person() as admin, scene.node.attesting() as stream:
            await stream.round()
            again = replace(scene, admin=admin)
            for _ in range(2):
                refusal = await again.denied()
                assert (refusal.code, "refuses the PIN" in refusal.details) == (grpc.StatusCode.UNAVAILABLE, True)
        events = [line["event"] for line in verifier.log()]
        assert events.count("token refuses the PIN") == 1
        assert "10293847" not in (verifier.folder / "log").read_text()

    play(verifier, case)


def test_a_slot_of_another_model_or_key_is_refused_by_keys_in_the_token_too(
    verifier: RunningVerifier,
) -> None:
    async def case(scene: Entitled) -> None:
        other = await a_sealed_model(scene.admin, "llama", "other")
        assert (await scene.denied([other.slot])).findings == ("release.slot",)
        second = await create(scene.admin, "second")
        assert (
            parse_model_key(second.public, "second").public
            != parse_model_key(
                (await scene.admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))).public, "llama"
            ).public
        )
        foreign = slot_for(second.public, Digest(scene.model.digest), scene.model.data_key)
        assert (await scene.denied([replace(foreign, key_id=KeyId("llama"))])).findings == ("release.slot",)
        slot = scene.model.slot
        swapped = replace(slot, sealed=replace(slot.sealed, enc=other.slot.sealed.enc))
        assert (await scene.denied([swapped])).findings == ("release.slot",)
        no_point = replace(slot, sealed=replace(slot.sealed, enc=b"\x04" + bytes(96)))
        assert (await scene.denied([no_point])).code is grpc.StatusCode.INVALID_ARGUMENT

    play(verifier, case)


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        ("pkcs11:token=another", "this verifier's token is"),
        ("pkcs11:token=nodeseal%20test?pin-value=10293847", "query attributes are not taken"),
        ("/etc/keys", "neither file nor pkcs11:"),
    ],
)
def test_a_store_that_is_not_the_verifier_s_is_refused(verifier: RunningVerifier, store: str, complaint: str) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            refusal = await refused(create(admin, "llama", store))
            assert (refusal.code, complaint in refusal.details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
            assert not (await admin.keys.ListKeys(admin_pb2.ListKeysRequest())).keys
        assert "10293847" not in (verifier.folder / "log").read_text()

    asyncio.run(case())
