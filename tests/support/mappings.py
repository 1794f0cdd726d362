"""How the kernel maps an address of this process (proc(5))."""

from __future__ import annotations

from pathlib import Path


def mapping_of(address: int) -> str:
    """Return access and inode: a private mapping of no file is ``rw-p 0``."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        region, access, _, _, inode, *_ = line.split()
        if _holds(region, address):
            return f"{access} {inode}"
    raise AssertionError("address not mapped")


def left_out_of_core_dumps(address: int) -> bool:
    """Tell whether the kernel leaves what is mapped there out of core dumps (``dd`` of ``VmFlags``)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            inside = _holds(first, address)
        elif inside and first == "VmFlags:":
            return "dd" in rest
    raise AssertionError("address not mapped")


def _holds(region: str, address: int) -> bool:
    low, high = (int(part, 16) for part in region.split("-"))
    return low <= address < high
