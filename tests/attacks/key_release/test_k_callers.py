"""Strangers at the agent's socket: the kernel says who connected, and the rules say who may ask.

Each process is right in all but one fact; it is refused, which is recorded, and no release is even asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.wire.varlink import KEYS_INTERFACE
from support.agents import Loader, eventually, loader, trusted
from support.hosts import REFUSED, Host, a_host, a_site, opens, records_of

STRANGER = 20_000
"""A user id that owns nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with a_site() as site, a_host(site) as running:
        yield running


def _digest_of(path: str) -> str:
    return hashlib.sha256(Path(path).resolve().read_bytes()).hexdigest()


ME = f"uid: {os.geteuid()}"
STRANGERS: dict[str, str] = {
    "another user": f"uid: {os.geteuid() + 1}",
    "another group": f"{ME}, gid: {os.getegid() + 1}",
    "another executable": f"{ME}, executable_sha256: {_digest_of('/bin/sh')}",
    "another unit": f"{ME}, unit: vllm.service",
}


def _restart_with(host: Host, *rules: str) -> None:
    """Give the agent other rules; none: an empty list."""
    host.agent.kill()
    lines = host.agent.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("callers:", "  - uid", "  - {"))]
    listed = [f"  - {{{rule}}}" for rule in rules]
    host.agent.config.write_text("\n".join((*kept, "callers:" if rules else "callers: []", *listed)) + "\n")
    host.agent.start()


def _refusals(host: Host) -> int:
    return host.agent.log.count("caller.refused")


async def _refused_and_recorded(host: Host, client: Loader) -> None:
    issued, recorded = records_of(host.verifier).issued, _refusals(host)
    reply = await host.ask(client)
    assert (reply.error, "caller.refused" in str(reply.parameters)) == (REFUSED, True)
    assert "data_key" not in reply.parameters
    assert records_of(host.verifier).issued == issued
    await eventually(lambda: _refusals(host) > recorded)  # the line of an earlier refusal may come late


@pytest.mark.parametrize("rule", STRANGERS.values(), ids=STRANGERS)
def test_k07_a_process_is_refused_when_the_rule_names(host: Host, rule: str) -> None:
    async def scenario() -> None:
        async with loader(host.agent) as client:
            await _refused_and_recorded(host, client)

    try:
        _restart_with(host, rule)
        asyncio.run(scenario())
    finally:
        _restart_with(host, ME)
    asyncio.run(trusted(host.agent))
    opens(host)


def test_k07_a_process_that_a_whole_rule_describes_may_ask(host: Host) -> None:
    executable = _digest_of(f"/proc/{os.getpid()}/exe")
    try:
        _restart_with(host, f"{ME}, gid: {os.getegid()}, executable_sha256: {executable}")
        asyncio.run(trusted(host.agent))
        opens(host)
    finally:
        _restart_with(host, ME)


def test_k07_without_rules_nobody_may_ask(host: Host) -> None:
    async def scenario() -> None:
        async with loader(host.agent) as client:
            await _refused_and_recorded(host, client)

    try:
        _restart_with(host)
        asyncio.run(scenario())
    finally:
        _restart_with(host, ME)


def _connected_as(uid: int, path: Path) -> socket.socket:
    """Connect as another user; the kernel remembers who connected."""
    connection = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        connection.connect(str(path))
    finally:
        os.seteuid(0)
    return connection


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as somebody else")
def test_k07_the_kernel_says_which_user_connected(host: Host) -> None:
    async def scenario() -> None:
        reader, writer = await asyncio.open_unix_connection(sock=_connected_as(STRANGER, host.agent.socket))
        client = Loader(reader, writer)
        status = await client.call(f"{KEYS_INTERFACE}.Status")
        assert status.error == REFUSED
        await _refused_and_recorded(host, client)
        writer.close()

    _restart_with(host, ME)
    asyncio.run(trusted(host.agent))
    host.agent.folder.chmod(0o711)
    asyncio.run(scenario())
    opens(host)
