"""Checks of the addresses that a verifier listens on: there, free, and allowed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

from nodeseal.checks.faults import Fault
from nodeseal.verifier.config import Config, split_address

_REMEDIES: Final = {
    errno.EADDRINUSE: "stop the program that listens there (ss -ltnp), or choose another port",
    errno.EACCES: "choose a port from 1024 on, or give the service CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "name an address of this machine (ip address), or 0.0.0.0 or [::] for all of them",
}
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def address_faults(config: Config) -> Iterator[Fault]:
    """Check both addresses."""
    settings = {"listen": config.listen, "listen_enrol": config.listen_enrol}
    for field, address in settings.items():
        yield from _faults(field, address)
    host, port = split_address(config.listen)
    if port and (host, port) == split_address(config.listen_enrol):
        yield Fault(
            field="listen_enrol", file=config.listen_enrol, what="the same as listen", remedy="choose another port"
        )


def _faults(field: str, address: str) -> Iterator[Fault]:
    host, port = split_address(address)
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        remedy = "name a host or address of this machine"
        yield Fault(field=field, file=address, what=f"no address: {said}", remedy=remedy)
        return
    failures = [failure for place in places if (failure := _refusal(place[0], place[4]))]
    missing = [failure for failure in failures if failure in _NOT_HERE]
    if len(missing) == len(places) or len(failures) > len(missing):
        number = next((failure for failure in failures if failure not in _NOT_HERE), failures[0])
        remedy = _REMEDIES.get(number, "choose another address")
        yield Fault(field=field, file=address, what=os.strerror(number).lower(), remedy=remedy)


def _refusal(family: int, place: tuple[object, ...]) -> int:
    """Return why the kernel refuses an address, or 0."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
            probe.bind(place)  # without listening: nobody may take the probe for the verifier
    except OSError as error:
        return error.errno or errno.EIO
    return 0
