"""The part of an event's data that its digest proves (TCG PC Client Platform Firmware Profile v1.06, "Event Types").

Firmware and boot loaders hash an event's data, a part of it, or another object such as an image, which the data then
only describes. The digest alone decides which; the claimed type is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.efi_variable import VARIABLE_HEADER
from nodeseal.uefi.event_log import Event
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.tagged_event import TAG_HEADER

_NO_ACTION: Final = EventType.NO_ACTION.value
_FIRST_WORD: Final = re.compile(rb"[a-z_]+:? ")
_NUL: Final = b"\0"


class Binding(Enum):
    """How much of an event's data its digest proves, once a quote proves the digest."""

    ALL = "all"
    PART = "part"
    NONE = "none"
    NOT_EXTENDED = "not-extended"


def binding(event: Event, bank: HashAlg) -> Binding:
    """Return how much of the data of ``event`` is proved in ``bank``. A final NUL does not count."""
    if event.claimed_type == _NO_ACTION or bank not in event.digests:
        return Binding.NOT_EXTENDED
    part = bound_data(event, bank)
    if part is None:
        return Binding.NONE
    return Binding.ALL if part in _wholes(event.data) else Binding.PART


def bound_data(event: Event, bank: HashAlg) -> bytes | None:
    """Return the data, or the part of it, that the event's digest in ``bank`` covers. ``None``: it covers neither.

    The rest of the data proves nothing: for example a variable's name, if only its content was hashed. An EV_NO_ACTION
    event proves nothing at all, because its digest is never extended.
    """
    digest = event.digests.get(bank)
    if digest is None or event.claimed_type == _NO_ACTION:
        return None
    for candidates in (_wholes, _parts):
        for part in candidates(event.data):
            if bank.digest(part) == digest:
                return part
    return None


def _wholes(data: bytes) -> Iterator[bytes]:
    """Yield the forms in which firmware and boot loaders hash the whole data.

    A final NUL may be missing in the digest (GRUB) or in the data (an old systemd-boot). systemd-stub logs the
    names of sections in UTF-16 and hashes them in ASCII (systemd: docs/TPM2_PCR_MEASUREMENTS.md).
    """
    yield data
    if data[-1:] == _NUL and data != _NUL:
        yield data[:-1]
    if data[1:2] == _NUL:
        yield data + _NUL
        if data[-2:] == _NUL * 2:
            yield data[:-2]
        if not any(data[1::2]):
            yield data[::2]


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield the parts that firmware and boot loaders hash, except empty ones.

    GRUB writes ``grub_cmd: ls`` (``grub_cmd ls`` in RHEL 8) and hashes the text behind the first space, with or without
    the final NUL (grub-core/commands/tpm.c, grub_tpm_verify_string). Old shims log one byte more than they hash.
    """
    word = _FIRST_WORD.match(data)
    parts = (data[word.end() :] if word else b"", _variable_content(data), _tagged_content(data))
    for part in filter(None, parts):
        yield from filter(None, (part.removesuffix(_NUL), part if part[-1:] == _NUL else b""))
    if len(data) > 1:
        yield data[:-1]


def _variable_content(data: bytes) -> bytes:
    """Return VariableData of a UEFI_VARIABLE_DATA; EV_EFI_VARIABLE_BOOT used to measure nothing else."""
    if len(data) < VARIABLE_HEADER.size:
        return b""
    _, characters, size = VARIABLE_HEADER.unpack_from(data)
    start = VARIABLE_HEADER.size + 2 * characters
    return data[start : start + size]


def _tagged_content(data: bytes) -> bytes:
    """Return the data behind the header of a TCG_PCClientTaggedEvent."""
    if len(data) < TAG_HEADER.size or TAG_HEADER.unpack_from(data)[1] != len(data) - TAG_HEADER.size:
        return b""
    return data[TAG_HEADER.size :]
