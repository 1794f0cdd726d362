"""Making evidence: claims about this boot, a quote that is bound to them and to the connection, logs (DESIGN §5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Final

from nodeseal.agent.evidence.host import HostFiles, read_boot_id, read_firmware
from nodeseal.agent.evidence.logs import MeasuredLogs, NewLogs
from nodeseal.agent.tpm.device import QuotedState
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.egress.claims import EgressClaims
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.evidence.claims import Claims, encode_claims
from nodeseal.evidence.logs import KnownLogs
from nodeseal.evidence.round import Evidence
from nodeseal.ids import LeaseId, Nonce
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.pcr_usage import IMA_PCR


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChallenge:
    """A challenge, as the agent takes it.

    Attributes:
        nonce: makes the answer fresh.
        selection: the PCRs to quote.
        values_required: the verifier holds no proved values, so the answer must carry them.
        known: the part of the logs that it has judged.
    """

    nonce: Nonce
    selection: PcrSelection
    values_required: bool
    known: KnownLogs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer in the making.

    Attributes:
        boot_id: of this boot.
        claims: canonical JSON.
        binding: qualifying data of everything the TPM signs for this answer.
        quoted: the quote and its values.
        logs: what the verifier has not seen of this boot's logs.
        banks: the active banks of the TPM.
    """

    boot_id: str
    claims: bytes
    binding: bytes
    quoted: QuotedState
    logs: NewLogs
    banks: tuple[int, ...]

    def evidence(self, *, with_values: bool) -> Evidence:
        """Return the evidence that is sent."""
        return Evidence(
            claims=self.claims,
            attest=self.quoted.signed.attest,
            signature=self.quoted.signed.signature,
            pcr_values=self.quoted.values if with_values else None,
            boot_log=self.logs.boot_log,
            ima=self.logs.ima,
            banks=self.banks,
        )


ClaimEgress = Callable[[], Awaitable[EgressClaims | None]]


async def no_egress() -> None:
    """Claim no egress limits."""


class Attester:
    """Answers challenges with the TPM.

    Args:
        tpm: the TPM.
        host: files of the kernel: id of this boot, firmware and logs.
        hostname: what people call this node.
        egress: what to claim of egress limits.
    """

    def __init__(self, tpm: TpmOwner, host: HostFiles, hostname: str, egress: ClaimEgress = no_egress) -> None:
        self.hostname: Final = hostname
        self._tpm: Final = tpm
        self._egress: Final = egress
        self._boot_id_file: Final = host.boot_id
        self._firmware: Final = read_firmware(host.firmware)
        self._logs: Final = MeasuredLogs(host.boot_log, host.ima_log)

    def boot_id(self) -> str:
        """Return the kernel's id of this boot.

        Raises:
            MalformedInput: the file holds something else.
            Unavailable: it cannot be read.
        """
        return read_boot_id(self._boot_id_file)

    async def banks(self) -> tuple[int, ...]:
        """Return the numbers of the TPM's active banks.

        Raises:
            Unavailable: the TPM cannot be asked.
        """
        return await self._tpm.call(lambda device: device.banks())

    async def answer(
        self, purpose: Purpose, challenge: AgentChallenge, channel: Channel, leases: tuple[LeaseId, ...]
    ) -> Answer:
        """Quote for one challenge, then read the logs, so that they hold at least what was quoted.

        Args:
            purpose: of the challenge.
            challenge: of the verifier.
            channel: on which it came.
            leases: what the claims name.

        Raises:
            MalformedInput: the boot id is none.
            Unavailable: the TPM or the boot id cannot be read.
        """
        boot_id = self.boot_id()
        claims = self._claims(boot_id, leases, await self._egress())
        binding = qualifying_data(purpose, challenge.nonce, channel, claims)
        quoted = await self._tpm.call(lambda device: device.quote(challenge.selection, binding))
        measured = _values_of(IMA_PCR, challenge.selection, quoted)
        logs = await asyncio.to_thread(self._logs.beyond, challenge.known, boot_id, measured)
        banks = await self.banks()
        return Answer(boot_id=boot_id, claims=claims, binding=binding, quoted=quoted, logs=logs, banks=banks)

    def _claims(self, boot_id: str, leases: tuple[LeaseId, ...], egress: EgressClaims | None) -> bytes:
        return encode_claims(
            Claims(
                boot_id=boot_id,
                kernel=os.uname().release,
                agent_version=agent_version(),
                leases=leases,
                firmware_vendor=self._firmware.vendor,
                firmware_version=self._firmware.version,
                egress=egress,
            )
        )


def _values_of(pcr: int, selection: PcrSelection, quoted: QuotedState) -> tuple[bytes, ...]:
    """Return the quoted values of one PCR, bank by bank."""
    return tuple(v for (_, index), v in zip(selection.indices(), quoted.values, strict=True) if index == pcr)


@cache
def agent_version() -> str:
    """Return the version of this agent."""
    return version("nodeseal")
