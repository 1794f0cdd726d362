"""Network namespaces for tests with real traffic: a node, what is outside, and a pod behind the node.

They need root, ``ip``, ``nft`` and ``tc``, and a kernel with the netdev egress hook (Linux 5.16); :data:`MISSING` says
what is not there. The test's own thread enters a namespace to make sockets and processes in it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from nodeseal.agent.egress.limits import EgressConfig, EgressLimits
from nodeseal.egress.document import Level

_CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)
_SIZE: Final = 1400
ENCLAVE4, OUTSIDE4, ENCLAVE6, OUTSIDE6 = "10.77.0.2", "192.0.2.2", "fd77::2", "2001:db8::2"


def _missing() -> str:
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    tools = [tool for tool in ("ip", "nft", "tc") if shutil.which(tool) is None]
    if tools:
        return f"not installed: {', '.join(tools)}"
    probe = "table netdev probe { chain c { type filter hook egress device lo priority 0; }; }"
    done = subprocess.run(["unshare", "-n", "nft", probe], capture_output=True, check=False)
    return "" if done.returncode == 0 else f"no netdev egress hook: {done.stderr.decode()[:200]}"


MISSING: Final = _missing()


def require() -> None:
    """Skip where namespaces cannot be made, and say why."""
    if MISSING:
        pytest.skip(f"traffic in network namespaces: {MISSING}")


def run(*command: str) -> str:
    """Run a command in the namespace of this thread, and return its output."""
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=20).stdout


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Let this thread be in a namespace."""
    with open("/proc/thread-self/ns/net", "rb") as own, open(f"/run/netns/{name}", "rb") as other:  # noqa: PTH123
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(own.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class World:
    """A node with the uplink ``up0``, and the other end of the cable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node, self.outside = f"ns-node-{os.getpid()}", f"ns-out-{os.getpid()}"

    def limits(self, text: bytes) -> EgressLimits:
        """Return the limits of a document, opened on the node."""
        file = self.folder / "egress.yaml"
        file.write_bytes(b"format: nodeseal/egress/1\n" + text)
        file.chmod(0o644)
        with inside(self.node):
            return EgressLimits(EgressConfig(file=file, level=Level.NORMAL))

    def arrived(self) -> int:
        """Return the bytes that came out of the cable."""
        words = run("ip", "-n", self.outside, "-s", "-o", "link", "show", "out0").split("\\")
        return int(words[next(at for at, word in enumerate(words) if "RX:" in word) + 1].split()[0])

    def flood(self, address: str, *, size: int, flows: int = 1) -> float:
        """Send datagrams of at least ``size`` bytes in all, as fast as it goes; return the seconds that it took."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with ExitStack() as stack, inside(self.node):
            sockets = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(flows)]
            began, left = time.monotonic(), size
            while left > 0:
                for each in sockets:
                    each.sendto(bytes(_SIZE), (address, 9))
                    left -= _SIZE
            return time.monotonic() - began

    def send_frames(
        self, frame: bytes, count: int, protocol: int = 0, *, bypass: bool = False, device: str = "up0"
    ) -> None:
        """Send frames from a raw socket, which says they are of a protocol."""
        with inside(self.node), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            if bypass:
                raw.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
            for _ in range(count):
                try:
                    raw.sendto(frame, (device, protocol))
                except OSError:  # dropped on its way out
                    continue


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make a node and what is outside of it, and remove both."""
    require()
    made = World(folder)
    try:
        for name in (made.node, made.outside):
            run("ip", "netns", "add", name)
        _connect(made)
        yield made
    finally:
        for name in (made.node, made.outside):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _connect(made: World) -> None:
    cable = ("link", "add", "up0", "netns", made.node, "type", "veth", "peer", "name", "out0", "netns", made.outside)
    run("ip", *cable)
    for name, device, last in ((made.node, "up0", "1"), (made.outside, "out0", "2")):
        ip = ("ip", "-n", name)
        run(*ip, "link", "set", "lo", "up")
        run(*ip, "link", "set", device, "up")
        for prefix in (f"10.77.0.{last}/24", f"192.0.2.{last}/24"):
            run(*ip, "addr", "add", prefix, "dev", device)
        for prefix in (f"fd77::{last}/64", f"2001:db8::{last}/64"):
            run(*ip, "addr", "add", prefix, "dev", device, "nodad")
    address = run("ip", "-n", made.outside, "-o", "link", "show", "out0").partition("link/ether ")[2].split()[0]
    for neighbour in (ENCLAVE4, OUTSIDE4, ENCLAVE6, OUTSIDE6):
        run("ip", "-n", made.node, "neigh", "replace", neighbour, "lladdr", address, "dev", "up0")
    run("ip", "-n", made.node, "route", "add", "default", "via", OUTSIDE4)
