"""Evidence: what a node sends in one round. Nothing in it is proved."""

from __future__ import annotations

from typing import NamedTuple

from nodeseal.evidence.logs import ImaDelta


class Evidence(NamedTuple):
    """One round's evidence as it arrived: nothing in it is proved.

    Attributes:
        claims: canonical JSON, hashed as sent, decoded only after the signature held.
        attest: TPMS_ATTEST of the quote.
        signature: TPMT_SIGNATURE by the attestation key over ``attest``.
        pcr_values: claimed values in the order of the quoted selection (bank by bank, index ascending), or None
            when they have not changed since the last accepted round.
        boot_log: the boot event log as firmware left it, or None when the verifier knows it or there is none.
        ima: what the IMA log has beyond what the verifier knows, or None when there is no such log.
    """

    claims: bytes
    attest: bytes
    signature: bytes
    pcr_values: tuple[bytes, ...] | None
    boot_log: bytes | None = None
    ima: ImaDelta | None = None
