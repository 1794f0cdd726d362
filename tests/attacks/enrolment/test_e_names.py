"""Attacks by text that others choose, over gRPC against a running verifier: row e10."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import grpc
import pytest

from nodeseal.crypto.tls_key import certificate_request
from nodeseal.documents import encode_json
from nodeseal.v1 import admin_pb2
from support import certificates as made
from support.admin import content_of
from support.attackers import ESCAPED, altered, evidence_claiming, nothing_enrolled, seen_by
from support.certificates import EK
from support.enrolments import certified, findings_of, refused_identity
from support.fake_node import a_node
from support.verifier import RunningVerifier, Stubs, received, refused

MEGABYTE = 1 << 20


# e10: text that others choose

HOSTILE = {
    "a newline": "node\nlevel=info event=ready",
    "a carriage return": "node\rroot",
    "a NUL": "node\0",
    "a terminal escape": ESCAPED,
    "a C1 control": "node\x9b2J",
    "a line separator": "node\u2028root",
    "text that runs backwards": "node\u202egpj.exe",
    "300 characters": "n" * 300,
}
FACTS = ("hostname", "boot_id", "tpm_manufacturer", "tpm_firmware")


@pytest.mark.parametrize("why", HOSTILE)
@pytest.mark.parametrize("fact", FACTS)
def test_e10_a_hostile_fact_is_refused_by_name(verifier: RunningVerifier, fact: str, why: str) -> None:
    node = a_node(verifier)
    facts = altered(node.identity().facts, **{fact: HOSTILE[why]})
    refusal = refused_identity(node, node.identity(facts=facts))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert fact in refusal.details
    log_is_sound(verifier)


@pytest.mark.parametrize("fact", FACTS)
def test_e10_a_megabyte_is_refused_before_it_is_decoded(verifier: RunningVerifier, fact: str) -> None:
    node = a_node(verifier)
    facts = altered(node.identity().facts, **{fact: "x" * MEGABYTE})
    assert refused_identity(node, node.identity(facts=facts)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_e10_a_host_name_with_separators_is_kept_as_text(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        name = "../../../etc/cron.d/$(reboot);`id`'\"<script>%s{}"
        await node.enrol(node.identity(facts=altered(node.identity().facts, hostname=name)))
        async with verifier.person() as admin:
            assert (await seen_by(admin, node)).hostname == name
        (enrolled,) = [each for each in verifier.records() if each["subject"] == f"node/{node.node_id}"]
        assert enrolled["details"]["hostname"] == name

    asyncio.run(case())
    log_is_sound(verifier)


def test_e10_a_name_in_the_certificate_request_goes_nowhere(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    asyncio.run(node.enrol(node.identity(certificate_request=certificate_request(node.key, "../admin\n" + ESCAPED))))
    assert b"admin" not in node.chain[0]


def test_e10_an_issuer_with_escapes_is_shown_inert(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    facts = replace(EK, issuer=made.name(f"Vendor\n{ESCAPED}"))
    refusal = refused_identity(node, certified(node, facts))
    assert findings_of(refusal) == ("ek.untrusted-root",)
    assert refusal.details.isprintable()
    log_is_sound(verifier)


CLAIMS = {"agent_version": "0.1.0", "boot_id": "boot", "kernel": "6.1.0", "leases": []}


@pytest.mark.parametrize("why", HOSTILE)
def test_e10_hostile_text_in_claims_is_refused_and_shown_inert(verifier: RunningVerifier, why: str) -> None:
    """Everything that a claim may be: a value, a lease, the name of a field, and a lone surrogate."""
    hostile = [
        *(encode_json({**CLAIMS, field: HOSTILE[why]}) for field in ("agent_version", "boot_id", "kernel")),
        encode_json({**CLAIMS, "leases": [HOSTILE[why]]}),
        encode_json({**CLAIMS, HOSTILE[why]: "x"}),
        encode_json(CLAIMS).replace(b"6.1.0", b"\\ud800"),
    ]

    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with node.attesting() as stream:
            assert not [each for each in (await stream.round()).findings if each.id.startswith("quote")]
            for claims in hostile:
                await stream.send(evidence_claiming(node, await stream.challenge(), claims))
                verdict = await stream.verdict()
                assert [finding.id for finding in verdict.findings] == ["quote.malformed"], claims
                assert (verdict.findings[0].seen + verdict.findings[0].where).isprintable()

    asyncio.run(case())
    log_is_sound(verifier)


ADMIN_CALLS: Mapping[str, Callable[[Stubs, str], Awaitable[object]]] = {
    "GetNode": lambda admin, text: admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=text)),
    "QuarantineNode": lambda admin, text: admin.nodes.QuarantineNode(
        admin_pb2.QuarantineNodeRequest(node_id=text, reason="x")
    ),
    "GetGolden": lambda admin, text: received(admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=text))),
    "LabelNode": lambda admin, text: admin.nodes.LabelNode(
        admin_pb2.LabelNodeRequest(node_id="n-" + "a" * 26, labels={"rack": text})
    ),
    "GetToken": lambda admin, text: admin.nodes.GetToken(admin_pb2.GetTokenRequest(node_id=text)),
    "CreateKey": lambda admin, text: admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id=text)),
    "GetKey": lambda admin, text: admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id=text)),
    "GetModel": lambda admin, text: admin.models.GetModel(admin_pb2.GetModelRequest(digest=text)),
    "RegisterModel": lambda admin, text: admin.models.RegisterModel(
        admin_pb2.RegisterModelRequest(content=content_of("llama", 1).replace(b'"llama"', b'"' + text.encode() + b'"'))
    ),
    "RetireModel": lambda admin, text: admin.models.RetireModel(
        admin_pb2.RetireModelRequest(digest="ab" * 32, reason=text)
    ),
    "ActivateGolden": lambda admin, text: admin.goldens.ActivateGolden(
        iter([admin_pb2.ActivateGoldenRequest(document=text.encode())])
    ),
}


@pytest.mark.parametrize("method", ADMIN_CALLS)
def test_e10_hostile_names_in_what_people_send_are_refused(verifier: RunningVerifier, method: str) -> None:
    async def case() -> None:
        async with nothing_enrolled(verifier), verifier.person() as admin:
            for text in ("../../keys/kek", *HOSTILE.values(), "x" * (MEGABYTE + 1)):
                refusal = await refused(ADMIN_CALLS[method](admin, text))
                expected = (
                    {grpc.StatusCode.RESOURCE_EXHAUSTED}
                    if len(text) > MEGABYTE
                    else {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
                )
                assert refusal.code in expected, (text, refusal)
                assert refusal.details.isprintable()

    asyncio.run(case())
    log_is_sound(verifier)


def log_is_sound(verifier: RunningVerifier) -> None:
    """The log is printable ASCII, one JSON document a line, and every line an event of ours."""
    raw = (verifier.folder / "log").read_bytes()
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in raw)
    lines = verifier.log()
    assert len(lines) == raw.count(b"\n")
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert [line["event"] for line in lines].count("ready") == 1
