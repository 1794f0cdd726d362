"""Releases from a key that lives in a PKCS#11 token, against a running verifier; the token goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.slots import Slot
from nodeseal.v1 import admin_pb2
from support.admin import Sealed, a_sealed_model, grant, slot_for, trusted_node
from support.fake_node import FakeNode
from support.tokens import NAME, PIN, SoftToken, a_verifier_with, soft_token
from support.verifier import Refusal, RunningVerifier, Stubs, refusal_of

P384 = "DHKEM(P-384, HKDF-SHA384) / HKDF-SHA384 / AES-256-GCM"


@dataclass(frozen=True)
class Scene:
    """A trusted node and a model that it may open, sealed to a key in the token."""

    verifier: RunningVerifier
    token: SoftToken
    admin: Stubs
    node: FakeNode
    model: Sealed

    async def release(self) -> bytes:
        return self.node.open(await self.node.release(self.model.digest, [self.model.slot]))

    async def refused(self, *slots: Slot) -> Refusal:
        """Ask, expect a refusal, and make sure that no lease began."""
        before = self.leases()
        with pytest.raises(aio.AioRpcError) as caught:
            await self.node.release(self.model.digest, list(slots or [self.model.slot]))
        assert self.leases() == before
        return refusal_of(caught.value)

    def leases(self) -> int:
        return sum(record["action"] == "lease.issued" for record in self.verifier.records())


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return soft_token(tmp_path, monkeypatch)


@pytest.fixture
def verifier(tmp_path: Path, token: SoftToken) -> Iterator[RunningVerifier]:
    with a_verifier_with(token, tmp_path) as made:
        yield made


def play(verifier: RunningVerifier, token: SoftToken, case: Any) -> None:
    async def scene() -> None:
        async with verifier.person() as admin:
            node = await trusted_node(verifier, admin)
            await create(admin, "llama")
            model = await a_sealed_model(admin, "llama")
            await grant(admin, node)
            await case(Scene(verifier, token, admin, node, model))

    asyncio.run(scene())


async def create(admin: Stubs, key_id: str, store: str = "pkcs11:token=nodeseal%20test") -> admin_pb2.Key:
    return await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key_id, store=store))


def test_a_model_opens_through_the_token_on_an_attested_node(verifier: RunningVerifier, token: SoftToken) -> None:
    async def case(scene: Scene) -> None:
        key = await scene.admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))
        assert key.suite == P384
        assert key.store.startswith("pkcs11:token=nodeseal%20test;object=llama.1;id=%")
        assert await scene.release() == scene.model.data_key
        (created,) = (record for record in verifier.records() if record["action"] == "key.created")
        assert created["details"]["place"] == key.store
        assert not list((verifier.folder / "keys").iterdir())
        log = (verifier.folder / "log").read_text()
        assert PIN not in log
        assert PIN not in str(verifier.records())

    play(verifier, token, case)


def test_without_the_token_nothing_is_released_and_with_it_back_it_is(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    async def case(scene: Scene) -> None:
        token.remove()
        refusal = await scene.refused()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert f"token {NAME}: NoSuchToken" in refusal.details
        assert "put the token back" in refusal.details
        token.put_back()
        assert await scene.release() == scene.model.data_key

    play(verifier, token, case)


def test_a_key_that_was_deleted_from_the_token_is_named(verifier: RunningVerifier, token: SoftToken) -> None:
    async def case(scene: Scene) -> None:
        token.drop_keys()
        refusal = await scene.refused()
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert "it holds 0 keys pkcs11:token=nodeseal%20test;object=llama.1" in refusal.details

    play(verifier, token, case)


def test_a_verifier_with_a_wrong_pin_runs_and_releases_nothing_of_the_token(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    async def case(scene: Scene) -> None:
        assert verifier.stop() == 0
        token.pin_file("10293847")
        verifier.start()
        async with verifier.person() as admin, scene.node.attesting() as stream:
            await stream.round()
            again = Scene(verifier, token, admin, scene.node, scene.model)
            for _ in range(2):
                refusal = await again.refused()
                assert (refusal.code, "refuses the PIN" in refusal.details) == (grpc.StatusCode.UNAVAILABLE, True)
        events = [line["event"] for line in verifier.log()]
        assert events.count("token refuses the PIN") == 1
        assert "10293847" not in (verifier.folder / "log").read_text()

    play(verifier, token, case)


def test_a_slot_of_another_model_or_key_is_refused_by_keys_in_the_token_too(
    verifier: RunningVerifier, token: SoftToken
) -> None:
    async def case(scene: Scene) -> None:
        other = await a_sealed_model(scene.admin, "llama", "other")
        assert (await scene.refused(other.slot)).findings == ("release.slot",)
        second = await create(scene.admin, "second")
        assert (
            parse_model_key(second.public, "second").public
            != parse_model_key(
                (await scene.admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))).public, "llama"
            ).public
        )
        foreign = slot_for(second.public, Digest(scene.model.digest), scene.model.data_key)
        assert (await scene.refused(replace(foreign, key_id=KeyId("llama")))).findings == ("release.slot",)
        slot = scene.model.slot
        swapped = replace(slot, sealed=replace(slot.sealed, enc=other.slot.sealed.enc))
        assert (await scene.refused(swapped)).findings == ("release.slot",)
        no_point = replace(slot, sealed=replace(slot.sealed, enc=b"\x04" + bytes(96)))
        assert (await scene.refused(no_point)).code is grpc.StatusCode.INVALID_ARGUMENT

    play(verifier, token, case)


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
            with pytest.raises(aio.AioRpcError) as caught:
                await create(admin, "llama", store)
            refusal = refusal_of(caught.value)
            assert (refusal.code, complaint in refusal.details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
            assert not (await admin.keys.ListKeys(admin_pb2.ListKeysRequest())).keys
        assert "10293847" not in (verifier.folder / "log").read_text()

    asyncio.run(case())
