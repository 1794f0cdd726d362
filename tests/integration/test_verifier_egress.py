"""A running verifier and a node with egress limits: steady rounds write nothing, and what differs ends trust."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.v1 import admin_pb2, attestation_pb2
from support.admin import activate
from support.egress import claims_of, document
from support.fake_node import FakeNode, a_node, golden_of
from support.verifier import RunningVerifier

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED
UNTRUSTED = attestation_pb2.NODE_STATE_UNTRUSTED
MIB = 1024 * 1024


def _limited(node: FakeNode) -> bytes:
    return dump_golden(replace(parse_golden(golden_of(node), "golden"), egress=document()))


def test_a_node_keeps_its_trust_by_its_limits_and_loses_it_with_them(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        node.egress = claims_of()
        async with verifier.person() as admin, node.attesting() as stream:
            await stream.round()
            await activate(admin, _limited(node))
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
            await stream.round_until(TRUSTED)
            records = len(verifier.records())
            for step in range(1, 4):
                node.egress = claims_of(sent=step * MIB, passed=step * MIB)
                assert (await stream.round()).state == TRUSTED
            assert len(verifier.records()) == records, "rounds that only count bytes are steady"

            node.egress = claims_of(sent=9 * MIB, passed=3 * MIB)
            verdict = await stream.round()
            assert verdict.state == UNTRUSTED
            assert [finding.id for finding in verdict.findings] == ["egress.unexplained-bytes"]
            node.egress = None
            assert [finding.id for finding in (await stream.round()).findings] == ["egress.claims-missing"]

    asyncio.run(case())
