"""The life of a sealed model on a real node: every command and the loader, through agent, TPM and verifier."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from nodeseal.errors import PolicyRefused
from nodeseal.findings import FindingId
from nodeseal.loader import AgentKeys, SealedModel, open_model
from nodeseal.loader.numpy import load_file
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.states import PEOPLE
from support.agents import eventually
from support.hosts import Host, a_host, a_site, running_leases
from support.sealed import PLAIN_WEIGHTS, plain_model
from support.terminal import Terminal

WEIGHTS = "model.safetensors"
KEYS = ("first", "second", "third")
PATIENCE = 20.0


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with a_site() as site, a_host(site) as host:
        yield host


@pytest.fixture
def admin(host: Host, tmp_path: Path) -> Terminal:
    """Somebody who works where the models are; every key is granted to the node."""
    host.verifier.add_person("alice", *PEOPLE)
    plain_model(tmp_path / "plain")
    asyncio.run(_grant_keys(host, tmp_path))
    return Terminal(host.verifier.folder / "persons" / "alice", tmp_path, processes=True)


async def _grant_keys(host: Host, folder: Path) -> None:
    grant = admin_pb2.Grant(node_id=host.agent.node_id, max_leases=4)
    async with host.verifier.person() as person:
        for key in KEYS:
            created = await person.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key))
            (folder / f"{key}.pub").write_bytes(created.public)
            await person.keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=key, grant=grant))


def reads(directory: Path, keys: AgentKeys) -> bool:
    with open_model(directory, keys) as model:
        return bytes(model.read(WEIGHTS)) == PLAIN_WEIGHTS


def refusal(directory: Path, keys: AgentKeys) -> FindingId:
    with pytest.raises(PolicyRefused) as caught:
        open_model(directory, keys)
    (finding,) = caught.value.findings
    return finding.id


def register(host: Host, directory: Path) -> None:
    content = (directory / "nodeseal.model.json").read_bytes()

    async def ask() -> None:
        async with host.verifier.person() as person:
            await person.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))

    asyncio.run(ask())


def revoke(host: Host, key: str, *, unused: bool = True) -> None:
    """Take a key away; if one of its models were open, the node would open no more until it boots again."""

    async def ask() -> None:
        if unused:
            await eventually(lambda: not running_leases(host))
        async with host.verifier.person() as person:
            await person.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=key, reason="rotated"))

    asyncio.run(ask())


def lost(model: SealedModel, told: Queue[str]) -> str:
    """Wait for the call that says that the model is lost; its key is gone, and it reads no more."""
    reason = told.get(timeout=PATIENCE)
    assert not any(model._lease._data_key)
    for read in (model.read, model.open, model.verify):
        with pytest.raises(PolicyRefused, match=re.escape(reason)):
            read(WEIGHTS)
    return reason


def test_a_model_is_sealed_opened_rotated_resealed_and_taken_away(host: Host, admin: Terminal, tmp_path: Path) -> None:
    keys, told = AgentKeys(host.agent.socket), Queue[str]()
    one, two, socket = tmp_path / "one", tmp_path / "two", ("--socket", str(host.agent.socket))

    admin.type("seal", "plain", "--key", "first.pub", "-o", "one", "--id", "tiny")
    assert refusal(one, keys) is FindingId.RELEASE_MODEL
    register(host, one)
    assert load_file(one / WEIGHTS, keys=keys)["bias"].tolist() == [1, 2, 3]
    opened = admin.json("open", "one", *socket)
    assert admin.json("verify", "one", *socket)["model_digest"] == opened["model_digest"]
    assert [tensor["name"] for file in opened["files"] for tensor in file["tensors"] or ()] == ["embed", "bias"]

    admin.type("reslot", "one", "--key", "second.pub", "--drop", "first")
    revoke(host, "first")
    assert reads(one, keys)

    admin.type("reseal", "one", "-o", "two", "--key", "third.pub", *socket)
    assert json.loads((two / "nodeseal.model.json").read_bytes())["version"] == 2
    assert refusal(two, keys) is FindingId.RELEASE_MODEL
    register(host, two)

    assert reads(one, keys)
    revoke(host, "second")
    assert refusal(one, keys) is FindingId.RELEASE_GRANT

    with open_model(two, keys, on_revoked=told.put) as model:
        assert bytes(model.read(WEIGHTS)) == PLAIN_WEIGHTS
        revoke(host, "third", unused=False)
        assert "third" in lost(model, told)
    with pytest.raises(PolicyRefused):
        open_model(two, keys)
    assert told.empty()
