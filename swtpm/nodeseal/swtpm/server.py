"""The sockets of a machine's TPM, for ``swtpm:path=S``, for any number of processes at once.

A TCTI of tpm2-tss opens a new connection for every command. So a client is not a connection but the process at its
other end (SO_PEERCRED), and its objects and sessions end with that process (pidfd_open(2)). The control socket
``S.ctrl`` answers only the one request that clients need, locality 0: power, reset and localities belong to the
owner.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.swtpm.commands import HEADER_SIZE, MAX_COMMAND
from nodeseal.swtpm.resource_manager import ResourceManager
from nodeseal.tpm.buffer import u32

_CMD_SET_LOCALITY: Final = 0x05
_TPM_SUCCESS, _TPM_FAIL, _TPM_BAD_LOCALITY = 0, 9, 0x3D
_MAX_CONTROL: Final = 64
_MAX_SOCKET_PATH: Final = 100
"""Bytes that fit sockaddr_un (108) with ``.ctrl`` behind them."""
_BACKLOG: Final = 64
_PEER: Final = struct.Struct("3i")
_SEND_SECONDS: Final = 5


class TpmServer:
    """Server of a TPM at ``path`` and ``path.ctrl``, in its own thread, until :meth:`close`.

    Raises:
        Unavailable: ``path`` is too long for a socket.
    """

    def __init__(self, path: Path, manager: ResourceManager) -> None:
        self._paths = (path, path.with_name(f"{path.name}.ctrl"))
        tpm, control = map(_listen, self._paths)
        self._manager = manager
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._pidfds: dict[int, int] = {}
        self._wake, wake = socket.socketpair()
        self._register(wake, lambda: None)
        self._register(tpm, lambda: self._accept(tpm, self._serve_commands))
        self._register(control, lambda: self._accept(control, self._serve_control))
        self._open = True
        self._thread = threading.Thread(target=self._run, name=f"tpm {path.parent.name}", daemon=True)
        self._thread.start()

    def reset(self, power_cycle: Callable[[], None]) -> None:
        """Run ``power_cycle`` between two commands and forget all clients' objects and sessions."""
        with self._lock:
            power_cycle()
            self._manager.forget_all()

    def close(self) -> None:
        """Stop serving, hang up on all clients and remove the sockets."""
        self._open = False
        self._wake.close()
        self._thread.join()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _run(self) -> None:
        while self._open:
            ready = [key for key, _ in self._selector.select()]
            # ends of processes first: a process id may be used again
            for key in sorted(ready, key=lambda key: not isinstance(key.fileobj, int)):
                if key.fd in self._selector.get_map():
                    key.data()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd) if isinstance(key.fileobj, int) else _socket(key.fileobj).close()
        self._selector.close()

    def _register(self, source: socket.socket | int, ready: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, ready)

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket, int, bytearray], None]) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it hung up already, or there are too many
            return
        connection.settimeout(_SEND_SECONDS)
        pid, _, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if not self._watch(pid):
            connection.close()
            return
        pending = bytearray()
        self._register(connection, lambda: serve(connection, pid, pending))

    def _watch(self, pid: int) -> bool:
        """Watch for the end of a process; False: it has ended already."""
        if pid not in self._pidfds:
            try:
                self._pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            self._register(self._pidfds[pid], lambda: self._ended(pid))
        return True

    def _ended(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        with self._lock, contextlib.suppress(Unavailable):
            self._manager.forget(pid)

    def _serve_commands(self, connection: socket.socket, pid: int, pending: bytearray) -> None:
        try:
            for command in _whole_commands(connection, pending):
                with self._lock:
                    response = self._manager.execute(pid, command)
                connection.sendall(response)
        except (OSError, Unavailable, MalformedInput):
            self._hang_up(connection)

    def _serve_control(self, connection: socket.socket, _pid: int, _pending: bytearray) -> None:
        try:
            message = connection.recv(_MAX_CONTROL)
            if message:
                connection.sendall(u32(_control_answer(message)))
                return
        except OSError:
            pass
        self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise Unavailable(f"{path}: too long for a socket", remedy="keep machines in a directory with a short path")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


def _whole_commands(connection: socket.socket, pending: bytearray) -> list[bytes]:
    """Receive available bytes and return the complete commands.

    Raises:
        ConnectionError: the client hung up.
        MalformedInput: a header has an impossible size.
    """
    received = connection.recv(MAX_COMMAND)
    if not received:
        raise ConnectionError("the client hung up")
    pending += received
    whole = []
    while len(pending) >= HEADER_SIZE:
        size = int.from_bytes(pending[2:6], "big")
        if not HEADER_SIZE <= size <= MAX_COMMAND:
            raise MalformedInput(f"command: {size} bytes")
        if len(pending) < size:
            break
        whole.append(bytes(pending[:size]))
        del pending[:size]
    return whole


def _control_answer(message: bytes) -> int:
    if int.from_bytes(message[:4], "big") != _CMD_SET_LOCALITY:
        return _TPM_FAIL
    return _TPM_SUCCESS if message[4:] == b"\0" else _TPM_BAD_LOCALITY


def _socket(source: object) -> socket.socket:
    if not isinstance(source, socket.socket):
        raise TypeError("only sockets and pidfds are registered")
    return source
