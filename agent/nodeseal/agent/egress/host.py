"""What the files of the kernel and of the machine's owner say: the node's egress file, RDMA ports, namespaces."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from nodeseal.egress.claims import MAX_RDMA
from nodeseal.egress.document import EgressDocument, parse_egress_file
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.settings import parse_yaml

_MAX_FILE: Final = 64 * 1024
_RDMA: Final = Path("/sys/class/infiniband")
_OCTETS_PER_WORD: Final = 4
"""port_xmit_data counts words of four octets (InfiniBand, PortXmitData)."""
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def read_document(path: Path) -> EgressDocument:
    """Read a node's egress file, which nobody but root may change.

    Raises:
        MalformedInput: it is wrong, or not as safe as it must be; the message names file, line and key.
        Unavailable: it cannot be read.
    """
    return parse_egress_file(parse_yaml(_read_of_root(path), str(path)))


def _read_of_root(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        remedy = "write it with: nodeseal golden egress GOLDEN -o FILE"
        raise Unavailable(f"{path}: egress.file: {error.strerror or error}", remedy=remedy) from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, so that what was checked is what is read
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & _OTHERS_MAY_WRITE:
            remedy = f"chown root:root {path}; chmod 0644 {path}; it must be a file and no link"
            raise MalformedInput(f"{path}: egress.file: somebody else than root may change it", remedy=remedy)
        return file.read(_MAX_FILE + 1)


def read_rdma(folder: Path = _RDMA) -> dict[str, int]:
    """Return the bytes that each RDMA port has sent, by ``DEVICE.PORT``; ports that cannot be read are left out."""
    return dict(sorted(_ports(folder))[:MAX_RDMA])


def _ports(folder: Path) -> Iterator[tuple[str, int]]:
    for file in folder.glob("*/ports/*/counters/port_xmit_data"):
        with suppress(OSError, ValueError):
            yield f"{file.parts[-5]}.{file.parts[-3]}", int(file.read_text("ascii")) * _OCTETS_PER_WORD


def count_namespaces(proc: Path = Path("/proc")) -> int:
    """Return how many network namespaces processes are in, beside our own; those that cannot be seen do not count."""
    own = (proc / "self/ns/net").readlink()
    found = set()
    for process in proc.iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                found.add((process / "ns/net").readlink())
    return len(found - {own})
