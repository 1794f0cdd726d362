"""Agents under test, in this process or as a process of their own, and loaders at their key sockets."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.agent.config import AgentConfig
from nodeseal.agent.evidence.host import HostFiles
from nodeseal.agent.identity import StateDirectory
from nodeseal.agent.local.callers import CallerRule
from nodeseal.agent.service import Agent
from nodeseal.documents import encode_base64
from nodeseal.ids import Digest
from nodeseal.logs import LogStyle
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.wire.varlink import KEYS_INTERFACE, Call, Frames, Reply, decode_reply, encode_call
from support import programs
from support.scripted_verifier import ScriptedVerifier, scripted_verifier

SLOT = {
    "key_id": "llama",
    "key_version": 1,
    "suite": "DHKEM(P-384, HKDF-SHA384) / HKDF-SHA384 / AES-256-GCM",
    "enc": encode_base64(bytes(97)),
    "wrapped": encode_base64(bytes(48)),
}
MODEL = Digest("ab" * 32)
PATIENCE_SECONDS = 60.0
"""How long tests wait for another process on a busy machine."""


def agent_config(folder: Path, tcti: str, script: ScriptedVerifier) -> AgentConfig:
    """Write an agent's files into ``folder`` and return its configuration, which lets this process open models."""
    (folder / "boot_id").write_text("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n")
    return AgentConfig(
        verifier=script.as_config(folder),
        tcti=tcti,
        tpm_timeout_seconds=20,
        state_directory=folder / "state",
        socket=folder / "keys.sock",
        callers=(CallerRule(uid=os.geteuid()),),
        on_revocation=(),
        revocation_timeout_seconds=10,
        host=host_files(folder, tcti),
        hostname="node.example",
        log_style=LogStyle.JSON,
    )


def host_files(folder: Path, tcti: str) -> HostFiles:
    """Return where an agent finds its host's facts: the logs beside the machine's TPM, the rest in ``folder``."""
    machine = Path(tcti.removeprefix("swtpm:path=")).parent
    return HostFiles(
        boot_id=folder / "boot_id",
        boot_log=machine / "boot-log",
        ima_log=machine / "binary_runtime_measurements",
        firmware=folder,
    )


@asynccontextmanager
async def running(config: AgentConfig) -> AsyncIterator[Agent]:
    """Run an agent in this process until the block ends."""
    agent, stop = Agent(config), asyncio.Event()
    task = asyncio.create_task(agent.run(stop))
    try:
        await eventually(lambda: task.done() or config.socket.is_socket())
        yield agent
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A machine, a scripted verifier, and the configuration of an agent between them."""

    machine: Machine
    verifier: ScriptedVerifier
    config: AgentConfig

    @property
    def epoch(self) -> bytes:
        """The lease epoch: PCR 23's value."""
        return self.machine.read_pcrs()[EPOCH_PCR]

    @property
    def boot_log(self) -> bytes:
        """The boot log as the machine's agent reads it."""
        return self.machine.boot_log_file.read_bytes()

    @property
    def ima_log(self) -> bytes:
        """The IMA log as the machine's agent reads it."""
        return self.machine.ima_log_file.read_bytes()


@asynccontextmanager
async def a_world(machine: Machine) -> AsyncIterator[World]:
    """Run a scripted verifier, and configure an agent on ``machine`` for it."""
    async with scripted_verifier() as verifier, short_folder() as folder:
        yield World(machine=machine, verifier=verifier, config=agent_config(folder, machine.tcti, verifier))


def play(machine: Machine, scenario: Callable[[World], Awaitable[None]]) -> None:
    """Run ``scenario`` in a world of its own."""

    async def whole() -> None:
        async with a_world(machine) as here:
            await scenario(here)

    asyncio.run(whole())


def _host_settings(folder: Path, tcti: str) -> str:
    host = host_files(folder, tcti)
    return (
        f'boot_id_file: "{host.boot_id}"\nfirmware_directory: "{host.firmware}"\n'
        f'boot_log: "{host.boot_log}"\nima_log: "{host.ima_log}"\n'
    )


class AgentProcess:
    """Process that runs ``nodeseal-agent run``.

    Attributes:
        folder: its configuration, state, socket and log.
        socket: the key socket.
    """

    def __init__(self, folder: Path, tcti: str, verifier: VerifierConfig, *, on_revocation: str = "") -> None:
        self.folder = folder
        self.socket = folder / "keys.sock"
        self._process: programs.Program | None = None
        (folder / "boot_id").write_text("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n")
        self.config.write_text(
            f'verifier: {{address: "{verifier.address}", enrol_address: "{verifier.enrol_address}", '
            f'ca_file: "{verifier.ca_file}"}}\n'
            f'tcti: "{tcti}"\nstate_directory: state\nsocket: keys.sock\n{_host_settings(folder, tcti)}'
            f"callers:\n  - uid: {os.geteuid()}\n"
            + (f'on_revocation:\n  - [/bin/sh, -c, "{on_revocation}"]\n' if on_revocation else "")
        )

    @property
    def config(self) -> Path:
        return self.folder / "agent.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def node_id(self) -> str:
        """The id that the verifier gave this node; empty before enrolment."""
        identity = StateDirectory(self.folder / "state").identity()
        return identity.node_id if identity else ""

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.start_silent(log.fileno())

    def start_silent(self, output: int) -> None:
        """Start it, with its log going to the descriptor ``output``."""
        arguments = "run", "--config", str(self.config)
        self._process = programs.start(programs.AGENT, *arguments, output=output, folder=self.folder)

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)


@contextmanager
def agent_process(tcti: str, verifier: VerifierConfig, *, on_revocation: str = "") -> Iterator[AgentProcess]:
    """Run an agent as a process; its folder goes with it."""
    with tempfile.TemporaryDirectory(prefix="agent") as folder:
        agent = AgentProcess(Path(folder), tcti, verifier, on_revocation=on_revocation)
        try:
            agent.start()
            yield agent
        finally:
            agent.kill()


class Loader:
    """A connection to the key socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = Frames()
        self._replies: list[Reply] = []

    async def call(self, method: str, parameters: dict[str, object] | None = None, *, more: bool = False) -> Reply:
        """Call a method and return its first reply."""
        self.writer.write(encode_call(Call(method=method, parameters=parameters or {}, more=more)))
        return await self.reply()

    async def open(self, model: Digest = MODEL) -> Reply:
        """Call ``Open`` and return the first reply."""
        return await self.call(f"{KEYS_INTERFACE}.Open", {"model_digest": model, "slots": [SLOT]}, more=True)

    async def reply(self) -> Reply:
        """Return the next reply.

        Raises:
            EOFError: the agent closed the connection.
        """
        while not self._replies:
            async with asyncio.timeout(30):  # before Python 3.12, wait_for may swallow the end of a caller's task
                data = await self._reader.read(65536)
            if not data:
                raise EOFError
            self._replies.extend(map(decode_reply, self._frames.feed(data)))
        return self._replies.pop(0)

    async def revoked(self) -> str:
        """Skip renewals and return the reason of the lease's end."""
        return str((await self.end())["revoked"])

    async def end(self) -> dict[str, object]:
        """Skip renewals and return all that the last reply says."""
        while True:
            reply = await self.reply()
            if "revoked" in reply.parameters:
                assert not reply.continues
                return dict(reply.parameters)


@asynccontextmanager
async def loader(agent: AgentConfig | AgentProcess) -> AsyncIterator[Loader]:
    """Connect to an agent's key socket, waiting until somebody listens there."""
    reader, writer = await _connected(agent.socket)
    try:
        yield Loader(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def heard(agent: AgentConfig | AgentProcess, condition: Callable[[Mapping[str, object]], bool]) -> None:
    """Wait until an agent's status fulfils a condition.

    Raises:
        AssertionError: it does not in time.
    """
    async with loader(agent) as client:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition(status := (await client.call(f"{KEYS_INTERFACE}.Status")).parameters):
            assert time.monotonic() < end, f"not in time: {status}"
            await asyncio.sleep(0.02)


async def trusted(agent: AgentConfig | AgentProcess) -> None:
    """Wait until an agent has heard that it is trusted."""
    await heard(agent, lambda status: "trusted_until" in status)


async def _connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except OSError as error:
            if time.monotonic() > end:
                raise AssertionError(f"nobody listens at {path}") from error
            await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true.

    Raises:
        AssertionError: it does not become true in time.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def short_folder() -> AsyncIterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="agent") as folder:
        yield Path(folder)
