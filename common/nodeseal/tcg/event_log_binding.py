"""Which part of an event's data its digest proves (TCG PC Client Platform Firmware Profile v1.06, "Event Types").

A digest is of whatever the firmware or boot loader hashed: the event's data, a part of it, or something else such as
an image, of which the data is then a mere description. Only the digest tells; types are claims and are not asked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from typing import Final

from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import Event
from nodeseal.tcg.event_log_types import EventType

_VARIABLE: Final = struct.Struct("<16sQQ")
_TAG_HEADER: Final = 8


class Binding(Enum):
    """How far an event's data is proved by its digest, once the digest is proved by a quote."""

    ALL = "all"
    PART = "part"
    NONE = "none"
    NOT_EXTENDED = "not-extended"


def binding(event: Event, bank: HashAlg) -> Binding:
    """Return how far the data of ``event`` is proved in ``bank``; a final NUL does not count."""
    if event.claimed_type == EventType.NO_ACTION or bank not in event.digests:
        return Binding.NOT_EXTENDED
    part = bound_data(event, bank)
    if part is None:
        return Binding.NONE
    return Binding.ALL if part in (event.data, event.data[:-1]) else Binding.PART


def bound_data(event: Event, bank: HashAlg) -> bytes | None:
    """Return the part of the data whose hash is the event's digest in ``bank``; ``None`` if there is none.

    What surrounds the part, such as the name of a variable of which only the content was hashed, proves nothing; nor
    does an EV_NO_ACTION event, whose digest was never extended.
    """
    if event.claimed_type == EventType.NO_ACTION:
        return None
    digest = event.digests.get(bank)
    return next((part for part in _parts(event.data) if bank.digest(part) == digest), None)


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield what firmware and boot loaders are known to hash: everything first, never an empty part.

    GRUB writes ``grub_cmd: ls`` (``grub_cmd ls`` in RHEL 8) and hashes what follows the first space, with or without
    the final NUL (grub-core/commands/tpm.c, grub_tpm_verify_string).
    """
    yield data
    _, _, string = data.partition(b" ")
    parts = (data, string, _variable_content(data), data[_TAG_HEADER:])
    yield from (part for whole in parts for part in (whole, whole.removesuffix(b"\0")) if part)


def _variable_content(data: bytes) -> bytes:
    """Return VariableData of a UEFI_VARIABLE_DATA, which is all that EV_EFI_VARIABLE_BOOT used to measure."""
    if len(data) < _VARIABLE.size:
        return b""
    _, characters, size = _VARIABLE.unpack_from(data)
    start = _VARIABLE.size + 2 * characters
    return data[start : start + size]
