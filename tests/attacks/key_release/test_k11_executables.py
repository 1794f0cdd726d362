"""A local process with a permitted uid that reconnects in a loop, with an executable of a gigabyte.

Where no rule needs its executable, nothing of it is read. Where one does, it is read beside the agent's own work: a
lease goes on being renewed, round after round, while the process does its worst.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodeseal.wire.varlink import KEYS_INTERFACE
from support.agents import eventually, loader, trusted
from support.hosts import REFUSED, Host, a_host, a_site

HUGE = 1 << 30
"""Bytes: the largest executable that is hashed."""
RENEWALS = 4
ME = f"uid: {os.geteuid()}"
PYTHON = Path(sys.executable).resolve()
HOSTILE = """
import os, socket, sys
path, counter, touched = sys.argv[1:]
for number in range(1, 1_000_000):
    if touched:
        os.utime(touched)  # so that no digest of it is worth remembering
    held = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for each in held:
        each.settimeout(20)
        try:
            each.connect(path)
            each.sendall(b'{"method":"io.nodeseal.Keys.Status"}\\0')
        except OSError:
            pass
    for each in held:
        try:
            each.recv(1)
        except OSError:
            pass
        each.close()
    with open(counter, "w") as file:
        file.write(str(number))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with a_site(trust_seconds=12, answer_within_seconds=3) as site, a_host(site) as running:
        yield running


def _restart_with(host: Host, *rules: str) -> None:
    host.agent.kill()
    lines = host.agent.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("callers:", "  - uid", "  - {"))]
    host.agent.config.write_text("\n".join((*kept, "callers:", *(f"  - {{{rule}}}" for rule in rules))) + "\n")
    host.agent.start()
    asyncio.run(trusted(host.agent))


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@asynccontextmanager
async def _hostile(host: Host, folder: Path, *, changing: bool) -> AsyncIterator[Path]:
    """Run a process with an executable of a gigabyte, mostly a hole; yield the file in which it counts its attempts."""
    program, counter = folder / "huge", folder / "attempts"
    shutil.copy(PYTHON, program)
    os.truncate(program, HUGE)
    home = {"PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib"}
    command = [program, "-c", HOSTILE, host.agent.socket, counter, program if changing else ""]
    with subprocess.Popen(list(map(str, command)), env=home) as process:  # noqa: ASYNC220 - returns at once
        try:
            await eventually(lambda: counter.exists() and counter.read_text() not in ("", "0"))
            yield counter
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("changing", [False, True], ids=["stays as it is", "changes all the time"])
def test_k11_a_process_with_a_huge_executable_ends_no_lease_and_delays_no_round(
    host: Host,
    tmp_path: Path,
    changing: bool,  # noqa: FBT001 - a case
) -> None:
    async def scenario() -> None:
        async with host.opened() as client, _hostile(host, tmp_path, changing=changing) as counter:
            for _ in range(RENEWALS):  # each comes of a round in time
                reply = await client.reply()
                assert "revoked" not in reply.parameters
            before = int(counter.read_text() or 0)
            await eventually(lambda: int(counter.read_text() or 0) > before)
            await client.reply()

    _restart_with(host, f"{ME}, executable_sha256: {_digest_of(PYTHON)}")
    asyncio.run(scenario())
    assert host.actions == []


def test_k11_a_process_of_another_unit_is_refused_without_hashing(host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _hostile(host, tmp_path, changing=True), loader(host.agent) as client:
            reply = await client.call(
                f"{KEYS_INTERFACE}.Open", {"model_digest": host.model.digest, "slots": []}, more=True
            )
            assert reply.error == REFUSED
            assert "executable unknown" in str(reply.parameters)

    digest = _digest_of(PYTHON)
    _restart_with(
        host, f"{ME}, executable_sha256: {digest}, unit: vllm.service", f"uid: 1, executable_sha256: {digest}"
    )
    asyncio.run(scenario())
