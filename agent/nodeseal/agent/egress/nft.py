"""Runs the program nft (nft(8)): a fixed path, no shell, an empty environment, bounded time and output."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path
from typing import Final

from nodeseal.egress.listing import MAX_LISTING
from nodeseal.egress.table import FAMILY, TABLE
from nodeseal.errors import Unavailable

OLDEST: Final = (1, 0, 6)
"""The oldest version whose table was measured."""
_PLACES: Final = (Path("/usr/sbin/nft"), Path("/sbin/nft"), Path("/usr/bin/nft"))
_SECONDS: Final = 20.0
_VERSION: Final = re.compile(rb"nftables v([0-9]+)\.([0-9]+)\.([0-9]+)")
_MAX_SHOWN: Final = 300
_INSTALL: Final = "install nftables 1.0.6 or later"


class Nft:
    """The program nft of this machine.

    Raises:
        Unavailable: there is none, or it is too old; from every method also: it fails.
    """

    def __init__(self) -> None:
        self._path: Final = next((path for path in _PLACES if path.exists()), None)
        if self._path is None:
            raise Unavailable("nft: no such program in /usr/sbin, /sbin or /usr/bin", remedy=_INSTALL)
        said = self._run("--version")
        version = _VERSION.match(said)
        if version is None or tuple(map(int, version.groups())) < OLDEST:
            raise Unavailable(f"{self._path}: {_shown(said)} is too old", remedy=_INSTALL)

    def replace(self, commands: bytes) -> None:
        """Run commands in one transaction: all of them take effect, or none."""
        self._run("-f", "-", given=commands)

    def listing(self) -> bytes | None:
        """Return the JSON of our table; None: the kernel has none."""
        if f"table {FAMILY} {TABLE}\n".encode() not in self._run("list", "tables", FAMILY):
            return None
        return self._run("-j", "list", "table", FAMILY, TABLE)

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed path, and arguments of this module
                [str(self._path), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"LC_ALL": "C"},
                cwd="/",
            )
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror or error}", remedy=_INSTALL) from error
        with process:
            timer = threading.Timer(_SECONDS, process.kill)
            timer.start()
            try:
                return self._finish(process, given)
            finally:
                timer.cancel()
                process.kill()

    def _finish(self, process: subprocess.Popen[bytes], given: bytes) -> bytes:
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(given)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended; its output says why
        said = process.stdout.read(MAX_LISTING + 1)
        if len(said) > MAX_LISTING:
            raise Unavailable(f"{self._path}: more than {MAX_LISTING} bytes of output")
        if process.wait(_SECONDS) != 0:
            raise Unavailable(f"{self._path}: {_shown(said) or 'it failed'}")
        return said


def _shown(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[:_MAX_SHOWN]
