"""What a service tells systemd: ready, status, alive, stopping (sd_notify(3)), in datagrams to ``$NOTIFY_SOCKET``.

Without systemd nothing is sent. Nothing here waits or fails: what systemd does not take is lost.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from nodeseal.inert import inert

_SHARE: Final = 3
"""Signs of life in one watchdog interval."""


class ServiceManager:
    """The manager that started this process, if it wants to hear from it.

    Args:
        environment: of the process.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        place = environment.get("NOTIFY_SOCKET", "")
        self._place: Final = f"\0{place[1:]}" if place.startswith("@") else place
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._pause: Final = int(microseconds) / 1e6 / _SHARE if watched and microseconds.isdecimal() else 0.0
        self._due = 0.0
        self._status = ""

    def ready(self) -> None:
        """Say that the service has started."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say what the service does, for ``systemctl status``, if it is news."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={inert(text)}")

    def alive(self) -> None:
        """Say that the loop that matters goes round; as often as the watchdog needs it, however often it is called."""
        now = time.monotonic()
        if self._pause and now >= self._due:
            self._due = now + self._pause
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if not self._place:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(line.encode(), self._place)
