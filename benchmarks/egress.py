"""Egress limits on a cable between two network namespaces: what claims cost, and how exactly the rate holds.

Needs root and nftables. The namespaces belong to this process and one that it starts, and end with them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.harness import PAIRS, Missing, Result, rate
from nodeseal.agent.egress.limits import EgressConfig, EgressLimits
from nodeseal.agent.egress.netlink import ROUTE, Netlink
from nodeseal.agent.egress.routing import read_links
from nodeseal.egress.document import Level

_CLONE_NEWNET: Final = 0x40000000
_RATE, _BURST = 2_000_000, 65_536
_DOCUMENT: Final = f"""\
format: nodeseal/egress/1
enclave: ["10.77.0.0/24"]
uplinks: ["up0"]
normal: {{rate: {_RATE}, burst: {_BURST}, volume: 1000000000000}}
tight: {{rate: {_RATE}, burst: {_BURST}, volume: 1000000000000}}
"""
_OUTSIDE: Final = ("192.0.2.2", 9)
_SECONDS: Final = 2.0
_DATAGRAM: Final = bytes(1400)


def claims_us() -> Result:
    """Return the processor time of the claims of a steady round, in microseconds."""
    with _limits() as limits:
        runs = tuple(1e6 / rate(lambda: _claim(limits)) for _ in range(PAIRS))
    return Result.of(
        runs, unit="µs", against="", note="generation, counters twice, bytes of one uplink; no nft, no walk"
    )


def rate_error() -> Result:
    """Return the bytes that left over what the limit predicts, for one flow and eight in turn."""
    runs = []
    for number in range(PAIRS - 1):
        with _limits():
            runs.append(_flood(8 if number % 2 else 1))
    one, eight = runs[::2], runs[1::2]
    note = (
        f"one flow {min(one):.3f} to {max(one):.3f}, eight {min(eight):.3f} to {max(eight):.3f}; UDP, no large packets"
    )
    return Result.of(tuple(runs), against="rate * (seconds + 1) + burst", note=note)


def _claim(limits: EgressLimits) -> int:
    limits.claims()
    return 1


def _flood(flows: int) -> float:
    before, began = _sent(), time.monotonic()
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
    while time.monotonic() - began < _SECONDS:
        for each in sockets:
            each.sendto(_DATAGRAM, _OUTSIDE)
    seconds = time.monotonic() - began
    for each in sockets:
        each.close()
    return (_sent() - before) / (_RATE * (seconds + 1) + _BURST)


def _sent() -> int:
    with Netlink(ROUTE) as netlink:
        return next(device.sent for device in read_links(netlink).devices if device.name == "up0")


@contextmanager
def _limits() -> Iterator[EgressLimits]:
    """Put this process into a namespace of its own, with a cable to another one and limits on it."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "nft")):
        raise Missing("needs root, iproute2 and nftables")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise Missing(f"unshare: {os.strerror(ctypes.get_errno())}")
    other = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)  # noqa: S607 - of this machine
    try:
        _connect(other.pid)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "egress.yaml")
            file.write_text(_DOCUMENT)
            with closing(EgressLimits(EgressConfig(file=file, level=Level.NORMAL))) as limits:
                limits.install()
                yield limits
    finally:
        other.communicate()


def _connect(other: int) -> None:
    own, deadline = Path("/proc/thread-self/ns/net").readlink(), time.monotonic() + 10
    while Path(f"/proc/{other}/ns/net").readlink() == own and time.monotonic() < deadline:
        time.sleep(0.01)
    _ip("link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", str(other))
    _ip("addr", "add", "192.0.2.1/24", "dev", "up0")
    _ip("link", "set", "up0", "up")
    _ip("neigh", "replace", _OUTSIDE[0], "lladdr", "02:00:00:00:00:02", "dev", "up0")
    enter = ("nsenter", f"--net=/proc/{other}/ns/net")
    subprocess.run([*enter, "ip", "link", "set", "out0", "up"], check=True)  # noqa: S603 - of this machine
    time.sleep(0.2)  # until the cable carries


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S603, S607 - of this machine
