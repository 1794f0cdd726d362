"""Nodes with synthetic TPMs: real keys, real quotes, no two with the same PCR values."""

from __future__ import annotations

import hashlib
from typing import Final

from nodeseal.evidence import Channel, Claims, Evidence, Purpose, encode_claims, qualifying_data
from nodeseal.ids import Nonce
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.pcr import PcrSelection

SELECTION: Final = PcrSelection.of({HashAlg.SHA256: range(16)})
"""What verifiers ask for by default."""
GOLDEN_PCRS: Final = range(8)
"""What is pinned; PCR 9 holds what is each node's own."""
_BOOT_ID: Final = "3f0c7c9e-0000-4000-8000-000000000001"


def booted_tpm(vendor: TpmVendor, name: str) -> SyntheticTpm:
    """Return a TPM whose PCRs hold a boot like all others and, in PCR 9, something of its own."""
    tpm = SyntheticTpm(vendor)
    for pcr in range(9):
        tpm.extend(pcr, {HashAlg.SHA256: hashlib.sha256(f"boot {pcr}".encode()).digest()})
    tpm.extend(9, {HashAlg.SHA256: hashlib.sha256(name.encode()).digest()})
    return tpm


class Attester:
    """The node's side of a round, as cheap as it can be: claims and selection never change.

    Args:
        tpm: signs.
        channel: what its quotes are bound to.
    """

    def __init__(self, tpm: SyntheticTpm, channel: Channel) -> None:
        self._tpm: Final = tpm
        self._channel: Final = channel
        self._claims: Final = encode_claims(Claims(boot_id=_BOOT_ID, kernel="6.1.0-31-amd64", agent_version="0.1.0"))

    def evidence(self, nonce: Nonce, *, values: bool) -> Evidence:
        """Answer a challenge."""
        binding = qualifying_data(Purpose.ATTEST, nonce, self._channel, self._claims)
        quote = self._tpm.quote(binding, SELECTION)
        sent = self._tpm.read_pcrs(SELECTION) if values else None
        return Evidence(claims=self._claims, attest=quote.attest, signature=quote.signature, pcr_values=sent)
