"""The endorsement key and its certificates as the TPM's maker left them (TCG EK Credential Profile v2.5).

Certificates lie in NV indices, one per template; those of issuing authorities from 0x01C00100 on. The key itself is
made again from the template, or used where it was made persistent (TCG TPM v2.0 Provisioning Guidance). A TPM may hold
several certificates, of which a verifier accepts some: each is a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.tpm.connection import Connection, SavedKey
from nodeseal.agent.tpm.failures import TpmUnwritten
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import ObjectAttributes
from nodeseal.tpm.ek_template import EkTemplate, template
from nodeseal.tpm.public import decode_public

_PREFERENCE: Final = tuple(map(template, ("L-2", "H-2", "H-3", "H-4", "L-1", "H-1", "H-6", "H-7")))
"""Elliptic curves first: creating an RSA key takes a hardware TPM seconds."""
_WITHOUT_CERTIFICATE: Final = ("L-2", "L-1")
_FILLER: Final = b"\x00\xff"
_CERTIFICATES: Final = 0x01C00000
_CHAIN: Final = range(0x01C00100, 0x01C00200)
_PERSISTENT: Final = 0x81010000
_MAX_PERSISTENT: Final = 16
"""The endorsement hierarchy's persistent handles are 0x81010000 to 0x8101FFFF; the guidance uses the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementSlot:
    """One way in which the TPM can show who it is.

    Attributes:
        template: of the endorsement key.
        certificates: DER as read, padding included; the one of this key first, if there is any.
        chain: certificates of issuing authorities, as read.
    """

    template: EkTemplate
    certificates: tuple[bytes, ...]
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """An endorsement key that the TPM has made.

    Attributes:
        slot: template and certificates.
        key: the key.
    """

    slot: EndorsementSlot
    key: SavedKey

    @property
    def by_policy(self) -> bool:
        """Whether it takes PolicySecret(endorsement) to use it; otherwise its empty password."""
        return ObjectAttributes.USER_WITH_AUTH not in self.slot.template.public.attributes


def endorsement_slots(tpm: Connection) -> tuple[EndorsementSlot, ...]:
    """Return the keys for which the TPM holds certificates; without any certificate the P-256 and the RSA 2048 one.

    NV indices that are not written, or hold nothing but filler, count as absent.

    Raises:
        TpmFailed: the TPM refused.
    """
    present = set(tpm.handles(_CERTIFICATES))
    found = [(each, _content(tpm, each.certificate_nv_index, present)) for each in _PREFERENCE]
    certified = {each.name: raw for each, raw in found if raw}
    chain = tuple(raw for index in sorted(present.intersection(_CHAIN)) if (raw := _content(tpm, index, present)))
    return tuple(
        EndorsementSlot(template=template(name), certificates=_first(name, certified), chain=chain)
        for name in certified or _WITHOUT_CERTIFICATE
    )


def make_endorsement_key(tpm: Connection, slot: EndorsementSlot) -> EndorsementKey:
    """Return the key of a slot.

    Raises:
        TpmFailed: the TPM refused, or lacks the curve or size.
    """
    return EndorsementKey(slot=slot, key=_key(tpm, slot.template))


def _content(tpm: Connection, index: int, present: set[int]) -> bytes:
    """Return what an NV index holds, or nothing."""
    if index not in present:
        return b""
    try:
        raw = tpm.read_nv(index)
    except TpmUnwritten:
        return b""
    return raw if raw.strip(_FILLER) else b""


def _first(name: str, certified: dict[str, bytes]) -> tuple[bytes, ...]:
    """Return all certificates, the one of that name first."""
    return tuple(certified[each] for each in sorted(certified, key=lambda each: each != name))


def _key(tpm: Connection, candidate: EkTemplate) -> SavedKey:
    for handle in tpm.handles(_PERSISTENT)[:_MAX_PERSISTENT]:
        key = tpm.persistent(handle)
        if _made(candidate, key.public):
            return key
    return tpm.create_primary(ESYS_TR.ENDORSEMENT, candidate.public.encode())


def _made(candidate: EkTemplate, public: bytes) -> bool:
    try:
        return candidate.made(decode_public(public))
    except MalformedInput:
        return False  # a key of another kind
