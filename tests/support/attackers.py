"""Hostile clients of a verifier, and checks that an attack changed nothing.

A node whose TPM is a :class:`SyntheticTpm` lets the attacker sign anything (:func:`resigned`); a node whose TPM is a
:class:`support.machine_tpm.MachineTpm` can do only what a real TPM does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from google.protobuf.message import Message

from nodeseal.evidence.binding import Purpose, qualifying_data
from nodeseal.ids import Nonce
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, enrollment_pb2_grpc
from nodeseal.v1.key_release_pb2 import Proof, ReleaseChallenge
from support.admin import Sealed, admitted
from support.fake_node import FakeNode, a_node, selection_of
from support.verifier import Refusal, RunningVerifier, Stubs, received, refused

ESCAPED = "\x1b[2J\x1b]0;owned\x07"
"""Clears a terminal and renames its window."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def altered(message: M, **changes: Any) -> M:
    """Return a copy of a message with some fields changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name, value in changes.items():
        copy.ClearField(name)
        copy.MergeFrom(type(message)(**{name: value}))
    return copy


# What an operator sees


async def record_contents(admin: Stubs) -> list[bytes]:
    """Return the audit log."""
    return [record.content async for record in admin.audit.ListRecords(admin_pb2.ListRecordsRequest())]


@asynccontextmanager
async def nothing_enrolled(verifier: RunningVerifier) -> AsyncIterator[None]:
    """Check that no node is added or changed, and that nothing is recorded, while the block runs."""
    async with verifier.person() as admin:
        before = await _estate(admin)
        yield
        assert await _estate(admin) == before


async def _estate(admin: Stubs) -> tuple[list[tuple[str, str, int]], list[bytes]]:
    nodes = (await admin.nodes.ListNodes(admin_pb2.ListNodesRequest())).nodes
    return [(node.node_id, node.ak_name, node.state) for node in nodes], await record_contents(admin)


async def seen_by(admin: Stubs, node: FakeNode) -> admin_pb2.Node:
    """Return a node as an operator sees it."""
    return await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))


def last_finding_ids(verifier: RunningVerifier, node: FakeNode) -> list[str]:
    """Return the ids of the findings in the last audit record of a node's state."""
    states = [each for each in verifier.records() if each["subject"] == f"node/{node.node_id}"]
    return [finding["id"] for finding in states[-1]["details"]["findings"]]


# Enrolment, step by step


class EnrolStream:
    """The node's end of one enrolment."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def show(self, identity: enrollment_pb2.Identity) -> enrollment_pb2.CredentialChallenge:
        """Send an identity and wait for the challenge."""
        await self.call.write(enrollment_pb2.EnrollRequest(identity=identity))
        challenge: enrollment_pb2.CredentialChallenge = (await received(self.call)).challenge
        return challenge

    async def answer(self, secret: bytes) -> enrollment_pb2.Enrolled:
        """Send a secret and wait for the certificate."""
        await self.call.write(enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=secret)))
        enrolled: enrollment_pb2.Enrolled = (await received(self.call)).enrolled
        return enrolled


@asynccontextmanager
async def enrolling(verifier: RunningVerifier) -> AsyncIterator[EnrolStream]:
    """Open an enrolment on a connection of its own."""
    async with verifier.enrolment_channel() as channel:
        call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=20)
        try:
            yield EnrolStream(call)
        finally:
            call.cancel()


def twin_of(tpm: SyntheticTpm, vendor: TpmVendor) -> SyntheticTpm:
    """Return the same TPM with another attestation key."""
    twin = SyntheticTpm(vendor)
    twin._ek, twin.ek, twin.ek_certificate = tpm._ek, tpm.ek, tpm.ek_certificate
    twin._pcrs = tpm._pcrs
    return twin


# Attestation and release with one fact changed

Forge = Callable[[FakeNode, attestation_pb2.Challenge], attestation_pb2.Evidence]
ForgeProof = Callable[[FakeNode, ReleaseChallenge], Proof | Awaitable[Proof]]


def resigned(node: FakeNode, evidence: attestation_pb2.Evidence, attest: bytes) -> attestation_pb2.Evidence:
    """Replace the TPMS_ATTEST by one that the attestation key signs; no TPM signs bytes that a caller chooses."""
    return altered(evidence, attest=attest, signature=node.tpm._ak.sign(attest))


def evidence_claiming(
    node: FakeNode, challenge: attestation_pb2.Challenge, claims: bytes, purpose: Purpose = Purpose.ATTEST
) -> attestation_pb2.Evidence:
    """Return evidence of a node that says something else of itself, with a quote that covers it."""
    selection = selection_of(challenge.pcr_selection)
    quote = node.tpm.quote(qualifying_data(purpose, Nonce(challenge.nonce), node.binding, claims), selection)
    return altered(node.evidence(challenge), claims=claims, attest=quote.attest, signature=quote.signature)


async def admitted_node(verifier: RunningVerifier, tpm: SyntheticTpm | None = None) -> FakeNode:
    """Return a node that a person has admitted; it has not been judged yet."""
    return await admitted(a_node(verifier) if tpm is None else FakeNode(verifier, tpm))


async def refused_round(node: FakeNode, model: Sealed, forge: Forge) -> list[str]:
    """Send one forged round between two good ones; return its findings.

    The forged round must cost the node its trust, be recorded, and leave it without a key.
    """
    async with node.verifier.person() as admin, node.attesting() as stream:
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
        await stream.send(forge(node, await stream.challenge()))
        verdict = await stream.verdict()
        found = [finding.id for finding in verdict.findings]
        assert (verdict.state, verdict.trusted_for_ms) == (attestation_pb2.NODE_STATE_UNTRUSTED, 0)
        assert not verdict.HasField("trusted_until")
        assert all(finding.expected and finding.seen and finding.remedy for finding in verdict.findings)
        await _has_nothing(admin, node, model, found)
        assert last_finding_ids(node.verifier, node) == found
        assert (await stream.round()).state == attestation_pb2.NODE_STATE_TRUSTED
    return found


async def _has_nothing(admin: Stubs, node: FakeNode, model: Sealed, found: list[str]) -> None:
    known = await seen_by(admin, node)
    assert (known.state, list(known.leases)) == (attestation_pb2.NODE_STATE_UNTRUSTED, [])
    refusal = await refused(node.release(model.digest, [model.slot]))
    assert refusal.findings == ("release.node-state", *found), refusal


async def refused_release(node: FakeNode, model: Sealed, forge: ForgeProof) -> Refusal:
    """Ask for a key and send a forged proof; a denial's findings must be recorded and no lease begin."""
    async with node.verifier.person() as admin:
        before = len(await record_contents(admin))
        async with node.releasing(model.ask()) as release:
            proof = forge(node, release.challenge)
            refusal = await refused(release.prove(proof if isinstance(proof, Proof) else await proof))
        assert list((await seen_by(admin, node)).leases) == []
    new = node.verifier.records()[before:]
    denied = [record for record in new if record["action"] == "release.denied"]
    assert [finding["id"] for record in denied for finding in record["details"]["findings"]] == [*refusal.findings]
    assert "lease.issued" not in {record["action"] for record in new}
    return refusal


def proof_with(
    node: FakeNode, challenge: ReleaseChallenge, purpose: Purpose = Purpose.RELEASE, **changes: Any
) -> Proof:
    """Return an honest proof whose evidence has another purpose, or other fields."""
    evidence = altered(node.evidence(challenge.challenge, purpose), **changes)
    return node.proof(challenge, evidence=evidence)
