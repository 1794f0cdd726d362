"""Chains of certificates whose signatures cost the verifier more than the stranger who sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from nodeseal.v1 import admin_pb2, enrollment_pb2
from support import certificates as made
from support.certificates import EK, ROOT, key_info, key_with_exponent, name, rsa_key
from support.enrolments import findings_of, key_info_of, refused_identity
from support.fake_node import FakeNode, a_node
from support.floods import Stage, undisturbed
from support.verifier import Stubs, refused

HOSTILE = 48
COPY = replace(ROOT, subject=name("Copy"), issuer=name("Copy"), algorithm=made.RSA_SHA256)
"""An authority that certifies itself, and every copy of itself."""


def long_exponent() -> made.PrivateKey:
    """Return a key whose signatures take as long to check as to make."""
    return key_with_exponent((1 << 3070) + 1)


def chained(node: FakeNode, key: made.PrivateKey, copies: int = 5) -> enrollment_pb2.Identity:
    """Return the node's identity below copies of an authority with ``key``; all signatures are good."""
    authorities = [replace(COPY, key=key_info(key), serial=made.integer(i)).sign(key) for i in range(copies)]
    facts = replace(EK, issuer=COPY.subject, key=key_info_of(node.tpm.ek), algorithm=made.RSA_SHA256)
    return node.identity(ek_certificates=[facts.sign(key)], ek_chain=authorities)


@contextmanager
def trusting(stage: Stage, key: made.PrivateKey) -> Iterator[None]:
    """Restart the verifier with that authority as a root, and without it afterwards."""
    path = stage.verifier.folder / "ek-roots" / "copy.cer"
    path.write_bytes(replace(COPY, key=key_info(key)).sign(key))
    _restart(stage)
    try:
        yield
    finally:
        path.unlink()
        _restart(stage)


def _restart(stage: Stage) -> None:
    assert stage.verifier.stop() == 0
    stage.verifier.start()


def test_d09_a_chain_of_usual_keys_enrols(stage: Stage) -> None:
    """The case that succeeds, of which each attack changes one fact."""
    node, key = a_node(stage.verifier), rsa_key("copied", 3072)
    with trusting(stage, key):
        asyncio.run(node.enrol(chained(node, key)))


def test_d09_a_root_with_a_long_exponent_certifies_nothing(stage: Stage) -> None:
    node, key = a_node(stage.verifier), long_exponent()
    with trusting(stage, key):
        refusal = refused_identity(node, chained(node, key))
    assert findings_of(refusal) == ("ek.untrusted-root", "ek.certificate-signature")
    assert "exponent of 3071 bits" in refusal.details


def test_d09_copies_that_certify_each_other_are_refused_for_the_root_alone(stage: Stage) -> None:
    node, key = a_node(stage.verifier), rsa_key("copied", 3072)
    assert findings_of(refused_identity(node, chained(node, key, copies=16))) == ("ek.untrusted-root",)


@pytest.mark.parametrize("copies", [17, 80], ids=["too many certificates", "too many bytes"])
def test_d09_a_chain_of_more_certificates_than_any_tpm_holds_is_not_searched(stage: Stage, copies: int) -> None:
    node, key = a_node(stage.verifier), rsa_key("copied", 3072)
    refusal = refused_identity(node, chained(node, key, copies))
    if copies == 17:
        assert findings_of(refusal) == ("ek.untrusted-root", "ek.certificate-malformed")
    else:
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


def test_d09_dozens_of_hostile_chains_at_once_keep_nobody_waiting(stage: Stage) -> None:
    hostile = [a_node(stage.verifier) for _ in range(4)]
    identities = [chained(node, long_exponent()) for node in hostile]

    async def one(number: int) -> tuple[str, ...]:
        node = hostile[number % len(hostile)]
        return findings_of(await refused(node.enrol(identities[number % len(hostile)])))

    async def known(admin: Stubs) -> list[str]:
        return [node.node_id for node in (await admin.nodes.ListNodes(admin_pb2.ListNodesRequest(), timeout=10)).nodes]

    async def case() -> None:
        async with stage.verifier.person() as admin, undisturbed(stage):
            before = await known(admin)
            flood = [asyncio.create_task(one(number)) for number in range(HOSTILE)]
            while not all(task.done() for task in flood):
                assert await known(admin) == before
            assert {await task for task in flood} == {("ek.untrusted-root", "ek.certificate-signature")}
            await a_node(stage.verifier).enrol()

    asyncio.run(case())
