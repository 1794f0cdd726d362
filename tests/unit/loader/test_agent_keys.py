"""The loader's side of io.nodeseal.Keys, against an agent that follows a script."""

from __future__ import annotations

import errno
import os
import socket
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any, NoReturn, Self

import pytest

from nodeseal import documents
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, Unavailable
from nodeseal.findings import FindingId
from nodeseal.ids import digest_of
from nodeseal.loader import AgentKeys, Lease, agent_keys, open_model
from nodeseal.sealed.slots import Slots, parse_slot_list
from nodeseal.wire import varlink
from nodeseal.wire.varlink import Call, Reply
from support.fake_agent import Caller, FakeAgent, Script, agent_script, rfc3339
from support.sealed import DATA_KEY, PLAIN_WEIGHTS, Sample, model_key, sealed_model

MODEL = digest_of(b"model")
SLOTS = Slots(MODEL, (model_key()[1].slot(MODEL, DATA_KEY),))
PATIENCE = 10.0


def released(**changes: object) -> dict[str, Any]:
    good = {
        "data_key": documents.encode_base64(DATA_KEY),
        "model_digest": MODEL,
        "lease_id": "l-abcdefghijklmnopqrstuvwxyz",
        "expires": rfc3339(60),
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def first_reply(reply: Reply) -> Script:
    def script(caller: Caller, call: Call) -> None:
        assert call.more
        caller.reply(reply)
        caller.wait_until_gone()

    return script


def ended(path: Path, script: Script) -> str:
    """Open a lease of an agent that follows ``script`` and return why it ended."""
    reasons: Queue[str] = Queue()
    with FakeAgent(path, script) as agent:
        lease = AgentKeys(agent.path).open(SLOTS)
        key = lease._data_key
        lease.watch(reasons.put)
        reason = reasons.get(timeout=PATIENCE)
        assert not any(key)
        with pytest.raises(PolicyRefused, match=reason):
            lease.data_key()
    return reason


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.sock"


def test_the_call_carries_digest_and_slots_and_the_key_comes_back(path: Path) -> None:
    calls: list[Call] = []

    def script(caller: Caller, call: Call) -> None:
        calls.append(call)
        caller.reply(Reply(parameters=released(), continues=True))
        caller.wait_until_gone()

    with FakeAgent(path, script):
        lease = AgentKeys(path).open(SLOTS)
        assert lease.data_key() == DATA_KEY
        assert lease.model_digest == MODEL
        lease.end("enough")
    (call,) = calls
    assert (call.method, call.more) == ("io.nodeseal.Keys.Open", True)
    assert call.parameters["model_digest"] == MODEL
    slots = call.parameters["slots"]
    assert isinstance(slots, list)
    assert parse_slot_list(tuple(slots), "Open") == SLOTS.slots


def test_ending_a_lease_closes_the_connection(path: Path) -> None:
    gone = Event()

    def script(caller: Caller, _: Call) -> None:
        caller.reply(Reply(parameters=released(), continues=True))
        caller.wait_until_gone()
        gone.set()

    with FakeAgent(path, script):
        AgentKeys(path).open(SLOTS).end("enough")
        assert gone.wait(PATIENCE)


def test_a_revocation_ends_the_lease_with_its_reason(path: Path) -> None:
    def script(caller: Caller, _: Call) -> None:
        caller.reply(Reply(parameters=released(), continues=True))
        caller.reply(Reply(parameters={"revoked": "PCR 14 moved"}))

    assert ended(path, script) == "PCR 14 moved"


def test_a_renewal_moves_the_expiry(path: Path) -> None:
    def script(caller: Caller, _: Call) -> None:
        caller.reply(Reply(parameters=released(expires=rfc3339(1)), continues=True))
        caller.reply(Reply(parameters={"expires": rfc3339(60)}, continues=True))
        time.sleep(1.3)
        caller.reply(Reply(parameters={"revoked": "after the first expiry"}))

    assert ended(path, script) == "after the first expiry"


def test_a_lease_without_renewal_runs_out_by_itself(path: Path) -> None:
    script = first_reply(Reply(parameters=released(expires=rfc3339(0.2)), continues=True))
    assert ended(path, script) == "the lease ran out without a renewal"


def test_a_wall_clock_that_is_set_back_does_not_prolong_a_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            looks.append(None)
            return super().now(tz) - timedelta(days=len(looks) - 1)

    monkeypatch.setattr(agent_keys, "datetime", SetBack)
    script = first_reply(Reply(parameters=released(expires=rfc3339(0.2)), continues=True))
    assert ended(path, script) == "the lease ran out without a renewal"


@pytest.mark.parametrize("rest", [b"", b'{"parameters"'], ids=["between messages", "inside a message"])
def test_an_agent_that_dies_ends_the_lease(path: Path, rest: bytes) -> None:
    def script(caller: Caller, _: Call) -> None:
        caller.reply(Reply(parameters=released(), continues=True))
        caller.send(rest)

    assert ended(path, script) == "the agent closed the connection"


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\0",
        b'{"parameters":{"expires":"tomorrow"},"continues":true}\0',
        b'{"parameters":{"expires":"2030-01-01T00:00:00+02:00"},"continues":true}\0',
        b'{"parameters":{"data_key":"AAAA"},"continues":true}\0',
        b'{"error":"io.nodeseal.Keys.Unavailable","parameters":{"reason":"x"}}\0',
        b" " * (varlink.MAX_MESSAGE + 1),
    ],
)
def test_a_message_that_makes_no_sense_ends_the_lease(path: Path, raw: bytes) -> None:
    def script(caller: Caller, _: Call) -> None:
        caller.reply(Reply(parameters=released(), continues=True))
        caller.send(raw)
        caller.wait_until_gone()

    assert ended(path, script) == "the agent's answer did not make sense"


def test_a_lease_ends_with_the_thread_that_listens_whatever_ends_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(agent_keys._Connection, "_wait_for_end", fail)
    lease = Lease(MODEL, bytearray(DATA_KEY))
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        with pytest.raises(MemoryError):
            agent_keys._Connection(path)._listen(lease)
    with pytest.raises(PolicyRefused):
        lease.data_key()


def test_the_connection_is_closed_although_whoever_is_told_of_the_end_fails(path: Path) -> None:
    def fail(_: str) -> None:
        raise BrokenPipeError

    lease = Lease(MODEL, bytearray(DATA_KEY))
    lease.watch(fail)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        connection = agent_keys._Connection(path)
        with pytest.raises(BrokenPipeError):
            connection._listen(lease)
    assert connection._socket.fileno() == -1
    with pytest.raises(PolicyRefused):
        lease.data_key()


def test_a_refusal_carries_every_finding(path: Path) -> None:
    findings = [
        {"id": code, "where": "llama", "expected": "a", "seen": "b", "remedy": "c"}
        for code in ("release.not-granted", "pcr.mismatch")
    ]
    findings[1]["event"] = "event 26"  # an older agent names none
    reply = Reply(error="io.nodeseal.Keys.Refused", parameters={"findings": findings})
    with FakeAgent(path, first_reply(reply)), pytest.raises(PolicyRefused) as caught:
        AgentKeys(path).open(SLOTS)
    assert [finding.event for finding in caught.value.findings] == ["", "event 26"]
    assert [finding.id for finding in caught.value.findings] == [FindingId.RELEASE_GRANT, FindingId.PCR_MISMATCH]
    assert caught.value.findings[0].where == "llama"


@pytest.mark.parametrize(
    ("why", "reply", "error"),
    [
        ("agent cannot", Reply(error="io.nodeseal.Keys.Unavailable", parameters={"reason": "no TPM"}), Unavailable),
        ("ended at once", Reply(parameters={"revoked": "x"}), Unavailable),
        ("does not continue", Reply(parameters=released()), Unavailable),
        (
            "refused without reason",
            Reply(error="io.nodeseal.Keys.Refused", parameters={"findings": []}),
            MalformedInput,
        ),
        (
            "refused for an unknown reason",
            Reply(
                error="io.nodeseal.Keys.Refused",
                parameters={"findings": [{"id": "x.y", "where": "", "expected": "", "seen": "", "remedy": ""}]},
            ),
            MalformedInput,
        ),
        ("another error", Reply(error="org.varlink.service.MethodNotFound"), MalformedInput),
        ("no key", Reply(parameters=released(data_key=None), continues=True), MalformedInput),
        ("a short key", Reply(parameters=released(data_key="AAAA"), continues=True), MalformedInput),
        ("a long key", Reply(parameters=released(data_key="A" * 44), continues=True), MalformedInput),
        ("no digest", Reply(parameters=released(model_digest=None), continues=True), MalformedInput),
        ("no lease", Reply(parameters=released(lease_id=None), continues=True), MalformedInput),
        ("no expiry", Reply(parameters=released(expires=None), continues=True), MalformedInput),
        ("an unknown key", Reply(parameters=released(debug="x"), continues=True), MalformedInput),
    ],
)
def test_a_first_reply_is_refused_when(path: Path, why: str, reply: Reply, error: type[NodesealError]) -> None:
    with FakeAgent(path, first_reply(reply)), pytest.raises(error):
        AgentKeys(path).open(SLOTS)
    assert why


def test_an_agent_that_hangs_up_without_an_answer_is_unavailable(path: Path) -> None:
    with FakeAgent(path, lambda _caller, _call: None), pytest.raises(Unavailable):
        AgentKeys(path).open(SLOTS)


def test_an_agent_that_never_answers_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_keys, "ANSWER_SECONDS", 0.2)
    with FakeAgent(path, lambda caller, _: caller.wait_until_gone()), pytest.raises(Unavailable, match="not answer"):
        AgentKeys(path).open(SLOTS)


def test_a_node_without_agent_is_told_what_to_do(path: Path) -> None:
    with pytest.raises(Unavailable, match="no agent answers") as caught:
        AgentKeys(path).open(SLOTS)
    assert "nodeseal-agent" in caught.value.remedy


def test_a_user_who_may_not_reach_the_socket_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(Unavailable, match="Permission denied") as caught:
        AgentKeys(path).open(SLOTS)
    assert "callers" in caught.value.remedy


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


def test_a_model_opens_through_the_agent(sample: Sample, path: Path) -> None:
    script = agent_script(sample, Caller.wait_until_gone)
    with FakeAgent(path, script), open_model(sample.directory, AgentKeys(path)) as model:
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS


def test_a_model_that_is_revoked_by_the_agent_reads_no_more(sample: Sample, path: Path) -> None:
    revoke, told = Event(), Queue[str]()

    def after(caller: Caller) -> None:
        assert revoke.wait(PATIENCE)
        caller.reply(Reply(parameters={"revoked": "node is untrusted"}))

    with (
        FakeAgent(path, agent_script(sample, after)),
        open_model(sample.directory, AgentKeys(path), on_revoked=told.put) as model,
    ):
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS
        revoke.set()
        assert told.get(timeout=PATIENCE) == "node is untrusted"
        with pytest.raises(PolicyRefused, match="node is untrusted"):
            model.read("model.safetensors")
