"""The key socket over a real Unix socket; nothing here gets as far as TPM or verifier."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import pytest

from nodeseal.agent.attest import AgentStatus
from nodeseal.agent.local import socket as key_socket
from nodeseal.agent.local.callers import CallerRule, LocalCaller
from nodeseal.agent.local.service import LocalKeysService
from nodeseal.agent.local.socket import KeySocket
from nodeseal.agent.release.leases import HeldLease, Leases
from nodeseal.agent.release.release import Releaser
from nodeseal.causes import EndCause
from nodeseal.documents import encode_base64
from nodeseal.errors import Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.wire.varlink import KEYS_INTERFACE, MAX_MESSAGE, Call, Reply
from support.agents import MODEL, SLOT, Loader, eventually
from support.leases import released

SERVICE = "org.varlink.service"
OPEN: dict[str, object] = {"model_digest": MODEL, "slots": [SLOT]}
ANYONE = (CallerRule(uid=os.geteuid()),)


class NoVerifier:
    """A releaser without a connection."""

    link = None

    def __init__(self) -> None:
        self.asked = 0

    async def lease(self, _model: object, _slots: object) -> HeldLease:
        self.asked += 1
        raise Unavailable("no connection to the verifier")

    async def give_back(self, _lease_id: object) -> None:
        """Nothing to tell."""


class Bench:
    """A socket that is served, and clients for it."""

    def __init__(self, folder: Path, rules: tuple[CallerRule, ...]) -> None:
        self.path = folder / "s"
        self.releaser = NoVerifier()
        self.status = AgentStatus()
        self.leases = Leases(lambda: 0.0, lambda _end: None)
        releaser = cast("Releaser", self.releaser)
        self.service = LocalKeysService(rules, releaser, self.leases, self.status, lambda: 0.0)
        self._open: list[asyncio.StreamWriter] = []
        self._by_user: Counter[int] = Counter()

    def lend(self, open_key: Callable[[], bytearray]) -> None:
        """Have the verifier give a lease, whose key the TPM opens so."""

        async def lease(_model: object, _slots: object) -> HeldLease:
            return released()

        async def opened(_released: object) -> bytearray:
            return open_key()

        self.leases.extend_trust(60.0)
        self.leases.add(released(), self.leases.endings)
        self.releaser.lease = lease  # type: ignore[method-assign]
        self.releaser.open = opened  # type: ignore[attr-defined]

    @property
    def connections(self) -> int:
        """How many connections the agent counts."""
        return self._by_user.total()

    async def connect(self) -> Loader:
        await eventually(self.path.is_socket)
        reader, writer = await asyncio.open_unix_connection(self.path)
        self._open.append(writer)
        return Loader(reader, writer)

    async def call(self, method: str, parameters: dict[str, object] | None = None, *, more: bool = False) -> Reply:
        return await (await self.connect()).call(method, parameters, more=more)

    async def serve(self, scenario: Callable[[Bench], Awaitable[None]], call_seconds: float) -> None:
        keys = KeySocket(self.path, self.service, call_seconds)
        self._by_user = keys._by_user
        server = asyncio.create_task(keys.serve())
        try:
            await scenario(self)
        finally:
            await self.close()
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)

    async def close(self) -> None:
        for writer in self._open:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def play(
    scenario: Callable[[Bench], Awaitable[None]],
    rules: tuple[CallerRule, ...] = ANYONE,
    *,
    call_seconds: float = 5.0,
) -> None:
    with tempfile.TemporaryDirectory(prefix="keys") as folder:
        asyncio.run(Bench(Path(folder), rules).serve(scenario, call_seconds))


def test_the_service_describes_itself() -> None:
    async def scenario(bench: Bench) -> None:
        client = await bench.connect()
        info = (await client.call(f"{SERVICE}.GetInfo")).parameters
        assert info["interfaces"] == [SERVICE, KEYS_INTERFACE]
        for interface in (SERVICE, KEYS_INTERFACE):
            reply = await client.call(f"{SERVICE}.GetInterfaceDescription", {"interface": interface})
            assert f"interface {interface}\n" in str(reply.parameters["description"])

    play(scenario, ())


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        pytest.param(f"{KEYS_INTERFACE}.Steal", {}, "MethodNotFound", id="an unknown method"),
        pytest.param("io.other.Thing", {}, "InterfaceNotFound", id="an unknown interface"),
        pytest.param(f"{SERVICE}.GetInterfaceDescription", {}, "InvalidParameter", id="a missing parameter"),
        pytest.param(
            f"{SERVICE}.GetInterfaceDescription", {"interface": "a.b"}, "InterfaceNotFound", id="another description"
        ),
        pytest.param(f"{KEYS_INTERFACE}.Open", OPEN, "ExpectedMore", id="Open without more"),
    ],
)
def test_a_call_that_fits_no_method_gets_varlinks_error(method: str, parameters: dict[str, object], error: str) -> None:
    async def scenario(bench: Bench) -> None:
        assert (await bench.call(method, parameters)).error == f"{SERVICE}.{error}"

    play(scenario)


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"slots": [SLOT]}, id="no digest"),
        pytest.param(OPEN | {"model_digest": "../x"}, id="a digest that is none"),
        pytest.param(OPEN | {"slots": []}, id="no slot"),
        pytest.param(OPEN | {"slots": [SLOT | {"suite": "none"}]}, id="an unknown suite"),
        pytest.param(OPEN | {"uid": 0}, id="an unknown key"),
    ],
)
def test_open_refuses_what_does_not_parse(parameters: dict[str, object]) -> None:
    async def scenario(bench: Bench) -> None:
        reply = await bench.call(f"{KEYS_INTERFACE}.Open", parameters, more=True)
        assert reply.error == f"{SERVICE}.InvalidParameter"
        assert bench.releaser.asked == 0

    play(scenario)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param((), id="no rules"),
        pytest.param((CallerRule(uid=os.geteuid() + 1),), id="another user"),
        pytest.param((CallerRule(uid=os.geteuid(), executable_sha256=bytes(32)),), id="another executable"),
        pytest.param((CallerRule(uid=os.geteuid(), unit="other.service"),), id="another unit"),
    ],
)
def test_k07_a_process_that_no_rule_describes_gets_a_finding_and_no_key(rules: tuple[CallerRule, ...]) -> None:
    async def scenario(bench: Bench) -> None:
        reply = await bench.call(f"{KEYS_INTERFACE}.Open", OPEN, more=True)
        assert reply.error == f"{KEYS_INTERFACE}.Refused"
        assert "caller.refused" in json.dumps(reply.parameters)
        assert bench.releaser.asked == 0

    play(scenario, rules)


def test_a_caller_that_may_ask_hears_that_the_verifier_is_away() -> None:
    async def scenario(bench: Bench) -> None:
        reply = await bench.call(f"{KEYS_INTERFACE}.Open", OPEN, more=True)
        assert reply.error == f"{KEYS_INTERFACE}.Unavailable"
        assert reply.parameters == {"reason": "no connection to the verifier"}

    play(scenario)


def test_status_shows_the_last_verdict_without_naming_times_of_a_trust_that_is_none() -> None:
    async def scenario(bench: Bench) -> None:
        bench.status.state = "untrusted"
        finding = Finding(id=FindingId.PCR_MISMATCH, expected="a", seen="b", where="sha256:4", event="event 7")
        bench.status.findings = (finding,)
        reply = await bench.call(f"{KEYS_INTERFACE}.Status")
        assert reply.parameters.keys() == {"state", "since", "findings", "leases"}
        (shown,) = json.loads(json.dumps(reply.parameters["findings"]))
        assert shown == {
            "id": "pcr.mismatch",
            "where": "sha256:4",
            "expected": "a",
            "seen": "b",
            "event": "event 7",
            "remedy": finding.remedy,
        }

    play(scenario, ())


def test_status_of_this_node_is_for_root_the_agents_user_and_allowed_callers() -> None:
    async def scenario(bench: Bench) -> None:
        stranger = LocalCaller(pid=1, uid=4_000_000, gid=1, executable_sha256=None, units=())
        call = Call(method=f"{KEYS_INTERFACE}.Status")
        assert bench.service.answer(call, stranger).error == f"{KEYS_INTERFACE}.Refused"
        for allowed in (replace(stranger, uid=0), replace(stranger, uid=os.geteuid())):
            assert not bench.service.answer(call, allowed).error

    play(scenario, (CallerRule(uid=os.geteuid() + 1),))


def test_the_data_key_is_wiped_once_it_is_on_its_way() -> None:
    key = bytearray(b"k" * 32)

    async def scenario(bench: Bench) -> None:
        bench.lend(lambda: key)
        reply = await bench.call(f"{KEYS_INTERFACE}.Open", OPEN, more=True)
        assert reply.parameters["data_key"] == encode_base64(b"k" * 32)

    play(scenario)
    assert not any(key)


def test_a_key_is_not_handed_over_when_its_lease_ended_while_the_tpm_opened_it() -> None:
    async def scenario(bench: Bench) -> None:
        def open_late() -> bytearray:
            bench.leases.end(EndCause.REVOCATION, "revoked meanwhile")
            return bytearray(32)

        bench.lend(open_late)
        reply = await bench.call(f"{KEYS_INTERFACE}.Open", OPEN, more=True)
        assert reply.error == f"{KEYS_INTERFACE}.Unavailable"
        assert "revoked meanwhile" in str(reply.parameters)

    play(scenario)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"not json\0", id="no JSON"),
        pytest.param(b'{"method":"a.b","oneway":true}\0', id="a key that is not offered"),
        pytest.param(b"x" * (MAX_MESSAGE + 2), id="a message over the limit"),
    ],
)
def test_a_message_that_makes_no_sense_ends_the_connection_and_no_other(raw: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        bad, good = await bench.connect(), await bench.connect()
        bad.writer.write(raw)
        with pytest.raises((EOFError, ConnectionError)):
            await bad.reply()
        assert not (await good.call(f"{SERVICE}.GetInfo")).error

    play(scenario)


def test_a_caller_that_says_nothing_is_dropped() -> None:
    async def scenario(bench: Bench) -> None:
        client = await bench.connect()
        client.writer.write(b'{"method":')
        with pytest.raises(EOFError):
            await client.reply()

    play(scenario, call_seconds=0.1)


def test_a_caller_that_takes_no_replies_is_dropped() -> None:
    async def scenario(bench: Bench) -> None:
        slow = await bench.connect()
        calls = 20_000 * (b'{"method":"' + SERVICE.encode() + b'.GetInfo"}\0')
        slow.writer.write(calls)  # and nothing is read until the agent has given up
        await eventually(lambda: bench.connections)
        await eventually(lambda: not bench.connections)
        assert not (await bench.call(f"{SERVICE}.GetInfo")).error

    play(scenario, call_seconds=0.2)


def test_two_calls_in_one_write_get_two_replies() -> None:
    async def scenario(bench: Bench) -> None:
        client = await bench.connect()
        client.writer.write(2 * (b'{"method":"' + SERVICE.encode() + b'.GetInfo"}\0'))
        assert [(await client.reply()).error for _ in range(2)] == ["", ""]

    play(scenario)


def test_one_user_has_a_limit_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_socket, "MAX_CONNECTIONS_PER_USER", 2)

    async def scenario(bench: Bench) -> None:
        kept = [await bench.connect() for _ in range(2)]
        for client in kept:
            assert not (await client.call(f"{SERVICE}.GetInfo")).error
        with pytest.raises((EOFError, ConnectionError)):
            await bench.call(f"{SERVICE}.GetInfo")
        kept[0].writer.close()
        for _ in range(50):
            await asyncio.sleep(0.02)
            try:
                assert not (await bench.call(f"{SERVICE}.GetInfo")).error
            except (EOFError, ConnectionError):
                continue
            return
        pytest.fail("a closed connection still counts")

    play(scenario)


def test_k07_users_that_no_rule_names_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    users, expects = count(20_000), LocalKeysService.expects
    monkeypatch.setattr(key_socket, "MAX_CONNECTIONS_PER_USER", 2)

    def is_stranger(service: LocalKeysService, caller: LocalCaller) -> bool:
        return expects(service, replace(caller, uid=next(users)))

    async def scenario(bench: Bench) -> None:
        with monkeypatch.context() as strangers:
            strangers.setattr(LocalKeysService, "expects", is_stranger)
            for _ in range(2):
                assert not (await bench.call(f"{SERVICE}.GetInfo")).error
            with pytest.raises((EOFError, ConnectionError)):
                await bench.call(f"{SERVICE}.GetInfo")
        assert not (await bench.call(f"{SERVICE}.GetInfo")).error

    play(scenario)


def test_every_user_may_connect_and_a_dead_agents_socket_is_replaced() -> None:
    async def scenario(bench: Bench) -> None:
        assert not (await bench.call(f"{SERVICE}.GetInfo")).error

    with tempfile.TemporaryDirectory(prefix="keys") as folder:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{folder}/s")
        bench = Bench(Path(folder), ANYONE)
        asyncio.run(_after_replacement(bench, scenario))


async def _after_replacement(bench: Bench, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    server = asyncio.create_task(KeySocket(bench.path, bench.service).serve())
    await eventually(lambda: bench.path.exists() and stat.S_IMODE(bench.path.stat().st_mode) == 0o666)
    await scenario(bench)
    await bench.close()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


def test_a_file_that_is_no_socket_is_not_replaced() -> None:
    with tempfile.TemporaryDirectory(prefix="keys") as folder:
        Path(folder, "s").write_text("precious")
        bench = Bench(Path(folder), ANYONE)
        with pytest.raises(Unavailable):
            asyncio.run(KeySocket(bench.path, bench.service).serve())
        assert Path(folder, "s").read_text() == "precious"
