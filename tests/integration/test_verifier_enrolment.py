"""Enrolment against a running verifier: what is refused, recorded, replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, enrollment_pb2_grpc
from support import certificates as made
from support.fake_node import FakeNode, a_node
from support.verifier import Refusal, RunningVerifier, a_verifier, received, refused


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("enrolment"), deadline_seconds=2, concurrent=8) as running:
        yield running


@pytest.mark.parametrize(
    "changed",
    [
        {"hostname": "../../etc/passwd\n"},
        {"hostname": "x\x1b[2J"},
        {"hostname": "a\x00b"},
        {"hostname": "x" * 254},
        {"tpm_manufacturer": "y" * 65},
        {"tpm_firmware": "\u2028"},
    ],
    ids=["a newline", "a terminal escape", "a NUL", "a long name", "a long manufacturer", "a line separator"],
)
def test_facts_that_people_could_not_read_safely_are_refused_by_name(
    verifier: RunningVerifier, changed: dict[str, str]
) -> None:
    node = a_node(verifier)
    message = enrollment_pb2.NodeFacts(**changed)
    refusal = asyncio.run(refused_enrolment(node, facts=message))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(changed)) in refusal.details
    assert verifier.log()


async def refused_enrolment(node: FakeNode, **changes: Any) -> Refusal:
    return await refused(node.enrol(node.identity(**changes)))


def test_a_key_of_another_vendor_is_refused(verifier: RunningVerifier) -> None:
    refusal = asyncio.run(refused_enrolment(a_node(verifier), ek_certificates=[]))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert refusal.findings == ("ek.certificate-missing",)


def test_the_attestation_key_of_another_tpm_cannot_be_activated(verifier: RunningVerifier) -> None:
    node, other = a_node(verifier), a_node(verifier)

    async def case() -> Refusal:
        async with verifier.enrolment_channel() as channel:
            call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=10)
            identity = node.identity(ak_public=other.tpm.ak.encode())
            await call.write(enrollment_pb2.EnrollRequest(identity=identity))
            await received(call)
            wrong = enrollment_pb2.Activation(secret=bytes(32))
            await call.write(enrollment_pb2.EnrollRequest(activation=wrong))
            return await refused(received(call))

    refusal = asyncio.run(case())
    assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("ak.activation",))
    assert not [record for record in verifier.records() if record["details"].get("ak_name") == node.tpm.ak.name().hex()]


def test_a_stream_that_says_nothing_ends_at_its_deadline(verifier: RunningVerifier) -> None:
    async def case() -> Refusal:
        async with verifier.enrolment_channel() as channel:
            call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=10)
            return await refused(received(call))

    assert "took longer than 2 seconds" in asyncio.run(case()).details


def test_more_enrolments_than_allowed_at_once_are_told_to_come_back(verifier: RunningVerifier) -> None:
    async def case() -> list[grpc.StatusCode]:
        async with verifier.enrolment_channel() as first, verifier.enrolment_channel() as second:
            stubs = [enrollment_pb2_grpc.EnrollmentStub(channel) for channel in (first, second)]
            calls = [stubs[number % 2].Enroll(timeout=10) for number in range(12)]
            return list(await asyncio.gather(*(call.code() for call in calls)))

    codes = asyncio.run(case())
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 4
    asyncio.run(a_node(verifier).enrol())


def test_an_answer_before_the_question_is_out_of_order(verifier: RunningVerifier) -> None:
    async def case() -> Refusal:
        async with verifier.enrolment_channel() as channel:
            call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=10)
            await call.write(enrollment_pb2.EnrollRequest(activation=enrollment_pb2.Activation(secret=bytes(32))))
            return await refused(received(call))

    assert asyncio.run(case()).code is grpc.StatusCode.FAILED_PRECONDITION


def test_enrolling_again_replaces_the_key_keeps_the_id_and_ends_the_old_stream(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        first, old_ak, old_key, old_chain = node.node_id, node.tpm.ak.name().hex(), node.key, node.chain
        async with node.attesting() as stream:
            await stream.round()
            again = FakeNode(verifier, node.tpm)
            other = a_node(verifier).tpm
            again.tpm._ak, again.tpm.ak = other._ak, other.ak
            await again.enrol()
            assert again.node_id == first
            assert (await stream.end()).code is grpc.StatusCode.FAILED_PRECONDITION
        records = [record for record in verifier.records() if record["subject"] == f"node/{first}"]
        enrolled = [record["details"] for record in records if record["action"] == "node.enrolled"]
        assert enrolled[1]["previous_ak_name"] == old_ak
        assert enrolled[1]["ak_name"] == other.ak.name().hex()
        node.key, node.chain = old_key, old_chain
        async with node.attesting() as stale:
            assert (await stale.end()).findings == ("node.unknown",)
        async with again.attesting() as stream:
            assert (await stream.round()).state == attestation_pb2.NODE_STATE_PENDING

    asyncio.run(case())


def test_two_enrolments_of_one_key_at_once_leave_one_attestation_key_and_two_records(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await asyncio.gather(node.enrol(), node.enrol())
        subject = f"node/{node.node_id}"
        assert verifier.actions(subject).count("node.enrolled") == 2

    asyncio.run(case())


def test_a_retired_node_neither_enrols_nor_attests_again(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin, node.attesting() as stream:
            await stream.challenge()
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold"))
            assert "retired" in (await stream.end()).details
        assert (await refused_enrolment(node)).findings == ("node.retired",)
        async with node.attesting() as stream:
            assert (await stream.end()).findings == ("node.retired",)

    asyncio.run(case())


def test_a_start_says_what_the_vendors_folder_holds_and_a_bad_file_stops_nothing(tmp_path: Path) -> None:
    with a_verifier(tmp_path, start=False) as verifier:
        roots = verifier.folder / "ek-roots"
        (roots / "sub").mkdir()
        (roots / "sub" / "Old.CER").write_bytes(
            made.intermediate(replace(made.INTERMEDIATE, not_after="20250201000000Z"))
        )
        (roots / "broken.pem").write_text("no certificate")
        verifier.start()
        events = {line["event"]: line for line in verifier.log()}
        warnings = [line["what"] for line in verifier.log() if line["event"] == "setup"]
        asyncio.run(a_node(verifier).enrol())
    held = events["vendor certificates"]
    assert (held["roots"], held["intermediates"], len(held["makers"])) == (1, 1, 2)
    assert any("2025-02-01 Intermediate (sub/Old.CER)" in warning for warning in warnings)
    assert any(warning.startswith("files left out: broken.pem: ") for warning in warnings)


def test_a_certificate_request_that_its_key_did_not_sign_is_refused(verifier: RunningVerifier) -> None:
    request = bytearray(certificate_request(new_tls_key(), "node"))
    request[-1] ^= 1
    refusal = asyncio.run(refused_enrolment(a_node(verifier), certificate_request=bytes(request)))
    assert "tls.request" in refusal.findings or refusal.code is grpc.StatusCode.INVALID_ARGUMENT
