"""Rotation of model keys against a running verifier: new slots for those who may ask, and a data key for nobody."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from nodeseal.crypto.hpke import ModelPrivateKey, Suite
from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import ModelKey
from nodeseal.sealed.slots import Slot, Slots, parse_slots
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.states import Role
from support.admin import Sealed, a_sealed_model, content_of, grant, trusted_node
from support.fake_node import FakeNode, asking
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, refused


@dataclass(frozen=True)
class Scene:
    """A model that is sealed to an old key, and the public file of a new one."""

    verifier: RunningVerifier
    admin: Stubs
    model: Sealed
    name: str
    new: bytes = field(repr=False)

    async def rewrap(self, admin: Stubs | None = None, **changes: Any) -> tuple[Slot, ...]:
        fields = {"model_digest": self.model.digest, "slots": [self.model.slot], "keys": [self.new], **changes}
        slots = asking(fields["model_digest"], *fields["slots"]).slots
        request = admin_pb2.RewrapSlotsRequest(slots=slots, keys=fields["keys"])
        made = parse_slots((await (admin or self.admin).keys.RewrapSlots(request)).slots)
        assert made.model_digest == fields["model_digest"]
        return made.slots

    async def refused(self, admin: Stubs | None = None, **changes: Any) -> Refusal:
        before = self.rewrapped()
        refusal = await refused(self.rewrap(admin, **changes))
        assert self.rewrapped() == before
        if admin is None and refusal.findings:
            denied = [record for record in self.verifier.records() if record["action"] == "model.rewrap-denied"]
            assert tuple(finding["id"] for finding in denied[-1]["details"]["findings"]) == refusal.findings
        return refusal

    def rewrapped(self) -> list[dict[str, Any]]:
        return [record for record in self.verifier.records() if record["action"] == "model.rewrapped"]


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("rotation"), interval_seconds=20) as running:
        running.add_person("olga", Role.OPERATOR, Role.VIEWER, Role.AUDITOR)
        yield running


def play(verifier: RunningVerifier, case: Any) -> None:
    async def scene() -> None:
        async with verifier.person() as admin:
            name = f"m{len(verifier.records())}"
            model = await a_sealed_model(admin, name, name)
            new = await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=f"{name}-new"))
            await case(Scene(verifier, admin, model, name, new.public))

    asyncio.run(scene())


def test_new_connections_carry_answers_that_are_longer_than_a_short_tls_record(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        assert len(await scene.rewrap()) == 1

    for _ in range(40):  # with records of 1 KiB, one connection in ten breaks
        play(verifier, case)


async def node_with(scene: Scene, key_id: str) -> FakeNode:
    node = await trusted_node(scene.verifier)
    await grant(scene.admin, node, key_id)
    return node


def test_a_model_opens_with_its_new_key_and_the_old_one_can_go(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        (slot,) = await scene.rewrap()
        assert slot.key_id == f"{scene.name}-new"
        await scene.admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=scene.name, reason="rotated"))
        node = await node_with(scene, slot.key_id)
        assert node.open(await node.release(scene.model.digest, [slot])) == scene.model.data_key

    play(verifier, case)


def test_a_rotation_is_on_record_before_its_slots_are_known(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        (slot,) = await scene.rewrap()
        record = scene.rewrapped()[-1]
        assert (record["actor"], record["subject"]) == ("person/admin", f"model/{scene.model.digest}")
        assert record["details"] == {
            "digest": scene.model.digest,
            "opened": f"{scene.name} version 1",
            "made": [f"{slot.key_id} version 1"],
        }

    play(verifier, case)


def test_the_answer_holds_no_data_key(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        slots = await scene.rewrap()
        answer = Slots(Digest(scene.model.digest), slots).encode()
        assert scene.model.data_key not in answer
        assert base64.b64encode(scene.model.data_key) not in answer
        assert scene.model.data_key not in (verifier.folder / "log").read_bytes()
        assert scene.model.data_key.hex() not in str(verifier.records())

    play(verifier, case)


def test_only_approvers_rotate(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        async with verifier.person("olga") as olga:
            assert (await scene.refused(olga)).code is grpc.StatusCode.PERMISSION_DENIED

    play(verifier, case)


def test_a_key_that_the_verifier_does_not_hold_as_its_file_says_gets_no_slot(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        mine = ModelPrivateKey.generate(Suite.P384).public
        for key_id, version in ((f"{scene.name}-new", 1), (scene.name, 1), (f"{scene.name}-mine", 1)):
            key = ModelKey(key_id=KeyId(key_id), key_version=version, public=mine)
            assert (await scene.refused(keys=[key.encode()])).code is grpc.StatusCode.NOT_FOUND
        assert (
            await scene.refused(keys=[scene.new, ModelKey(key_id=KeyId("x"), key_version=1, public=mine).encode()])
        ).code is grpc.StatusCode.NOT_FOUND

    play(verifier, case)


def test_neither_from_nor_to_a_revoked_key(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        await scene.admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=f"{scene.name}-new", reason="lost"))
        assert (await scene.refused()).code is grpc.StatusCode.NOT_FOUND
        newer = await scene.admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=f"{scene.name}-newer"))
        await scene.admin.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=scene.name, reason="stolen"))
        assert (await scene.refused(keys=[newer.public])).findings == ("release.slot",)

    play(verifier, case)


def test_a_model_that_nobody_registered_gets_no_slots(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        assert (await scene.refused(model_digest="ab" * 32)).findings == ("release.model-unregistered",)

    play(verifier, case)


def test_a_slot_of_another_model_does_not_open_for_this_one(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        content = content_of(f"{scene.name}-b", 1)
        other = await scene.admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))
        assert Digest(other.digest) != scene.model.digest
        assert (await scene.refused(model_digest=other.digest)).findings == ("release.slot",)

    play(verifier, case)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"keys": []}, id="no key"),
        pytest.param({"keys": [b"{}"]}, id="no key file"),
        pytest.param({"keys": [b"{}"] * 65}, id="65 keys"),
        pytest.param({"model_digest": "x"}, id="no digest"),
    ],
)
def test_what_does_not_parse_is_refused(verifier: RunningVerifier, changes: dict[str, Any]) -> None:
    async def case(scene: Scene) -> None:
        assert (await scene.refused(**changes)).code is grpc.StatusCode.INVALID_ARGUMENT
        assert (await scene.refused(keys=[scene.new, scene.new])).code is grpc.StatusCode.INVALID_ARGUMENT

    play(verifier, case)


def test_a_command_of_the_first_release_is_told_to_update(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        refusal = await refused(scene.admin.keys.RewrapSlots(admin_pb2.RewrapSlotsRequest(keys=[scene.new])))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "(update nodeseal)" in refusal.details

    play(verifier, case)


def test_slots_of_keys_elsewhere_are_refused(verifier: RunningVerifier) -> None:
    async def case(scene: Scene) -> None:
        foreign = replace(scene.model.slot, key_id=KeyId("elsewhere"))
        assert (await scene.refused(slots=[foreign])).findings == ("release.slot",)
        assert len(await scene.rewrap(slots=[foreign, scene.model.slot])) == 1

    play(verifier, case)
