"""One swtpm process: its TPM command channel, its control channel and its end.

Both channels are socket pairs that the child inherits, so no other process can connect. swtpm ends by itself when its
owner is gone, however that happened (swtpm(8): ``--fd`` implies ``--terminate``).
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Final

from nodeseal.errors import Unavailable
from nodeseal.swtpm import commands
from nodeseal.tpm.buffer import u8, u32

_CMD_INIT: Final = 0x02
_CMD_SET_LOCALITY: Final = 0x05
_ANSWER_SECONDS: Final = 60
"""Time for an answer: a software TPM may search long for the primes of an RSA key."""
_END_SECONDS: Final = 5


class TpmProcess:
    """A running swtpm with the state in ``state``. swtpm's ``tpm_ioctl.h`` defines the control commands.

    Raises:
        Unavailable: swtpm is not installed or does not answer.
    """

    def __init__(self, state: Path, log: Path) -> None:
        if shutil.which("swtpm") is None:
            raise Unavailable("swtpm is not installed", remedy="install the package swtpm")
        self._lock = threading.Lock()
        self._tpm, tpm = socket.socketpair()
        self._control, control = socket.socketpair()
        self._tpm.settimeout(_ANSWER_SECONDS)
        self._control.settimeout(_ANSWER_SECONDS)
        with tpm, control, log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 # no shell; only paths of the owner's are in it
                _arguments(state, tpm.fileno(), control.fileno()),
                pass_fds=(tpm.fileno(), control.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def transact(self, command: bytes) -> bytes:
        """Send one command and return its response.

        Raises:
            Unavailable: swtpm is gone.
        """
        with self._lock:
            try:
                self._tpm.sendall(command)
                return read_response(self._tpm)
            except OSError as error:
                raise Unavailable(f"software TPM: {error}") from error

    def reset(self, locality: int = 0) -> None:
        """Turn power off and on (_TPM_Init) and send TPM2_Startup(CLEAR) from ``locality``."""
        self._instruct(u32(_CMD_INIT) + u32(0))
        self.startup(locality)

    def startup(self, locality: int = 0) -> None:
        """Send TPM2_Startup(CLEAR) from ``locality``. From locality 3, PCR 0 starts at 3."""
        self._instruct(u32(_CMD_SET_LOCALITY) + u8(locality))
        commands.body(self.transact(commands.startup()), "TPM2_Startup")
        self._instruct(u32(_CMD_SET_LOCALITY) + u8(0))

    def close(self) -> None:
        """Close the channels, which ends swtpm, and wait for its end."""
        self._tpm.close()
        self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End swtpm at once, without TPM2_Shutdown: a power cut."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._tpm.close()
            self._control.close()

    def _instruct(self, message: bytes) -> None:
        with self._lock:
            try:
                self._control.sendall(message)
                answer = _receive(self._control, 4)
            except OSError as error:
                raise Unavailable(f"software TPM: {error}") from error
        if answer != bytes(4):
            raise Unavailable(f"software TPM: control command 0x{message[:4].hex()} failed with 0x{answer.hex()}")


def read_response(tpm: socket.socket) -> bytes:
    """Read one response from a TPM's channel.

    Raises:
        OSError: the other end is gone.
    """
    header = _receive(tpm, commands.HEADER_SIZE)
    return header + _receive(tpm, int.from_bytes(header[2:6], "big") - len(header))


def _arguments(state: Path, tpm: int, control: int) -> list[str]:
    return [
        *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
        *("--fd", str(tpm), "--ctrl", f"type=unixio,clientfd={control}", "--flags", "not-need-init"),
    ]


def _receive(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise ConnectionError("swtpm ended")
        parts += part
    return bytes(parts)
