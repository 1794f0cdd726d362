"""The endorsement key and its certificates as the TPM's maker left them (TCG EK Credential Profile v2.5).

Certificates lie in NV indices, one per template; those of issuing authorities from 0x01C00100 on. The key itself is
made again from the template, or used where it was made persistent (TCG TPM v2.0 Provisioning Guidance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.tpm.connection import Connection, SavedKey
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import ObjectAttributes
from nodeseal.tpm.ek_template import EkTemplate, template
from nodeseal.tpm.public import decode_public

_PREFERENCE: Final = tuple(map(template, ("L-2", "H-2", "H-3", "H-4", "L-1", "H-1", "H-6", "H-7")))
"""Elliptic curves first: creating an RSA key takes a hardware TPM seconds."""
_CERTIFICATES: Final = 0x01C00000
_CHAIN: Final = range(0x01C00100, 0x01C00200)
_PERSISTENT: Final = 0x81010000
_MAX_PERSISTENT: Final = 16
"""The endorsement hierarchy's persistent handles are 0x81010000 to 0x8101FFFF; the guidance uses the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """The endorsement key that the agent uses.

    Attributes:
        key: the key.
        by_policy: it takes PolicySecret(endorsement) to use it; otherwise its empty password.
        certificates: DER as read, padding included; the one that certifies ``key`` first.
        chain: certificates of issuing authorities, as read.
    """

    key: SavedKey
    by_policy: bool
    certificates: tuple[bytes, ...]
    chain: tuple[bytes, ...]


def find_endorsement_key(tpm: Connection) -> EndorsementKey:
    """Return the key for which the TPM holds a certificate; without any certificate the P-256 or RSA 2048 one.

    Raises:
        TpmFailed: the TPM refused, or can make no such key.
    """
    present = set(tpm.handles(_CERTIFICATES))
    certified = [each for each in _PREFERENCE if each.certificate_nv_index in present]
    chosen, key = _first_that_works(tpm, certified or [template("L-2"), template("L-1")])
    ordered = sorted(certified, key=lambda each: each is not chosen)
    return EndorsementKey(
        key=key,
        by_policy=ObjectAttributes.USER_WITH_AUTH not in chosen.public.attributes,
        certificates=tuple(tpm.read_nv(each.certificate_nv_index) for each in ordered),
        chain=tuple(tpm.read_nv(index) for index in sorted(present) if index in _CHAIN),
    )


def _first_that_works(tpm: Connection, candidates: list[EkTemplate]) -> tuple[EkTemplate, SavedKey]:
    for candidate in candidates[:-1]:
        try:
            return candidate, _key(tpm, candidate)
        except TpmFailed:
            continue  # the TPM lacks the curve or size; the last candidate's error is the one to show
    return candidates[-1], _key(tpm, candidates[-1])


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
