"""What systemd hears, in a socket of its kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nodeseal.service_manager import ServiceManager


@contextmanager
def systemd(place: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
        server.bind(f"\0{place[1:]}" if place.startswith("@") else place)
        server.setblocking(False)
        yield server


def heard(server: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(server.recv(4096).decode())
        except BlockingIOError:
            return lines


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract name"])
def test_systemd_hears_each_word_and_each_status_once(tmp_path: Path, *, abstract: bool) -> None:
    place = f"@nodeseal-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with systemd(place) as server:
        manager = ServiceManager({"NOTIFY_SOCKET": place})
        manager.status("trusted")
        manager.status("trusted")
        manager.ready()
        manager.status("stale\nREADY=1")
        manager.alive()
        manager.stopping()
        assert heard(server) == ["STATUS=trusted", "READY=1", "STATUS=stale\\nREADY=1", "STOPPING=1"]


def test_a_watchdog_hears_once_in_a_while(tmp_path: Path) -> None:
    with systemd(str(tmp_path / "n")) as server:
        watched = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "600000000"}
        for environment in (watched, {**watched, "WATCHDOG_PID": str(os.getpid())}, {**watched, "WATCHDOG_PID": "1"}):
            manager = ServiceManager(environment)
            manager.alive()
            manager.alive()
        assert heard(server) == ["WATCHDOG=1"] * 2


def test_nobody_hears_without_systemd_and_nothing_fails(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        manager = ServiceManager(environment)
        manager.ready()
        manager.alive()
