"""Attacks by quotes made for something else, over gRPC against a running verifier: rows q07 to q09."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import grpc
import pytest

from nodeseal.crypto.tls_key import new_tls_key
from nodeseal.evidence.binding import Purpose, qualifying_data
from nodeseal.ids import NodeId, Nonce
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Challenge, Evidence
from nodeseal.v1.key_release_pb2 import Proof, ReleaseChallenge
from support.attackers import Forge, altered, evidence_claiming, proof_with, refused_release, seen_by
from support.fake_node import FakeNode, selection_of
from support.forged_rounds import Scene, found, granted_node

# q07, q08, q09: what the quote is bound to


def bound_to(**changes: object) -> Forge:
    """Quote for another channel than the evidence travels on."""

    def forge(node: FakeNode, challenge: Challenge) -> Evidence:
        channel = replace(node.binding, **changes)  # type: ignore[arg-type]  # the fields of the dataclass
        extra_data = qualifying_data(Purpose.ATTEST, Nonce(challenge.nonce), channel, node.claims())
        quote = node.tpm.quote(extra_data, selection_of(challenge.pcr_selection))
        return altered(node.evidence(challenge), attest=quote.attest, signature=quote.signature)

    return forge


BINDINGS: Mapping[str, Forge] = {
    "q07 for a release": lambda node, challenge: node.evidence(challenge, Purpose.RELEASE),
    "q07 for another trust domain": bound_to(trust_domain="other.example"),
    "q07 for another node": bound_to(node_id=NodeId("n-" + "a" * 26)),
    "q08 for another certificate": bound_to(certificate_sha256=bytes(32)),
    "another nonce": lambda node, challenge: node.evidence(altered(challenge, nonce=bytes(32))),
    "q09 a lease is added": lambda node, challenge: altered(
        node.evidence(challenge), claims=node.claims().replace(b"[]", b'["l-' + b"a" * 26 + b'"]')
    ),
    "q09 the boot id is changed": lambda node, challenge: altered(
        node.evidence(challenge), claims=node.claims().replace(b"000000000001", b"000000000002")
    ),
    "q09 the claims are cut": lambda node, challenge: altered(node.evidence(challenge), claims=node.claims()[:-1]),
    "q09 a space is added": lambda node, challenge: altered(node.evidence(challenge), claims=node.claims() + b" "),
    "q09 the claims are gone": lambda node, challenge: altered(node.evidence(challenge), claims=b""),
}


@pytest.mark.parametrize("why", BINDINGS)
def test_q07_and_q09_a_quote_for_something_else_is_refused(scene: Scene, node: FakeNode, why: str) -> None:
    assert found(scene, node, BINDINGS[why]) == ["quote.binding"]


def test_q07_a_quote_for_attestation_releases_nothing(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
        refusal = await refused_release(
            node, scene.model, lambda node, challenge: proof_with(node, challenge, Purpose.ATTEST)
        )
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.binding",))

    asyncio.run(case())


def test_q07_a_round_answered_for_attestation_releases_nothing_either(scene: Scene, node: FakeNode) -> None:
    """The nonce of a release, answered on the attestation stream, and the other way round."""

    async def case() -> None:
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
            open_challenge = await stream.challenge()

            def forge(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
                return node.proof(challenge, evidence=node.evidence(open_challenge))

            assert (await refused_release(node, scene.model, forge)).findings == ("quote.binding",)

    asyncio.run(case())


def test_q07_a_certification_for_another_purpose_releases_nothing(scene: Scene, node: FakeNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()

        def forge(node: FakeNode, challenge: ReleaseChallenge) -> Proof:
            proof = node.proof(challenge)
            public, _ = node.release_key
            certify = node.tpm.certify(public, node.qualifying(challenge.challenge, Purpose.ATTEST))
            return altered(proof, certify_attest=certify.attest, certify_signature=certify.signature)

        refusal = await refused_release(node, scene.model, forge)
        assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("release.certify",))

    asyncio.run(case())


def test_q08_a_challenge_relayed_to_another_node_is_answered_for_nobody(scene: Scene) -> None:
    """B hands its challenge to A's agent: the answer counts neither on B's channel nor on A's."""

    async def case() -> None:
        a, b = await granted_node(scene), await granted_node(scene)
        async with a.attesting() as on_a, b.attesting() as on_b, scene.verifier.person() as admin:
            assert (await on_a.round()).state == NODE_STATE_TRUSTED
            relayed = a.evidence(await on_b.challenge())
            await on_b.send(relayed)
            assert [finding.id for finding in (await on_b.verdict()).findings] == ["quote.signature"]
            await on_a.challenge()
            await on_a.send(relayed)
            assert [finding.id for finding in (await on_a.verdict()).findings] == ["quote.binding"]
            assert [(await seen_by(admin, node)).state for node in (a, b)] == [NODE_STATE_UNTRUSTED] * 2

    asyncio.run(case())


def test_q08_a_stolen_certificate_does_not_carry_the_nodes_own_answers(scene: Scene, node: FakeNode) -> None:
    """A thief of one certificate relays its challenges to the node's agent, which answers for the channel it has."""

    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
        stolen, key = FakeNode(scene.verifier, node.tpm), new_tls_key()
        stolen.key, stolen.chain, stolen.node_id = node.key, node.chain, node.node_id
        renewed = await node.renew(key)
        node.key, node.chain = key, renewed
        async with stolen.attesting() as thief:  # both certificates count until the new one is used
            await thief.send(node.evidence(await thief.challenge()))
            verdict = await thief.verdict()
            assert (verdict.state, [each.id for each in verdict.findings]) == (NODE_STATE_UNTRUSTED, ["quote.binding"])
        async with node.attesting() as stream:
            assert (await stream.round()).state == NODE_STATE_TRUSTED
        async with stolen.attesting() as thief:
            assert (await thief.end()).findings == ("node.unknown",)

    asyncio.run(case())


def test_q09_claims_count_only_if_the_quote_covers_them(node: FakeNode) -> None:
    """Other claims under a quote that covers them are the node's own word: this is what the rows above change."""

    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
            claims = node.claims().replace(b"6.1.0", b"6.1.1")
            await stream.send(evidence_claiming(node, await stream.challenge(), claims))
            assert (await stream.verdict()).state == NODE_STATE_TRUSTED

    asyncio.run(case())
