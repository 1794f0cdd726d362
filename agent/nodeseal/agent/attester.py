"""Making evidence: claims about this boot, and a quote that is bound to them and to the connection (DESIGN §5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from nodeseal.agent.identity import Identity
from nodeseal.agent.tpm.device import QuotedState
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.errors import Unavailable
from nodeseal.evidence import Claims, Evidence, Purpose, encode_claims, qualifying_data
from nodeseal.ids import LeaseId, Nonce
from nodeseal.tcg.pcr import PcrSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One answer in the making.

    Attributes:
        claims: canonical JSON.
        binding: qualifying data of everything the TPM signs for this answer.
        quoted: the quote and its values.
    """

    claims: bytes
    binding: bytes
    quoted: QuotedState

    def evidence(self, *, with_values: bool) -> Evidence:
        """Return what travels."""
        return Evidence(
            claims=self.claims,
            attest=self.quoted.signed.attest,
            signature=self.quoted.signed.signature,
            pcr_values=self.quoted.values if with_values else None,
        )


class Attester:
    """Answers challenges with the TPM.

    Args:
        tpm: the TPM.
        boot_id_file: where the kernel shows the id of this boot; read anew each time.
        hostname: what people call this node.
    """

    def __init__(self, tpm: TpmOwner, boot_id_file: Path, hostname: str) -> None:
        self.hostname: Final = hostname
        self._tpm: Final = tpm
        self._boot_id_file: Final = boot_id_file

    def boot_id(self) -> str:
        """Return the kernel's id of this boot.

        Raises:
            Unavailable: it cannot be read.
        """
        try:
            return self._boot_id_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self._boot_id_file}: {error}") from error

    async def answer(
        self,
        purpose: Purpose,
        nonce: Nonce,
        selection: PcrSelection,
        identity: Identity,
        leases: tuple[LeaseId, ...],
    ) -> Round:
        """Quote ``selection`` for one challenge.

        Raises:
            Unavailable: the TPM or the boot id cannot be read.
        """
        claims = encode_claims(
            Claims(boot_id=self.boot_id(), kernel=os.uname().release, agent_version=agent_version(), leases=leases)
        )
        binding = qualifying_data(purpose, nonce, identity.channel, claims)
        quoted = await self._tpm.call(lambda device: device.quote(selection, binding))
        return Round(claims=claims, binding=binding, quoted=quoted)


@cache
def agent_version() -> str:
    """Return the version of this agent."""
    return version("nodeseal")
