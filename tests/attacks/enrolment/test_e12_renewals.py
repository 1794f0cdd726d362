"""A thief of a node's TLS key, without its TPM: renews nothing, returns nothing, displaces nothing.

What the thief does is recorded as what it was: a renewal names the quote that it rests on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import grpc
import pytest

from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.evidence.binding import Purpose
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2, key_release_pb2
from support.admin import Entitled, a_sealed_model, grant, trusted_node
from support.attackers import altered, seen_by
from support.damage import flipped
from support.fake_node import FakeNode, a_node
from support.floods import faults
from support.releases import joined
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, received, refused

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED
Challenge = attestation_pb2.Challenge


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("renewals"), trust_seconds=60) as running:
        asyncio.run(trusted_node(running))  # its golden is that of all nodes here
        yield running


@asynccontextmanager
async def entitled(verifier: RunningVerifier, name: str) -> AsyncIterator[Entitled]:
    """Make a node trusted, and entitled to a model."""
    async with verifier.person() as admin:
        node, model = await joined(verifier), await a_sealed_model(admin, name, name)
        await grant(admin, node, name)
        yield Entitled(verifier=verifier, admin=admin, node=node, model=model)


def thief_of(node: FakeNode) -> FakeNode:
    """Return somebody who copied the node's TLS key and certificate, and has another TPM."""
    thief = a_node(node.verifier)
    thief.key, thief.chain, thief.node_id, thief.boot_id = node.key, node.chain, node.node_id, node.boot_id
    return thief


def certificates_of(verifier: RunningVerifier, node: FakeNode) -> list[str]:
    """Return the acts about a node's certificates."""
    return [each for each in verifier.actions(f"node/{node.node_id}") if each in ("node.renewed", "node.enrolled")]


def test_e12_a_renewal_for_a_quote_is_recorded_with_the_quote_and_the_request(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(verifier, "renewal-good") as scene:
            request = certificate_request(new_tls_key(), "node")
            async with scene.node.renewing(request) as renewal:
                evidence = scene.node.evidence(renewal.challenge, Purpose.RENEW, request)
                chain = await renewal.prove(evidence)
            acts = [act for act in verifier.records() if act["action"] == "node.renewed"]
            assert {
                "quote_sha256": hashlib.sha256(evidence.attest).hexdigest(),
                "request_sha256": hashlib.sha256(request).hexdigest(),
                "next_certificate_sha256": hashlib.sha256(chain[0]).hexdigest(),
            }.items() <= acts[-1]["details"].items()

    asyncio.run(case())


Forge = Callable[[FakeNode, Challenge, bytes], attestation_pb2.Evidence]


def by_another_tpm(node: FakeNode, challenge: Challenge, request: bytes) -> attestation_pb2.Evidence:
    return thief_of(node).evidence(challenge, Purpose.RENEW, request)


def for_another_request(node: FakeNode, challenge: Challenge, _request: bytes) -> attestation_pb2.Evidence:
    return node.evidence(challenge, Purpose.RENEW, certificate_request(new_tls_key(), "node"))


def for_a_round(node: FakeNode, challenge: Challenge, _request: bytes) -> attestation_pb2.Evidence:
    return node.evidence(challenge, Purpose.ATTEST)


def for_a_release(node: FakeNode, challenge: Challenge, _request: bytes) -> attestation_pb2.Evidence:
    return node.evidence(challenge, Purpose.RELEASE)


def for_another_challenge(node: FakeNode, challenge: Challenge, request: bytes) -> attestation_pb2.Evidence:
    return node.evidence(altered(challenge, nonce=flipped(challenge.nonce)), Purpose.RENEW, request)


def changed_after_signing(node: FakeNode, challenge: Challenge, request: bytes) -> attestation_pb2.Evidence:
    evidence = node.evidence(challenge, Purpose.RENEW, request)
    return altered(evidence, attest=flipped(evidence.attest))


FORGED: dict[str, tuple[Forge, str]] = {
    "by another TPM": (by_another_tpm, "quote.signature"),
    "for another request": (for_another_request, "quote.binding"),
    "for a round": (for_a_round, "quote.binding"),
    "for a release": (for_a_release, "quote.binding"),
    "for another challenge": (for_another_challenge, "quote.binding"),
    "changed after signing": (changed_after_signing, "quote.signature"),
}


@pytest.mark.parametrize("why", FORGED)
def test_e12_a_renewal_with_a_quote_is_refused_if_it_was_made(verifier: RunningVerifier, why: str) -> None:
    forge, finding = FORGED[why]

    async def case() -> None:
        async with entitled(verifier, "renewal-forged") as scene:
            node, request = scene.node, certificate_request(new_tls_key(), "node")
            before = certificates_of(verifier, node)
            async with node.renewing(request) as renewal:
                refusal = await refused(renewal.prove(forge(node, renewal.challenge, request)))
            assert finding in refusal.findings, refusal
            assert certificates_of(verifier, node) == before
            async with node.attesting() as stream:
                await stream.round_until(TRUSTED)
            await node.renew(new_tls_key())
            assert certificates_of(verifier, node) == [*before, "node.renewed"]

    asyncio.run(case())


def test_e12_a_renewal_after_a_pcr_moved_is_refused_and_counts_against_the_node(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(verifier, "renewal-moved") as scene:
            node, request = scene.node, certificate_request(new_tls_key(), "node")
            node.tpm.extend(0, {HashAlg.SHA256: bytes(32)})
            async with node.renewing(request) as renewal:
                refusal = await refused(renewal.prove(node.evidence(renewal.challenge, Purpose.RENEW, request)))
            assert "pcr.mismatch" in refusal.findings
            assert "node.renewed" not in certificates_of(verifier, node)
            assert (await seen_by(scene.admin, node)).state == attestation_pb2.NODE_STATE_UNTRUSTED

    asyncio.run(case())


def test_e12_a_renewal_without_a_quote_for_other_banks_is_refused_and_costs_nothing(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(verifier, "renewal-banks") as scene:
            node, request = scene.node, certificate_request(new_tls_key(), "node")
            for banks in ([HashAlg.SHA384], [HashAlg.SHA384]):  # what is said without a quote counts for that call
                async with node.renewing(request) as renewal:
                    evidence = attestation_pb2.Evidence(claims=node.claims(), pcr_banks=banks)
                    refusal = await refused(renewal.prove(evidence))
                assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAVAILABLE, ())
                assert "other PCR banks" in refusal.details
            assert "node.renewed" not in certificates_of(verifier, node)
            assert (await seen_by(scene.admin, node)).state == TRUSTED
            await node.renew(new_tls_key())
        assert not faults(verifier)

    asyncio.run(case())


async def _as_the_first_release(node: FakeNode) -> Refusal:
    """Renew as agents of the first release do: one message, and no answer to a challenge."""
    async with node.channel() as channel:
        renew = channel.unary_unary(
            "/nodeseal.v1.Attestation/Renew",
            request_serializer=attestation_pb2.RenewRequest.SerializeToString,
            response_deserializer=attestation_pb2.RenewResponse.FromString,
        )
        request = certificate_request(new_tls_key(), "node")
        return await refused(renew(attestation_pb2.RenewRequest(certificate_request=request), timeout=20))


def test_e12_an_agent_that_renews_without_a_quote_hears_what_to_do(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(verifier, "renewal-old") as scene:
            refusal = await _as_the_first_release(scene.node)
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("renewal.quote",))
            assert "update nodeseal-agent" in refusal.details
            assert "node.renewed" not in certificates_of(verifier, scene.node)
            assert (await seen_by(scene.admin, scene.node)).state == TRUSTED

    asyncio.run(case())


@asynccontextmanager
async def a_lease(verifier: RunningVerifier, name: str) -> AsyncIterator[tuple[FakeNode, str, Stubs]]:
    """A trusted node that holds a lease."""
    async with entitled(verifier, name) as scene:
        yield scene.node, await scene.lease(), scene.admin


def test_e12_a_thief_returns_no_lease(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with a_lease(verifier, "renewal-return") as (node, lease, admin):
            async with node.attesting() as stream:
                await stream.round()
                async with thief_of(node).channel() as channel:
                    returning = Stubs(channel).release.Return(key_release_pb2.ReturnRequest(lease_ids=[lease]))
                    assert (await refused(returning)).code is grpc.StatusCode.FAILED_PRECONDITION
                assert (await stream.round()).state == TRUSTED
            assert list((await seen_by(admin, node)).leases) == [lease]
            await node.give_back(lease)
            assert list((await seen_by(admin, node)).leases) == []

    asyncio.run(case())


def test_e12_a_thief_displaces_no_stream(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with a_lease(verifier, "renewal-stream") as (node, lease, admin), node.attesting() as stream:
            await stream.round()
            async with thief_of(node).channel() as channel:
                calls = [Stubs(channel).attestation.Attest() for _ in range(8)]
                for call in calls[4:]:
                    assert (await received(call)).HasField("challenge")
                assert (await stream.round()).state == TRUSTED
                assert (await stream.round()).state == TRUSTED
                assert list((await seen_by(admin, node)).leases) == [lease]
                revoke = admin_pb2.RevokeKeyRequest(key_id="renewal-stream", node_id=node.node_id, reason="sold")
                await admin.keys.RevokeKey(revoke)
                assert list((await stream.revocation()).lease_ids) == [lease]  # the node hears it, nobody else
        assert not faults(verifier)

    asyncio.run(case())


def test_e12_the_nodes_own_new_stream_takes_over_once_its_tpm_has_answered(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(verifier, "renewal-own") as scene, scene.node.attesting() as old:
            await old.round()
            async with scene.node.attesting() as new:
                challenge = await new.challenge()
                assert (await old.round()).state == TRUSTED
                await new.send(scene.node.evidence(challenge))
                assert (await new.verdict()).state == TRUSTED
                assert "another attestation stream" in (await old.end()).details
                assert (await new.round()).state == TRUSTED

    asyncio.run(case())
