"""Machines that boot from a log, and evidence of them in folders; the agent's own code quotes it."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from nodeseal.agent.evidence.attester import AgentChallenge, Attester
from nodeseal.agent.identity import AK_UNIQUE_SIZE, Identity
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import observe
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import Purpose
from nodeseal.evidence.folder import EvidenceFolder, decode_evidence_folder
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import RuntimeRules
from nodeseal.ids import Nonce, node_id_of
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.uefi.event_log import EventLog, EventLogFormat, decode_event_log
from support.agents import host_files
from support.data import shared_data
from support.machines import a_machine, a_vendor
from support.scripted_verifier import NOTHING_KNOWN

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHA2 = (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)
QUOTED_PCRS = range(16)
FIRMWARE_PCRS = frozenset(range(8))


class Observed:
    """A machine and its agent; :meth:`keep` asks for evidence and keeps it whole."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self._tpm = TpmOwner(machine.tcti, bytes(AK_UNIQUE_SIZE), 20)
        self._boot_id = folder / "boot_id"
        self._attester = Attester(self._tpm, host_files(folder, machine.tcti), "node.example")
        key = new_tls_key()
        node = CertificateAuthority.create("test authority", NOW, 30).issue_node(
            certificate_request(key, "node.example"), "example.org", node_id_of(b"ek"), NOW, timedelta(days=1)
        )
        self._identity = Identity.of(key, (node,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tpm.close()

    def booted(self, raw: bytes, banks: Iterable[HashAlg] = (HashAlg.SHA256,)) -> EvidenceFolder:
        """Boot from a log and return the evidence of it."""
        self.machine.boot(raw)
        return self.keep(banks)

    def keep(self, banks: Iterable[HashAlg] = (HashAlg.SHA256,)) -> EvidenceFolder:
        """Return the machine's evidence, written to a folder and read back; each call counts as a new boot."""
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        return asyncio.run(self._keep(PcrSelection.of(dict.fromkeys(banks, QUOTED_PCRS))))

    async def _keep(self, selection: PcrSelection) -> EvidenceFolder:
        nonce = Nonce(secrets.token_bytes(32))
        asked = AgentChallenge(nonce=nonce, selection=selection, values_required=True, known=NOTHING_KNOWN)
        made = await self._attester.answer(Purpose.ATTEST, asked, self._identity.channel, ())
        folder = EvidenceFolder(
            evidence=made.evidence(with_values=True),
            nonce=nonce,
            purpose=Purpose.ATTEST,
            selection=selection,
            channel=self._identity.channel,
            issued=NOW,
            received=NOW,
            ak_public=(await self._tpm.call(lambda device: device.identity())).ak_public,
            labels={},
            manufacturer="",
            ek_algorithm="",
        )
        return decode_evidence_folder(folder.encode())


@contextmanager
def an_observed_machine(folder: Path) -> Iterator[Observed]:
    """A machine with every SHA-2 bank."""
    banks = tuple(bank.hashlib_name for bank in SHA2)
    with a_vendor() as vendor, a_machine(vendor, banks=banks) as machine, Observed(machine, folder) as observed:
        yield observed


def captured(folder: EvidenceFolder, name: str, runtime: RuntimeRules | None = None, *, rules: bool = False) -> Golden:
    """Return the golden that is captured from one machine's evidence."""
    return capture([observe(folder).observation], CaptureOptions(name=name, rules=rules, runtime=runtime)).golden


def real_boot_logs() -> Iterator[tuple[str, bytes, EventLog | None]]:
    """Iterate name, bytes and decoded log of every real machine; None: the log does not parse."""
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        raw = path.read_bytes()
        try:
            yield golden_name(path), raw, decode_event_log(raw)
        except MalformedInput:
            yield golden_name(path), raw, None


def golden_name(path: Path) -> str:
    """Return the name of a golden for the machine whose log this is."""
    return path.stem.replace("_", "-").lower()


def is_whole(log: EventLog) -> bool:
    """Tell whether a log is a measuring firmware's: crypto-agile, and with events for each of PCR 0 to 7."""
    extended = {event.pcr for event in log.extended()}
    return log.form is EventLogFormat.CRYPTO_AGILE and HashAlg.SHA256 in log.algorithms and extended >= FIRMWARE_PCRS
