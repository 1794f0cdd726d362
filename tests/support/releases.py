"""Releases under attack: trusted nodes with synthetic TPMs, one model, and proofs with one fact changed.

Every refusal is checked in full: nothing came back, no lease began, and the denial was recorded with its findings.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.evidence.binding import Purpose
from nodeseal.swtpm.synthetic import Attestation
from nodeseal.tpm.public import EccPublic
from nodeseal.v1 import attestation_pb2, key_release_pb2
from support.admin import Sealed, a_sealed_model, activate, admitted, grant, trusted_node
from support.fake_node import FakeNode, a_node, golden_of, selection_of
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, refused

MANY = 1000
Challenge = key_release_pb2.ReleaseChallenge
Proof = key_release_pb2.Proof
Forge = Callable[[FakeNode, Challenge], Proof]
"""Makes the proof that answers a challenge."""


async def joined(verifier: RunningVerifier) -> FakeNode:
    """Return a node that is admitted and has answered once: it is trusted if an active golden says so."""
    node = await admitted(a_node(verifier))
    async with node.attesting() as stream:
        await stream.round()
    return node


async def activate_golden_of(admin: Stubs, node: FakeNode, *pcrs: int, name: str = "rack-a") -> str:
    """Activate the golden of a node's present PCR values; return its digest."""
    return await activate(admin, golden_of(node, *pcrs, name=name))


async def attest(node: FakeNode) -> None:
    """Answer honestly until the node is trusted."""
    async with node.attesting() as stream:
        await stream.round_until(attestation_pb2.NODE_STATE_TRUSTED)


async def give_back(node: FakeNode) -> None:
    """Return every lease that the node holds."""
    await node.give_back(*node.leases)
    node.leases = ()


def lease_rows(verifier: RunningVerifier) -> dict[str, str]:
    """Return all leases ever begun, with their nodes, straight from the database."""
    path = verifier.folder / "verifier.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT lease_id, node_id FROM leases"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A node, and a model that it may open."""

    verifier: RunningVerifier
    admin: Stubs
    node: FakeNode
    model: Sealed

    async def opens(self) -> None:
        """Let the node open the model honestly, and give the lease back; both are recorded."""
        released = await self.node.release(self.model.digest, [self.model.slot])
        assert self.node.open(released) == self.model.data_key
        assert lease_rows(self.verifier)[released.lease_id] == self.node.node_id
        subject = f"lease/{released.lease_id}"
        assert self.verifier.actions(subject) == ["lease.issued"]
        await give_back(self.node)
        assert self.verifier.actions(subject) == ["lease.issued", "lease.ended"]

    async def ask(self, answer: Callable[[Challenge], Awaitable[Proof]]) -> key_release_pb2.Released:
        """Ask for the model, and send the proof that ``answer`` makes for the challenge."""
        async with self.node.releasing(self.model.ask()) as release:
            return await release.prove(await answer(release.challenge))

    async def refused(
        self, forge: Forge | None = None, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> Refusal:
        """Ask, expect a refusal, and make sure that nothing was released and that the denial was recorded.

        Args:
            forge: makes the proof; by default an honest one.
            meanwhile: runs between challenge and proof.
        """
        leases, denials = lease_rows(self.verifier), len(self.denials())

        async def answer(challenge: Challenge) -> Proof:
            if meanwhile is not None:
                await meanwhile()
                leases.update(lease_rows(self.verifier))
            return forge(self.node, challenge) if forge else self.node.proof(challenge)

        refusal = await refused(self.ask(answer))
        assert lease_rows(self.verifier) == leases
        denied = self.denials()
        assert len(denied) == denials + 1
        assert denied[-1] == refusal.findings
        return refusal

    async def refused_at_once(self) -> Refusal:
        """Ask, and expect a refusal before any challenge; make sure that the denial was recorded."""
        leases, denials = lease_rows(self.verifier), len(self.denials())

        async def no_answer(_: Challenge) -> Proof:
            raise AssertionError("the node was challenged")

        refusal = await refused(self.ask(no_answer))
        assert lease_rows(self.verifier) == leases
        assert self.denials()[denials:] == [refusal.findings]
        return refusal

    def denials(self) -> list[tuple[str, ...]]:
        """Return the findings of each denial of this node that was recorded."""
        return [
            tuple(finding["id"] for finding in record["details"]["findings"])
            for record in self.verifier.records()
            if (record["action"], record["actor"]) == ("release.denied", f"node/{self.node.node_id}")
        ]


Case = Callable[[Scene], Awaitable[None]]


def held_by_tpm(node: FakeNode, public: EccPublic) -> EccPublic:
    """Let the node's TPM hold a key with a public area of the attacker's choice."""
    key = SyntheticKey()
    made = replace(public, x=key.x, y=key.y)
    node.tpm._release_keys[made.name()] = key
    return made


def certified(node: FakeNode, challenge: Challenge, public: EccPublic) -> Proof:
    """Return a proof whose only oddity is the release key: the TPM holds it and certifies it for this challenge."""
    attestation = node.tpm.certify(public, node.qualifying(challenge.challenge, Purpose.RELEASE))
    return proof_of(node, challenge, public, attestation)


def proof_of(node: FakeNode, challenge: Challenge, public: EccPublic, attestation: Attestation) -> Proof:
    """Return a proof with a release key and a certification of the attacker's choice."""
    return node.proof(
        challenge,
        release_public=public.encode(),
        certify_attest=attestation.attest,
        certify_signature=attestation.signature,
    )


def honest_key(node: FakeNode, challenge: Challenge) -> EccPublic:
    """Return the key that an honest agent would make."""
    return node.tpm.create_release_key(selection_of(challenge.policy_selection))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A verifier with one golden, and a trusted node that does no harm and so serves many tests."""

    verifier: RunningVerifier
    node: FakeNode


@contextmanager
def a_stage(folder: Path) -> Iterator[Stage]:
    """Run a verifier that lets nodes ask often, with one golden and a trusted node."""
    with a_verifier(folder, start=False, interval_seconds=20, trust_seconds=120) as verifier:
        config = verifier.folder / "verifier.yaml"
        config.write_text(config.read_text().replace("per_minute: 60", "per_minute: 100000"))
        verifier.start()

        async def prepare() -> FakeNode:
            async with verifier.person() as admin:
                node = await trusted_node(verifier)
                await a_sealed_model(admin, "shared", "shared")
                await grant(admin, node, "shared", MANY)
            return node

        yield Stage(verifier=verifier, node=asyncio.run(prepare()))


def play(stage: Stage, case: Case, *, fresh: bool = True, max_leases: int = 1) -> None:
    """Run ``case`` with a new model, and with a new node if ``fresh`` or else the shared one."""

    async def whole() -> None:
        async with stage.verifier.person() as admin:
            node = await joined(stage.verifier) if fresh else stage.node
            name = f"model-{secrets.token_hex(4)}"
            model = await a_sealed_model(admin, name, name)
            await grant(admin, node, name, max_leases)
            await case(Scene(verifier=stage.verifier, admin=admin, node=node, model=model))

    asyncio.run(whole())
