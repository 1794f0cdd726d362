"""What people do, against a running verifier: goldens, keys, models, audit, and the limits of messages."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from nodeseal.golden.document import MAX_GOLDEN, dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ids import ModelId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2
from support.admin import content_of, grant, trusted_node
from support.fake_node import a_node
from support.sealed import CONTENT, WEIGHTS
from support.verifier import RunningVerifier, Stubs, received, refusal_of, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ORDER = grpc.StatusCode.FAILED_PRECONDITION
ABSENT = grpc.StatusCode.NOT_FOUND


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    return (await refused(call)).code


@pytest.mark.parametrize(
    "document",
    [
        dump_golden(Golden(name="g", pcrs={HashAlg.SHA256: {n: frozenset({bytes(32)}) for n in (4, 17)}})),
        dump_golden(Golden(name="g", pcrs={HashAlg.SHA384: {n: frozenset({bytes(48)}) for n in (4, 17)}})),
        b"format: nodeseal/golden/1\nname: g\npcrs: {}\n",
        b"a: &a [1]\nb: *a\n",
    ],
    ids=["a PCR that is not quoted", "a PCR that is quoted in no bank", "nothing pinned", "an alias"],
)
def test_a_golden_that_could_not_be_checked_is_not_activated(verifier: RunningVerifier, document: bytes) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            request = admin_pb2.ActivateGoldenRequest(document=document)
            assert await code_of(admin.goldens.ActivateGolden(iter([request]))) is INVALID

    asyncio.run(case())


def listing(files: int, name: str) -> bytes:
    rules = {f"/opt/software/file-{n}": (FileDigest(digest=n.to_bytes(32, "big")),) for n in range(files)}
    pcrs = {HashAlg.SHA256: {4: frozenset({bytes(32)})}}
    return dump_golden(Golden(name=name, pcrs=pcrs, runtime=RuntimeRules(files=rules)))


def in_parts(document: bytes, size: int) -> Iterator[admin_pb2.ActivateGoldenRequest]:
    for start in range(0, len(document), size):
        yield admin_pb2.ActivateGoldenRequest(document=document[start : start + size])


def test_a_golden_larger_than_any_message_is_activated_listed_and_read_back(verifier: RunningVerifier) -> None:
    async def case() -> None:
        document = listing(20_000, "large")
        assert len(document) > 2 << 20
        async with verifier.person() as admin:
            golden = await admin.goldens.ActivateGolden(in_parts(document, 1_000_000))
            assert golden.digest == parse_golden(document, "sent").digest
            listed = (await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())).goldens
            assert [(each.name, each.document) for each in listed] == [("large", b"")]
            parts = [part async for part in admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=golden.digest))]
            assert b"".join(part.document for part in parts) == document
            assert {(part.name, part.digest, part.active) for part in parts} == {("large", golden.digest, True)}
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

    asyncio.run(case())


def test_a_golden_without_end_is_refused_before_it_is_whole(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async def without_end() -> AsyncIterator[admin_pb2.ActivateGoldenRequest]:
            for _ in range(MAX_GOLDEN // 1_000_000 + 1):
                yield admin_pb2.ActivateGoldenRequest(document=b"#" * 1_000_000)
            await asyncio.Event().wait()

        async with verifier.person() as admin:
            assert await code_of(admin.goldens.ActivateGolden(without_end())) is INVALID

    asyncio.run(case())


def test_too_many_goldens_on_their_way_are_refused_and_keep_nobody_from_reading(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            golden = await admin.goldens.ActivateGolden(in_parts(listing(1, "small"), 1_000_000))
            slow = [admin.goldens.ActivateGolden() for _ in range(2)]
            for call in slow:
                await call.write(admin_pb2.ActivateGoldenRequest(document=b"#"))
            await until_refused(admin)
            part = await received(admin.goldens.GetGolden(admin_pb2.GetGoldenRequest(digest=golden.digest)))
            assert part.name == "small"
            for call in slow:
                call.cancel()
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

    asyncio.run(case())


def test_too_many_readers_of_goldens_are_refused(verifier: RunningVerifier) -> None:
    async def case() -> None:
        document = listing(1, "with-remarks") + (b"#" * 99 + b"\n") * 200_000
        async with verifier.person() as admin:
            golden = await admin.goldens.ActivateGolden(in_parts(document, 1_000_000))
            ask = admin_pb2.GetGoldenRequest(digest=golden.digest)
            slow = [admin.goldens.GetGolden(ask) for _ in range(2)]
            for call in slow:
                await received(call)
            assert await code_of(received(admin.goldens.GetGolden(ask))) is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in slow:
                call.cancel()
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=golden.digest))

    asyncio.run(case())


async def until_refused(admin: Stubs) -> None:
    """Wait until the verifier has met the calls that were begun: what began last may arrive first."""
    for _ in range(100):
        request = admin_pb2.ActivateGoldenRequest(document=b"no golden")
        code = await code_of(admin.goldens.ActivateGolden(iter([request])))
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return
        assert code is INVALID
        await asyncio.sleep(0.05)
    pytest.fail("every golden was taken")


def test_keys_are_created_once_granted_to_known_nodes_and_revoked_for_good(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin:
            create = admin_pb2.CreateKeyRequest(key_id="once")
            key = await admin.keys.CreateKey(create)
            assert key.suite.startswith("MLKEM768")
            assert await code_of(admin.keys.CreateKey(create)) is ORDER
            assert await code_of(admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="x", suite="RSA"))) is INVALID
            assert await code_of(admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="../x"))) is INVALID
            assert await code_of(grant(admin, node, "never-made")) is ABSENT
            assert await code_of(grant(admin, node, "once", max_leases=0)) is INVALID
            await grant(admin, node, "once", max_leases=3)
            found = await admin.keys.GetKey(admin_pb2.GetKeyRequest(key_id="once"))
            assert [(each.node_id, each.max_leases) for each in found.grants] == [(node.node_id, 3)]
            revoke = admin_pb2.RevokeKeyRequest(key_id="once", reason="lost")
            revoked = await admin.keys.RevokeKey(revoke)
            assert revoked.revoked
            assert not revoked.grants
            assert await code_of(admin.keys.RevokeKey(revoke)) is ORDER
            assert await code_of(grant(admin, node, "once")) is ORDER
        assert verifier.actions("key/once") == ["key.created", "key.granted", "key.revoked"]

    asyncio.run(case())


YEARS_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def test_a_models_version_never_goes_back(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with verifier.person() as admin:

            async def register(version: int, model: str = "llama") -> admin_pb2.Model:
                request = admin_pb2.RegisterModelRequest(content=content_of(model, version))
                return await admin.models.RegisterModel(request)

            second = await register(2)
            assert (await register(2)).digest == second.digest
            assert await code_of(register(1)) is ORDER
            same = replace(CONTENT, model_id=ModelId("llama"), version=2, files=(WEIGHTS,), created=YEARS_AGO).encode()
            assert await code_of(admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=same))) is ORDER
            assert (await register(1, "other")).version == 1
            await register(3)
            assert verifier.actions(f"model/{second.digest}") == ["model.registered"]
            found = await admin.models.GetModel(admin_pb2.GetModelRequest(digest=second.digest))
            assert found.content == content_of("llama", 2)
            bad = admin_pb2.RegisterModelRequest(content=content_of("llama", 4) + b" ")
            assert await code_of(admin.models.RegisterModel(bad)) is INVALID

    asyncio.run(case())


def test_a_retired_model_comes_back_only_when_somebody_says_so(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            content = content_of("flawed", 1)
            first = await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))
            assert not first.HasField("retired")
            await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content_of("flawed", 2)))
            retire = admin_pb2.RetireModelRequest(digest=first.digest, reason="reads minds")
            retired = await admin.models.RetireModel(retire)
            assert retired.HasField("retired")
            (found,) = [
                model
                for model in (await admin.models.ListModels(admin_pb2.ListModelsRequest())).models
                if model.digest == first.digest
            ]
            assert found == retired
            assert await code_of(admin.models.RetireModel(retire)) is ABSENT

            with pytest.raises(aio.AioRpcError, match="is retired since 20") as caught:
                await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content))
            assert (refusal_of(caught.value).code, first.digest in str(caught.value)) == (ORDER, True)
            again = admin_pb2.RegisterModelRequest(content=content, again=True)
            back = await admin.models.RegisterModel(again)
            assert await admin.models.GetModel(admin_pb2.GetModelRequest(digest=first.digest)) == admin_pb2.Model(
                digest=first.digest,
                model_id="flawed",
                version=1,
                size=first.size,
                files=first.files,
                registered=back.registered,
                content=content,
            )
            assert back.registered.ToNanoseconds() > first.registered.ToNanoseconds()
            await admin.models.RegisterModel(again)  # registered: nothing to do
        subject = f"model/{first.digest}"
        records = [record for record in verifier.records() if record["subject"] == subject]
        assert [(each["action"], each["details"].get("reason"), each["details"].get("again")) for each in records] == [
            ("model.registered", None, False),
            ("model.retired", "reads minds", None),
            ("model.registered", None, True),
        ]

    asyncio.run(case())


def test_an_older_version_that_nobody_registered_stays_out_when_the_newer_one_is_retired(
    verifier: RunningVerifier,
) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            newer = await admin.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content_of("counted", 2)))
            await admin.models.RetireModel(admin_pb2.RetireModelRequest(digest=newer.digest, reason="flawed"))
            older = admin_pb2.RegisterModelRequest(content=content_of("counted", 1), again=True)
            assert await code_of(admin.models.RegisterModel(older)) is ORDER
            nobodys = admin_pb2.RetireModelRequest(digest="ab" * 32, reason="flawed")
            assert await code_of(admin.models.RetireModel(nobodys)) is ABSENT

    asyncio.run(case())


def test_states_that_do_not_fit_are_refused(verifier: RunningVerifier) -> None:
    async def case() -> None:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin:
            admit = admin_pb2.AdmitNodeRequest(node_id=node.node_id)
            await admin.nodes.AdmitNode(admit)
            assert await code_of(admin.nodes.AdmitNode(admit)) is ORDER
            hostile = admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="x\x1b[2J")
            assert await code_of(admin.nodes.RetireNode(hostile)) is INVALID
            retire = admin_pb2.RetireNodeRequest(node_id=node.node_id, reason="sold")
            assert (await admin.nodes.RetireNode(retire)).state == attestation_pb2.NODE_STATE_RETIRED
            quarantine = admin_pb2.QuarantineNodeRequest(node_id=node.node_id, reason="odd")
            assert await code_of(admin.nodes.QuarantineNode(quarantine)) is ORDER
            assert await code_of(admin.nodes.AdmitNode(admit)) is ORDER

    asyncio.run(case())


def test_lists_come_in_pages(verifier: RunningVerifier) -> None:
    async def case() -> None:
        for _ in range(3):
            await a_node(verifier).enrol()
        async with verifier.person() as admin:
            everything = [node.node_id for node in (await admin.nodes.ListNodes(admin_pb2.ListNodesRequest())).nodes]
            request = admin_pb2.ListNodesRequest(after=everything[0], limit=2)
            page = [node.node_id for node in (await admin.nodes.ListNodes(request)).nodes]
            assert page == everything[1:3]
            records = [
                record async for record in admin.audit.ListRecords(admin_pb2.ListRecordsRequest(after=1, limit=2))
            ]
            assert [record.sequence for record in records] == [2, 3]
            records = [record async for record in admin.audit.ListRecords(admin_pb2.ListRecordsRequest())]
            assert [record.sequence for record in records] == list(range(1, len(records) + 1))
            count = len(records)
            for after, limit in ((0, 2), (count - 1, 2), (count, 2), (1, 2 * count), (2, 0)):
                newest = admin_pb2.ListRecordsRequest(after=after, limit=limit, newest=True)
                behind = records[after:]
                assert [each async for each in admin.audit.ListRecords(newest)] == behind[-limit:]

    asyncio.run(case())


def test_messages_that_are_too_large_or_compressed_are_refused_before_a_handler_runs(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with verifier.person() as admin:
            large = admin_pb2.RegisterModelRequest(content=bytes(2 << 20))
            assert await code_of(admin.models.RegisterModel(large)) is grpc.StatusCode.RESOURCE_EXHAUSTED
            packed = admin_pb2.RegisterModelRequest(content=bytes(1 << 19))
            call = admin.models.RegisterModel(packed, compression=grpc.Compression.Gzip)
            assert await code_of(call) is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(case())


def test_health_and_reflection_answer(verifier: RunningVerifier) -> None:
    async def case() -> None:
        async with verifier.enrolment_channel() as channel:
            check: aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with verifier.person() as admin:
            ask: aio.StreamStreamMultiCallable[
                reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
            ]
            ask = admin.channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            call = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            names = {service.name for service in (await received(call)).list_services_response.service}
        assert "nodeseal.v1.KeyRelease" in names

    asyncio.run(case())


def test_a_stopped_verifier_tells_its_streams_and_exits_with_zero(fresh: RunningVerifier) -> None:
    async def case() -> None:
        node = await trusted_node(fresh)
        async with node.attesting() as stream:
            await stream.round()
            stopping = asyncio.create_task(asyncio.to_thread(fresh.stop))
            assert (await stream.end()).code is grpc.StatusCode.UNAVAILABLE
            assert await stopping == 0
        assert fresh.log()[-1]["event"] == "stopped"

    asyncio.run(case())


def test_a_golden_that_was_edited_in_the_database_stops_the_start(fresh: RunningVerifier) -> None:
    asyncio.run(trusted_node(fresh))
    fresh.stop()
    with closing(sqlite3.connect(fresh.folder / "verifier.sqlite")) as database, database:
        (document,) = database.execute("SELECT document FROM goldens").fetchone()
        database.execute("UPDATE goldens SET document = ?", (document.replace(b'"rack-a"', b'"rack-b"'),))
    fresh.tampered = True
    with pytest.raises(AssertionError, match="its document was changed in the database"):
        fresh.start()
