"""What would be installed on this machine, and which of its present connections that would limit. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

from nodeseal.agent.egress.host import read_document
from nodeseal.agent.egress.netlink import ROUTE, Netlink
from nodeseal.agent.egress.routing import read_links, read_routed
from nodeseal.egress.document import EgressDocument, Level
from nodeseal.egress.table import render_table
from nodeseal.egress.uplinks import Hooks, Problem, Trait, hooks_of

_FILES: Final = ("tcp", "tcp6", "udp", "udp6")
_MAX_CONNECTIONS: Final = 100_000
_WORD: Final = 8
"""/proc/net prints addresses in words of four bytes, each as the machine writes numbers (proc(5))."""
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Remote(NamedTuple):
    """The other end of a connection of this machine."""

    protocol: str
    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.address} port {self.port}"


class EgressPlan(NamedTuple):
    """A plan in words.

    Attributes:
        lines: the table, the problems, the connections.
        problems: devices that contradict the document.
    """

    lines: tuple[str, ...]
    problems: tuple[Problem, ...]


def make_plan(file: Path, level: Level, proc: Path = Path("/proc/net")) -> EgressPlan:
    """Return what would be installed from a file.

    Raises:
        MalformedInput: the file is wrong, or somebody else than root may change it.
        Unavailable: file or kernel cannot be read.
    """
    document = read_document(file)
    with Netlink(ROUTE) as routing:
        links, routed = read_links(routing), read_routed(routing)
    devices = [replace(each, traits=each.traits | routed.get(each.index, Trait(0))) for each in links.devices]
    hooks = hooks_of(document, devices)
    return EgressPlan(tuple(_words(document, level, hooks, proc)), hooks.problems)


def limited(document: EgressDocument, proc: Path) -> tuple[Remote, ...]:
    """Return the other ends of present connections that are neither in the enclave nor on this machine, sorted."""
    found = {remote for name in _FILES for remote in _remotes(proc / name)}
    return tuple(sorted((each for each in found if not _is_free(document, each)), key=str))


def _words(document: EgressDocument, level: Level, hooks: Hooks, proc: Path) -> Iterator[str]:
    yield f"# document {document.digest}, level {level}"
    yield from render_table(document, level, hooks.devices).decode().splitlines()
    for problem in hooks.problems:
        yield f"# PROBLEM {problem.device}: expected {problem.expected}, seen {problem.seen}"
    remotes = limited(document, proc)
    yield f"# {len(remotes)} present connections would be limited:"
    yield from (f"#   {remote}" for remote in remotes)


def _remotes(file: Path) -> Iterator[Remote]:
    with suppress(OSError), file.open("r", encoding="ascii") as lines:
        next(lines, None)
        for _, line in zip(range(_MAX_CONNECTIONS), lines, strict=False):
            words = line.split()
            address, _, port = words[2].partition(":")
            if int(port, 16):
                yield Remote(file.name.rstrip("6"), _address(address), int(port, 16))


def _address(text: str) -> IPv4Address | IPv6Address:
    words = (text[at : at + _WORD] for at in range(0, len(text), _WORD))
    raw = b"".join(bytes.fromhex(word)[::-1] for word in words)
    if len(raw) == len(_MAPPED) + 4 and raw.startswith(_MAPPED):
        raw = raw[len(_MAPPED) :]
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)  # noqa: PLR2004 - bytes of an IPv4 address


def _is_free(document: EgressDocument, remote: Remote) -> bool:
    return remote.address.is_loopback or any(remote.address in prefix for prefix in document.enclave)
