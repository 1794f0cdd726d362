"""A listener on the bus: forwards and records all bytes between a client and a software TPM."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_CC_START_AUTH_SESSION = (0x176).to_bytes(4, "big")
_RH_NULL = bytes.fromhex("40000007")


class Bus:
    """Recording of the bus.

    Attributes:
        tcti: address of the TPM behind the listener.
    """

    def __init__(self, tcti: str) -> None:
        self.tcti = tcti
        self.heard = bytearray()

    def unsalted_sessions(self) -> int:
        """Count TPM2_StartAuthSession commands whose salt key is TPM_RH_NULL."""
        return self.heard.count(_CC_START_AUTH_SESSION + _RH_NULL)

    def sessions(self) -> int:
        """Count TPM2_StartAuthSession commands."""
        return self.heard.count(_CC_START_AUTH_SESSION)


@contextlib.contextmanager
def a_bus(tcti: str) -> Iterator[Bus]:
    """Listen between a client and the software TPM at ``tcti``."""
    target = tcti.removeprefix("swtpm:path=")
    with tempfile.TemporaryDirectory(prefix="bus") as folder:
        path = str(Path(folder, "s"))
        bus = Bus(f"swtpm:path={path}")
        with _forwarder(path, target, bus), _forwarder(f"{path}.ctrl", f"{target}.ctrl", bus):
            yield bus


@contextlib.contextmanager
def _forwarder(path: str, target: str, bus: Bus) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=_accept, args=(server, target, bus))
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(server: socket.socket, target: str, bus: Bus) -> None:
    threads: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            tpm = socket.socket(socket.AF_UNIX)
            tpm.connect(target)
            threads.append(threading.Thread(target=_serve, args=(client, tpm, bus)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _serve(client: socket.socket, tpm: socket.socket, bus: Bus) -> None:
    with client, tpm:
        back = threading.Thread(target=_pump, args=(tpm, client, bus))
        back.start()
        _pump(client, tpm, bus)
        back.join()


def _pump(source: socket.socket, sink: socket.socket, bus: Bus) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            bus.heard += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
