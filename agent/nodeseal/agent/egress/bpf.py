"""BPF programs on devices that no list of netlink shows: those of tcx and netkit (bpf(2), BPF_PROG_QUERY).

Linux 6.6 attaches programs to devices without traffic control. Older kernels have none, and some of them answer no
question of a process without CAP_BPF, so they are not asked.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Iterable
from typing import Final

from nodeseal.egress.uplinks import NetworkDevice
from nodeseal.errors import Unavailable

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_FIRST: Final = (6, 6)
_PROG_QUERY: Final = 16
_ATTACH: Final = {"tcx ingress": 46, "tcx egress": 47, "netkit primary": 54, "netkit peer": 55}
_MAX_PROGRAMS: Final = 64
_QUERY: Final = struct.Struct("=IIIIQI36x")
"""union bpf_attr, query: device, attach type, flags, flags, address of ids, number of ids; zeros up to 64 bytes."""
_NONE: Final = frozenset({errno.EINVAL, errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP})
_libc: Final = ctypes.CDLL(None, use_errno=True)


def read_programs(devices: Iterable[NetworkDevice]) -> tuple[str, ...]:
    """Return the programs on devices, each as ``tcx ingress DEVICE ID``.

    Raises:
        Unavailable: the kernel refuses to say.
    """
    if _release(os.uname().release) < _FIRST:
        return ()
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise Unavailable(f"bpf(2): not known on {platform.machine()}", remedy="use another architecture, or no egress")
    return tuple(
        f"{kind} {device.name} {program}"
        for device in devices
        for kind, attach in _ATTACH.items()
        if not (kind.startswith("netkit") and device.kind != "netkit")
        for program in _query(number, device.index, attach)
    )


def _release(text: str) -> tuple[int, ...]:
    found = re.match(r"([0-9]+)\.([0-9]+)", text)
    return tuple(map(int, found.groups())) if found else _FIRST


def _query(number: int, index: int, attach: int) -> tuple[int, ...]:
    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    raw = ctypes.create_string_buffer(_QUERY.pack(index, attach, 0, 0, ctypes.addressof(ids), _MAX_PROGRAMS))
    if _libc.syscall(number, _PROG_QUERY, raw, _QUERY.size) < 0:
        code = ctypes.get_errno()
        if code in _NONE:
            return ()
        if code != errno.ENOSPC:  # more than fit: those that fit will do
            raise Unavailable(
                f"bpf(2): {os.strerror(code)}", remedy="give the agent CAP_NET_ADMIN and the system call bpf"
            )
    count = _QUERY.unpack(raw.raw[: _QUERY.size])[5]
    return tuple(ids[: min(count, _MAX_PROGRAMS)])
