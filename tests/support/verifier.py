"""A real verifier on loopback, and people who operate it.

Everything goes through the public API: the process ``nodeseal-verifier run``, mutual TLS and gRPC. A test is a
coroutine under :func:`asyncio.run`::

    with a_verifier(tmp_path) as verifier:
        node = a_node(verifier)
        await node.enrol()
        async with verifier.person() as admin, node.attesting() as stream:
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.ids import PersonId
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.v1 import (
    admin_pb2_grpc,
    attestation_pb2,
    attestation_pb2_grpc,
    enrollment_pb2_grpc,
    governance_pb2_grpc,
    key_release_pb2_grpc,
    people_pb2_grpc,
)
from nodeseal.verifier.ledger.log import load_mac_key
from nodeseal.verifier.main import GRPC_VARIABLES
from nodeseal.verifier.people.persons import Newcomer, People
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import opened_engine
from support import programs
from support.log import read_log
from support.replay import replay

TRUST_DOMAIN = "test.example"
FAST: Mapping[str, object] = {"interval_seconds": 1, "trust_seconds": 30, "answer_within_seconds": 5}
_READY_SECONDS = 90.0
_TESTS = (str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")]))
_LOCAL_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]


class RunningVerifier:
    """A verifier's folder, and the process that serves it.

    Attributes:
        folder: as ``init`` made it.
        vendor: the only TPM vendor it trusts.
        listen: address for nodes and people.
        listen_enrol: address for enrolment.
        program: module that is run in place of the verifier's, and what comes before ``run`` in its arguments; empty:
            the verifier's.
        tampered: whether a test has changed the database behind its back, so that its acts explain it no longer.
    """

    def __init__(self, folder: Path, vendor: TpmVendor) -> None:
        self.folder = folder
        self.vendor = vendor
        self.listen = self.listen_enrol = ""
        self.tampered = False
        self.program: tuple[str, ...] = ()
        self._process: programs.Program | subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()

    @property
    def process(self) -> programs.Program | subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start the process and wait until it is ready; a restart keeps the ports."""
        log = self.folder / "log"
        seen = len(self._lines())
        with log.open("ab") as stream:
            self._start(stream.fileno())
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            ready = [line for line in self._lines()[seen:] if '"event": "ready"' in line]
            if ready:
                addresses = json.loads(ready[0])
                self.listen, self.listen_enrol = addresses["listen"], addresses["listen_enrol"]
                self._keep_ports()
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the verifier did not start: {log.read_text()}")

    def start_silent(self, output: int) -> None:
        """Start a process that has run before, with its log going to the descriptor ``output``."""
        self._start(output)
        host, _, port = self.listen.rpartition(":")
        end = time.monotonic() + _READY_SECONDS
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection((host, int(port)), timeout=20):
                return
            assert self.process.poll() is None, "the verifier has ended"
            assert time.monotonic() < end, "the verifier does not listen"
            time.sleep(0.02)

    def _start(self, output: int) -> None:
        arguments = "run", "--config", str(self.folder / "verifier.yaml")
        if not self.program:
            self._process = programs.start(programs.VERIFIER, *arguments, output=output, loaded_with=GRPC_VARIABLES)
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_TESTS)},
        )

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=20)

    def log(self) -> list[dict[str, Any]]:
        """Return its log lines; each must be one JSON document."""
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def records(self) -> list[dict[str, Any]]:
        """Return the log's acts straight from the database, oldest first."""
        return [act.plain for act in read_log(self.folder / "verifier.sqlite")]

    def actions(self, subject: str) -> list[str]:
        """Return the kinds of the acts about one subject, oldest first."""
        return [record["action"] for record in self.records() if record["subject"] == subject]

    def authority(self) -> CertificateAuthority:
        return CertificateAuthority.load(self.ca, (self.folder / "ca.key").read_bytes())

    def add_person(self, name: str, *roles: Role) -> Path:
        """Give a person roles and a client; return its folder."""
        folder = self.folder / "persons" / name
        newcomer = Newcomer(
            name=PersonId(name),
            roles=frozenset(roles),
            trust_domain=TRUST_DOMAIN,
            verifier=self.listen,
            actor="test",
        )
        with opened_engine(self.folder / "verifier.sqlite") as engine:
            mac_key = load_mac_key(self.folder / "acts.key")
            People(engine=engine, mac_key=mac_key, at=datetime.now(UTC)).add(self.authority(), newcomer, folder)
        return folder

    def renew_person(self, name: str) -> Path:
        """Give a person a new client on the host, which ends the one before; return its folder."""
        folder = self.folder / "persons" / f"{name}-renewed"
        newcomer = Newcomer(
            name=PersonId(name), roles=frozenset(), trust_domain=TRUST_DOMAIN, verifier=self.listen, actor="test"
        )
        with opened_engine(self.folder / "verifier.sqlite") as engine:
            mac_key = load_mac_key(self.folder / "acts.key")
            People(engine=engine, mac_key=mac_key, at=datetime.now(UTC)).renew(self.authority(), newcomer, folder)
        return folder

    def remove_person(self, name: str) -> None:
        """Take a person's access away."""
        with opened_engine(self.folder / "verifier.sqlite") as engine:
            mac_key = load_mac_key(self.folder / "acts.key")
            People(engine=engine, mac_key=mac_key, at=datetime.now(UTC)).remove(PersonId(name), "test")

    @asynccontextmanager
    async def person(self, name: str = "admin") -> AsyncIterator[Stubs]:
        """Connect as a person."""
        folder = self.folder / "persons" / name
        async with self.channel((folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes()) as channel:
            yield Stubs(channel)

    def channel(self, key: bytes, chain: bytes) -> aio.Channel:
        """Return a channel to ``listen`` with a client certificate (PEM)."""
        credentials = grpc.ssl_channel_credentials(self.ca, key, chain)
        return aio.secure_channel(self.listen, credentials, _LOCAL_OPTIONS)

    def enrolment_channel(self) -> aio.Channel:
        """Return a channel to ``listen_enrol``."""
        return aio.secure_channel(self.listen_enrol, grpc.ssl_channel_credentials(self.ca), _LOCAL_OPTIONS)

    def _keep_ports(self) -> None:
        path = self.folder / "verifier.yaml"
        text = path.read_text()
        text = text.replace('listen: "127.0.0.1:0"', f'listen: "{self.listen}"')
        path.write_text(text.replace('listen_enrol: "127.0.0.1:0"', f'listen_enrol: "{self.listen_enrol}"'))


class Stubs:
    """All services over one channel."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.nodes = admin_pb2_grpc.NodesStub(channel)
        self.goldens = admin_pb2_grpc.GoldensStub(channel)
        self.keys = admin_pb2_grpc.KeysStub(channel)
        self.models = admin_pb2_grpc.ModelsStub(channel)
        self.audit = admin_pb2_grpc.AuditStub(channel)
        self.people = people_pb2_grpc.PeopleStub(channel)
        self.rules = governance_pb2_grpc.RulesStub(channel)
        self.proposals = governance_pb2_grpc.ProposalsStub(channel)
        self.attestation = attestation_pb2_grpc.AttestationStub(channel)
        self.release = key_release_pb2_grpc.KeyReleaseStub(channel)
        self.enrollment = enrollment_pb2_grpc.EnrollmentStub(channel)


@contextmanager
def a_verifier(
    folder: Path, vendor: TpmVendor | None = None, *, start: bool = True, **attestation: object
) -> Iterator[RunningVerifier]:
    """Set a verifier up below ``folder`` and run it; ``attestation`` overrides :data:`FAST`.

    At the end, rows and memory made anew from its acts must be what it has.
    """
    vendor = vendor or TpmVendor.create(folder / "vendor")
    verifier = RunningVerifier(folder / "verifier", vendor)
    plan = SetupPlan(
        trust_domain=TRUST_DOMAIN,
        server_names=("localhost", "127.0.0.1"),
        listen="127.0.0.1:0",
        listen_enrol="127.0.0.1:0",
        ek_roots=vendor.roots_dir,
        admin=PersonId("admin"),
        own=OwnCertificates(),
    )
    initialise(verifier.folder, plan, datetime.now(UTC))
    set_config(verifier, **{**FAST, **attestation})
    try:
        if start:
            verifier.start()
        yield verifier
    finally:
        verifier.kill()
    if not verifier.tampered:
        replay(verifier.folder / "verifier.sqlite", folder / "replayed.sqlite")


def set_config(verifier: RunningVerifier, **values: object) -> None:
    """Change integers in ``verifier.yaml`` by key; the verifier reads them when it starts."""
    path = verifier.folder / "verifier.yaml"
    lines = path.read_text().splitlines()
    for key, value in values.items():
        places = [number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        assert len(places) == 1, f"{key} is in verifier.yaml {len(places)} times"
        indent = lines[places[0]][: len(lines[places[0]]) - len(lines[places[0]].lstrip())]
        lines[places[0]] = f"{indent}{key}: {value}"
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call failed.

    Attributes:
        code: gRPC status.
        details: its text.
        findings: ids of the findings that came with it.
    """

    code: grpc.StatusCode
    details: str
    findings: tuple[str, ...]


def refusal_of(error: grpc.RpcError) -> Refusal:
    """Return the refusal in the error of a call, synchronous or not."""
    assert isinstance(error, (aio.AioRpcError, grpc.Call))
    found = [
        value
        for key, value in error.trailing_metadata() or ()
        if key == "nodeseal-findings-bin" and isinstance(value, bytes)
    ]
    findings = attestation_pb2.Verdict.FromString(found[0]).findings if found else ()
    return Refusal(error.code(), error.details() or "", tuple(finding.id for finding in findings))


async def received(call: Any) -> Any:
    """Return the next message of a stream; a stream that ends in order is an error here."""
    message = await call.read()
    if message is aio.EOF:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            raise AssertionError("the verifier ended the stream without a message")
        raise aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())
    return message


async def refused(attempt: Awaitable[object]) -> Refusal:
    """Wait for a call that must fail, and return the refusal."""
    with pytest.raises(aio.AioRpcError) as caught:
        await attempt
    return refusal_of(caught.value)
