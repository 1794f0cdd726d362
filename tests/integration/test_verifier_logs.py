"""Logs against a running verifier: stretches, limits, what is asked for again, restarts, labels, leases."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from nodeseal.crypto.tls_identity import to_pem
from nodeseal.evidence.binding import Purpose
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, MAX_LOG_PIECE
from nodeseal.golden.rules import Window
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, attestation_pb2, attestation_pb2_grpc, key_release_pb2, key_release_pb2_grpc
from support.admin import Sealed, a_sealed_model, activate, grant
from support.fake_node import boot_log_stretches, ima_stretches
from support.in_process import in_process
from support.logged import LoggedNode, admitted_logged_node
from support.verifier import Refusal, RunningVerifier, Stubs, a_verifier, received, refusal_of, refused

TRUSTED = attestation_pb2.NODE_STATE_TRUSTED
UNTRUSTED = attestation_pb2.NODE_STATE_UNTRUSTED
HUGE = 100 * 1024 * 1024
FILES = {"/usr/bin/agent": [b"agent 1"], "/usr/bin/python": [b"python 1"]}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    with a_verifier(tmp_path_factory.mktemp("logs"), answer_within_seconds=15, trust_seconds=100) as running:
        yield running


@pytest.fixture
def node(verifier: RunningVerifier, tmp_path: Path) -> LoggedNode:
    return asyncio.run(admitted_logged_node(verifier, tmp_path))


def most_memory_of(verifier: RunningVerifier) -> int:
    """Return the most bytes that the verifier's process ever had in memory."""
    lines = Path(f"/proc/{verifier.process.pid}/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


async def sent_until_refused(call: Any, messages: Iterable[attestation_pb2.Evidence]) -> Refusal:
    """Send a few messages and wait for the refusal."""
    for message in messages:
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(message)
    try:
        while True:
            await received(call)
    except aio.AioRpcError as error:
        return refusal_of(error)


def flooded(node: LoggedNode, method: Callable[[grpc.Channel], Any], *floods: Iterable[Any]) -> Refusal:
    """Send until refused, each flood after one more answer; what a write fails with hides no status here."""
    answers = threading.Semaphore(0)

    def messages() -> Iterator[Any]:
        for flood in floods:
            yield from flood
            assert answers.acquire(timeout=20)

    credentials = grpc.ssl_channel_credentials(node.verifier.ca, node.key, to_pem(*node.chain))
    with grpc.secure_channel(node.verifier.listen, credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            for _ in method(channel)(messages(), timeout=90):
                answers.release()
        except grpc.RpcError as error:
            return refusal_of(error)
    raise AssertionError("not refused")


def attest(channel: grpc.Channel) -> Any:
    return attestation_pb2_grpc.AttestationStub(channel).Attest


def release(channel: grpc.Channel) -> Any:
    return key_release_pb2_grpc.KeyReleaseStub(channel).Release


def test_a_challenge_says_how_long_an_answer_may_take_and_asks_for_everything_first(node: LoggedNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            first = await stream.challenge()
            assert (first.answer_within_ms, first.complete_within_ms) == (15_000, 50_000)
            assert first.values_required
            assert (first.boot_id_known, first.boot_log_known, first.ima_offset_known) == ("", b"", 0)
            assert {10} < set(first.pcr_selection.banks[0].pcrs)

    asyncio.run(case())


def test_only_what_is_new_is_asked_for_once_it_was_judged(verifier: RunningVerifier, node: LoggedNode) -> None:
    async def case() -> None:
        async with verifier.person() as admin, node.attesting() as stream:
            digest = await activate(admin, node.golden(FILES))
            node.run("/usr/bin/agent", b"agent 1")
            await stream.round_until(TRUSTED)
            judged = len(node.ima_log or b"")
            challenge = await stream.challenge()
            assert challenge.boot_id_known == node.boot_id
            assert challenge.boot_log_known == hashlib.sha256(node.boot_log).digest()
            assert challenge.ima_offset_known == judged
            node.run("/usr/bin/python", b"python 1")
            *logs, last = node.answer(challenge)
            assert [(bool(each.boot_log), each.ima.offset) for each in logs] == [(False, judged)]
            for message in (*logs, last):
                await stream.send(message)
            assert (await stream.verdict()).state == TRUSTED
            node.run("/usr/bin/python", b"something else")
            verdict = await stream.round()
            assert (verdict.state, {each.id for each in verdict.findings}) == (UNTRUSTED, {"ima.changed-file"})
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=digest))

    asyncio.run(case())


def test_a_golden_activated_later_is_held_against_whole_logs_at_once(
    verifier: RunningVerifier, node: LoggedNode
) -> None:
    async def case() -> None:
        async with verifier.person() as admin, node.attesting() as stream:
            exact = await activate(admin, node.golden())
            node.run("/usr/bin/agent", b"agent 1")
            await stream.round_until(TRUSTED)
            await stream.round()
            judging = await activate(admin, node.golden(FILES, name="rack-b"))
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=exact))
            verdict = await stream.round_until(TRUSTED)
            assert not verdict.findings
            found = await admin.nodes.GetNode(admin_pb2.GetNodeRequest(node_id=node.node_id))
            assert list(found.goldens) == [judging]
            assert found.ima_judged_bytes == len(node.ima_log or b"")
            assert found.boot.secure_boot == "user"
            assert any("shim" in image for image in found.boot.images)
            assert list(found.boot.command_lines)
            await admin.goldens.RetireGolden(admin_pb2.RetireGoldenRequest(digest=judging))

    asyncio.run(case())


@pytest.mark.parametrize(
    ("stretches", "limit"),
    [(ima_stretches, MAX_IMA_DELTA), (boot_log_stretches, MAX_BOOT_LOG)],
    ids=["IMA log", "boot log"],
)
def test_a_log_of_100_megabytes_is_refused_at_its_limit_and_not_kept(
    verifier: RunningVerifier, node: LoggedNode, stretches: Any, limit: int
) -> None:
    before = most_memory_of(verifier)
    for _ in range(3):
        refusal = flooded(node, attest, (), stretches(bytes(HUGE)))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert f"more than {limit} bytes" in refusal.details
    assert most_memory_of(verifier) - before < 3 * MAX_IMA_DELTA


def ima(offset: int, entries: bytes = b"x", hash_id: int = HashAlg.SHA1, **more: Any) -> attestation_pb2.Evidence:
    stretch = attestation_pb2.ImaStretch(offset=offset, entries=entries, hash=hash_id)
    return attestation_pb2.Evidence(ima=stretch, **{"more": True, **more})


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([attestation_pb2.Evidence(more=True)], "and nothing else"),
        ([ima(0, claims=b"{}")], "and nothing else"),
        ([ima(0), ima(2)], "a stretch at offset 2, not 1"),
        ([ima(0), ima(0)], "a stretch at offset 0, not 1"),
        ([ima(2**64 - 1), ima(0)], "not 18446744073709551616"),
        ([ima(0), ima(1, hash_id=HashAlg.SHA256)], "or of another bank"),
        ([ima(0, hash_id=7)], "unknown bank 0x0007"),
        ([ima(0, bytes(MAX_LOG_PIECE + 1))], f"at most {MAX_LOG_PIECE}"),
    ],
)
def test_a_hostile_sequence_ends_the_stream(
    node: LoggedNode, messages: list[attestation_pb2.Evidence], why: str
) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.challenge()
            refusal = await sent_until_refused(stream.call, messages)
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert why in refusal.details

    asyncio.run(case())


def test_a_stretch_without_an_open_challenge_ends_the_stream(node: LoggedNode) -> None:
    async def case() -> None:
        async with node.attesting() as stream:
            await stream.round()
            refusal = await sent_until_refused(stream.call, [ima(0)])
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))

    asyncio.run(case())


def test_others_are_answered_while_a_node_sends_a_long_log(verifier: RunningVerifier, tmp_path: Path) -> None:
    async def case() -> None:
        slow, quick = [await admitted_logged_node(verifier, tmp_path) for _ in range(2)]
        async with slow.attesting() as sending, quick.attesting() as stream:
            challenge = await sending.challenge()
            pieces = list(ima_stretches(bytes(32 * 1024 * 1024)))
            for piece in pieces[:-1]:
                await sending.send(piece)
            await asyncio.wait_for(stream.round(), 5)
            await sending.send(pieces[-1])
            await sending.send(slow.evidence(challenge))
            await asyncio.wait_for(stream.round(), 10)
            verdict = await asyncio.wait_for(sending.verdict(), 60)
            assert verdict.state != TRUSTED

    asyncio.run(case())


def test_a_full_verifier_refuses_more_logs_and_says_when_to_come_back(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        first, second = [await admitted_logged_node(verifier, tmp_path) for _ in range(2)]
        async with first.attesting() as holding:
            await holding.challenge()
            for piece in ima_stretches(bytes(MAX_IMA_DELTA)):
                await holding.send(piece)
            await asyncio.sleep(0.5)
            refusal = await asyncio.to_thread(flooded, second, attest, (), ima_stretches(bytes(MAX_IMA_DELTA)))
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "try again in 10 seconds" in refusal.details
        async with second.attesting() as stream:
            await stream.round()  # what the first node sent was forgotten with its stream

    with a_verifier(tmp_path, start=False, answer_within_seconds=15, trust_seconds=100) as verifier:
        config = verifier.folder / "verifier.yaml"
        limit = f"  max_waiting_log_bytes: {MAX_IMA_DELTA + MAX_BOOT_LOG}\n  pcrs:"
        config.write_text(config.read_text().replace("  pcrs:", limit))
        verifier.start()
        asyncio.run(case(verifier))


def test_a_restarted_verifier_remembers_when_files_were_measured(fresh: RunningVerifier, tmp_path: Path) -> None:
    async def case() -> None:
        async with fresh.person() as admin:
            node = await admitted_logged_node(fresh, tmp_path)
            node.run("/usr/bin/agent", b"agent 1")
            for seconds in (4, 16, 64):  # more than a round takes, but on a machine that is busy with other work
                until = datetime.now(UTC) + timedelta(seconds=seconds)
                await activate(admin, node.golden(FILES, valid=Window(end=until)))
                async with node.attesting() as stream:
                    if (await stream.round()).state == TRUSTED:
                        break
                assert datetime.now(UTC) > until
        assert fresh.stop() == 0
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 1)
        fresh.start()
        async with node.attesting() as stream:
            challenge = await stream.challenge()
            assert challenge.ima_offset_known == 0
            for message in node.answer(challenge):
                await stream.send(message)
            verdict = await stream.verdict()
            assert (verdict.state, list(verdict.findings)) == (TRUSTED, [])
            node.run("/usr/bin/python", b"python 1")
            verdict = await stream.round()
            assert {each.id for each in verdict.findings} == {"ima.expired-file"}

    asyncio.run(case())


def test_a_label_lets_a_golden_count_at_once_and_its_loss_ends_that(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            node = await admitted_logged_node(verifier, tmp_path)
            await activate(admin, node.golden(FILES, nodes={"rack": "a"}))
            async with node.attesting() as stream:
                verdict = await stream.round()
                assert {each.id for each in verdict.findings} == {"golden.not-valid"}
                labelled = await label(admin, node, rack="a", role="gpu")
                assert dict(labelled.labels) == {"rack": "a", "role": "gpu"}
                assert (await asyncio.wait_for(stream.round_until(TRUSTED), 5)).state == TRUSTED
                assert dict((await label(admin, node, rack="")).labels) == {"role": "gpu"}
                assert (await asyncio.wait_for(stream.round(), 5)).state == UNTRUSTED
        actions = verifier.actions(f"node/{node.node_id}")
        assert actions.count("node.labelled") == 2

    with a_verifier(tmp_path, interval_seconds=3600, trust_seconds=3700) as verifier:
        asyncio.run(case(verifier))


async def label(admin: Stubs, node: LoggedNode, **labels: str) -> admin_pb2.Node:
    return await admin.nodes.LabelNode(admin_pb2.LabelNodeRequest(node_id=node.node_id, labels=labels))


async def ready_to_release(verifier: RunningVerifier, folder: Path) -> tuple[LoggedNode, Sealed]:
    """Return a node that is trusted by what it runs, and a model that it may open."""
    node = await admitted_logged_node(verifier, folder)
    async with verifier.person() as admin:
        await activate(admin, node.golden(FILES))
        async with node.attesting() as stream:
            await stream.round_until(TRUSTED)
        model = await a_sealed_model(admin)
        await grant(admin, node)
    assert not verifier.actions(f"model/{model.digest}")[1:]
    return node, model


def test_a_release_is_judged_by_what_ran_since_the_last_round_and_leases_end_by_it(
    fresh: RunningVerifier, tmp_path: Path
) -> None:
    async def case() -> None:
        node, model = await ready_to_release(fresh, tmp_path)
        node.run("/usr/bin/agent", b"agent 1")
        released = await node.release(model.digest, [model.slot])
        assert node.open(released) == model.data_key
        async with node.attesting() as stream:
            assert (await stream.round()).state == TRUSTED
            node.run("/tmp/miner", b"miner")  # noqa: S108 - no file
            verdict = await stream.round()
            assert {each.id for each in verdict.findings} == {"ima.unknown-file"}
            assert (await stream.revocation()).lease_ids == [released.lease_id]
        assert fresh.actions(f"lease/{released.lease_id}") == ["lease.issued", "lease.ended"]

    asyncio.run(case())


def test_a_release_is_refused_for_what_ran_since_the_last_round(fresh: RunningVerifier, tmp_path: Path) -> None:
    async def case() -> None:
        node, model = await ready_to_release(fresh, tmp_path)
        node.run("/tmp/miner", b"miner")  # noqa: S108 - no file
        refusal = await refused(node.release(model.digest, [model.slot]))
        assert "ima.unknown-file" in refusal.findings

    asyncio.run(case())


def test_logs_of_a_release_have_the_same_limits(fresh: RunningVerifier, tmp_path: Path) -> None:
    async def case() -> None:
        node, model = await ready_to_release(fresh, tmp_path)
        ask = key_release_pb2.ReleaseRequest(ask=model.ask())
        for stretches, why in (
            (ima_stretches(bytes(HUGE)), f"more than {MAX_IMA_DELTA} bytes"),
            ([ima(0), ima(7)], "a stretch at offset 7, not 1"),
            ([attestation_pb2.Evidence()], "and nothing else"),
        ):
            logs = (key_release_pb2.ReleaseRequest(logs=each) for each in stretches)
            refusal = await asyncio.to_thread(flooded, node, release, [ask], logs)
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert why in refusal.details
        released = await node.release(model.digest, [model.slot])
        assert node.open(released) == model.data_key

    asyncio.run(case())


@pytest.mark.parametrize("begun", [True, False], ids=["begun in time", "not begun"])
def test_a_release_has_longer_for_its_logs_once_they_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with in_process(verifier):
            node, model = await ready_to_release(verifier, tmp_path)
            node.run("/usr/bin/agent", b"agent 1")
            monkeypatch.setattr("nodeseal.verifier.services.key_release._ASK_SECONDS", 0)
            async with node.releasing(model.ask()) as asked:
                *logs, _ = node.answer(asked.challenge.challenge, Purpose.RELEASE)
                messages = [*(key_release_pb2.ReleaseRequest(logs=each) for each in logs)]
                assert messages
                if begun:
                    await asked.call.write(messages.pop(0))
                await asyncio.sleep(1.5)
                if not begun:
                    assert "took too long" in (await sent_until_refused(asked.call, ())).details
                    return
                assert node.open(await asked.prove(node.proof(asked.challenge))) == model.data_key

    with a_verifier(tmp_path, start=False, interval_seconds=10, answer_within_seconds=1) as verifier:
        asyncio.run(case(verifier))
