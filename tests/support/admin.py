"""What an admin does for nodes: activates goldens, admits nodes, registers models, and grants model keys.

:func:`entitled` does all of it, for a test that begins with a trusted node and a model that the node may open.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from grpc import aio

from nodeseal.evidence.folder import decode_evidence_folder
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest, ModelId
from nodeseal.sealed.model_key import parse_model_key
from nodeseal.sealed.slots import Slot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2, key_release_pb2
from support.fake_node import FakeNode, a_node, asking, golden_of
from support.sealed import CONTENT, WEIGHTS
from support.verifier import Refusal, RunningVerifier, Stubs, refused


class Enrolled(Protocol):
    """A node, fake or real, that has an id."""

    @property
    def node_id(self) -> str: ...


async def activate(admin: Stubs, document: bytes) -> str:
    """Activate a golden; return its digest."""
    golden = await admin.goldens.ActivateGolden(iter([admin_pb2.ActivateGoldenRequest(document=document)]))
    return golden.digest


async def golden_from_evidence(admin: Stubs, node_id: str, *pcrs: int, name: str = "rack-a") -> bytes:
    """Return the document of a golden that pins PCRs of a node to the values in its evidence."""
    files: dict[str, bytes] = {}
    async for part in admin.nodes.GetEvidence(admin_pb2.GetEvidenceRequest(node_id=node_id), timeout=60):
        files[part.name] = files.get(part.name, b"") + part.data
    folder = decode_evidence_folder(files)
    values = dict(zip(folder.selection.indices(), folder.evidence.pcr_values or (), strict=True))
    pinned = {pcr: frozenset({values[HashAlg.SHA256, pcr]}) for pcr in pcrs}
    return dump_golden(Golden(name=name, pcrs={HashAlg.SHA256: pinned}))


Node = TypeVar("Node", bound=FakeNode)


async def admitted(node: Node) -> Node:
    """Enrol a node, admit it and return it; it has not been judged yet."""
    await node.enrol()
    async with node.verifier.person() as admin:
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
    return node


async def trusted_node(verifier: RunningVerifier) -> FakeNode:
    """Return a node that is enrolled, admitted, and covered by a golden captured from it; its stream is closed."""
    node = a_node(verifier)
    await node.enrol()
    async with verifier.person() as admin, node.attesting() as stream:
        await stream.round()
        await activate(admin, golden_of(node))
        await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
        await stream.round_until(attestation_pb2.NODE_STATE_TRUSTED)
    return node


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A registered model with one slot, without its files.

    Attributes:
        digest: the model digest.
        data_key: what the slot holds.
        slot: sealed to the verifier's model key.
    """

    digest: str
    data_key: bytes
    slot: Slot

    def ask(self) -> key_release_pb2.Ask:
        """Return what a node sends to get the model's key."""
        return asking(self.digest, self.slot)


async def a_sealed_model(admin: Stubs, key_id: str = "llama", model_id: str = "llama", version: int = 1) -> Sealed:
    """Create a model key unless there is one, seal a data key to it, and register the model."""
    try:
        key = await admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id=key_id))
    except aio.AioRpcError:
        key = await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=key_id))
    content = content_of(model_id, version)
    registered = await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))
    data_key = secrets.token_bytes(32)
    return Sealed(
        digest=registered.digest, data_key=data_key, slot=slot_for(key.public, Digest(registered.digest), data_key)
    )


def content_of(model_id: str, version: int) -> bytes:
    """Return ``nodeseal.model.json`` of a model with one sealed file."""
    return replace(CONTENT, model_id=ModelId(model_id), version=version, files=(WEIGHTS,)).encode()


def slot_for(public_key_file: bytes, model_digest: Digest, data_key: bytes) -> Slot:
    """Return the slot of a model for a model key."""
    return parse_model_key(public_key_file, "model key").slot(model_digest, data_key)


async def grant(admin: Stubs, node: Enrolled, key_id: str = "llama", max_leases: int = 1) -> None:
    """Grant a model key to a node."""
    grant = admin_pb2.Grant(node_id=node.node_id, max_leases=max_leases)
    await admin.keys.GrantKey(admin_pb2.GrantKeyRequest(key_id=key_id, grant=grant))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitled:
    """A trusted node, and a model that it may open.

    Attributes:
        verifier: the node's verifier.
        admin: calls of a person with every role.
        node: the node.
        model: the model.
    """

    verifier: RunningVerifier
    admin: Stubs
    node: FakeNode
    model: Sealed

    async def release(self) -> key_release_pb2.Released:
        """Ask for the model key and prove the node's state."""
        return await self.node.release(self.model.digest, [self.model.slot])

    async def lease(self) -> str:
        """Open the model and return the lease that began."""
        released = await self.release()
        assert self.node.open(released) == self.model.data_key
        return released.lease_id

    async def denied(self, slots: Sequence[Slot] | None = None, digest: str = "") -> Refusal:
        """Ask, expect a refusal, and check that its findings were recorded and that no lease began."""
        before = self.leases_begun()
        refusal = await refused(
            self.node.release(digest or self.model.digest, [self.model.slot] if slots is None else [*slots])
        )
        assert self.leases_begun() == before
        if refusal.findings:
            denials = [record for record in self.verifier.records() if record["action"] == "release.denied"]
            assert tuple(finding["id"] for finding in denials[-1]["details"]["findings"]) == refusal.findings
        return refusal

    def leases_begun(self) -> int:
        """Return how many leases the audit log has, ended ones included."""
        return sum(record["action"] == "lease.issued" for record in self.verifier.records())


@asynccontextmanager
async def entitled(verifier: RunningVerifier, name: str = "llama") -> AsyncIterator[Entitled]:
    """Connect as the admin, and make a node trusted and entitled to a model; model and key have one name."""
    async with verifier.person() as admin:
        node = await trusted_node(verifier)
        model = await a_sealed_model(admin, name, name)
        await grant(admin, node, name)
        yield Entitled(verifier=verifier, admin=admin, node=node, model=model)
