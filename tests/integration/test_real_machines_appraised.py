"""Boot logs of real machines: extended into a software TPM, quoted and sent by the agent, judged by the appraisal.

Each comes out trusted under a golden made from it, and untrusted under those of all other machines, with the event
that differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.agent.attester import Attester
from nodeseal.agent.attester import Challenge as Asked
from nodeseal.agent.identity import AK_UNIQUE_SIZE, Identity
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.boot.difference import reference_events
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.crypto.x509 import CertificateAuthority, certificate_request, new_tls_key
from nodeseal.errors import MalformedInput
from nodeseal.evidence import Evidence, Purpose
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.ids import Nonce, node_id_of
from nodeseal.swtpm.machine import Machine
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import Event, EventLog, LogFormat, decode_event_log
from nodeseal.tcg.event_log_types import EventType
from nodeseal.tcg.ima_log import ima_entries
from nodeseal.tcg.pcr import PcrSelection
from nodeseal.tcg.public import decode_public
from nodeseal.verifier.appraisal.appraise import appraise
from nodeseal.verifier.appraisal.model import Appraisal, Challenge, KnownNode, NodeKeys, Policy
from support.agents import NOTHING_KNOWN, host_files
from support.data import shared_data
from support.machines import a_machine, a_vendor
from support.runtime import listing_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOT_PCRS = range(8)
JUDGED = (HashAlg.SHA512, HashAlg.SHA384, HashAlg.SHA256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one machine sent, and the golden made from it."""

    name: str
    log: EventLog
    bank: HashAlg
    evidence: Evidence
    challenge: Challenge
    golden: Golden

    def appraised(self, keys: NodeKeys, *goldens: Golden) -> Appraisal:
        policy = Policy(goldens=goldens, trust_seconds=60)
        return appraise(self.evidence, self.challenge, KnownNode(keys=keys, baseline=None), policy, NOW)


class Sender:
    """An agent's attester on a machine."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine = machine
        self._tpm = TpmOwner(machine.tcti, bytes(AK_UNIQUE_SIZE), 20)
        (folder / "boot_id").write_text("0d5a3a1e-8d8d-4d0a-9f5e-0a6f5b1c2d3e\n")
        self._attester = Attester(self._tpm, host_files(folder, machine.tcti), "node.example")
        authority = CertificateAuthority.create("test authority", NOW, 30)
        key = new_tls_key()
        request = certificate_request(key, "node.example")
        node = authority.issue_node(request, "example.org", node_id_of(b"ek"), NOW, timedelta(days=1))
        self._identity = Identity.of(key, (node,))

    async def keys(self) -> NodeKeys:
        ak = decode_public((await self._tpm.call(lambda device: device.identity())).ak_public)
        return NodeKeys(ak_name=ak.name(), verifier=SignatureVerifier(ak))

    async def send(self, name: str, raw: bytes, log: EventLog) -> Sent:
        """Boot from a log and send."""
        self._machine.boot(raw)
        return await self.send_again(name, log)

    async def send_again(self, name: str, log: EventLog) -> Sent:
        """Send whatever there is now."""
        bank = next(bank for bank in JUDGED if bank in log.algorithms)
        asked = Asked(
            nonce=Nonce(bytes(32)),
            selection=PcrSelection.of({bank: range(16)}),
            values_required=True,
            known=NOTHING_KNOWN,
        )
        made = await self._attester.answer(Purpose.ATTEST, asked, self._identity, ())
        challenge = Challenge(
            nonce=asked.nonce,
            purpose=Purpose.ATTEST,
            selection=asked.selection,
            issued=NOW,
            answer_by=NOW,
            channel=self._identity.channel,
        )
        golden = golden_of(name, log, bank, dict(enumerate(made.quoted.values)))
        evidence = made.evidence(with_values=True)
        return Sent(name=name, log=log, bank=bank, evidence=evidence, challenge=challenge, golden=golden)

    def close(self) -> None:
        self._tpm.close()


def golden_of(name: str, log: EventLog, bank: HashAlg, values: Mapping[int, bytes]) -> Golden:
    pcrs = {bank: {pcr: frozenset({values[pcr]}) for pcr in BOOT_PCRS}}
    events = tuple(event for event in reference_events(log, (bank,)) if event.pcr in BOOT_PCRS)
    return Golden(name=name, pcrs=pcrs, reference=events)


def real_logs() -> Iterator[tuple[str, bytes, EventLog]]:
    """Whole logs of TPMs with a bank that is judged: a firmware that measures extends each of PCR 0 to 7."""
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        with contextlib.suppress(MalformedInput):
            raw = path.read_bytes()
            log = decode_event_log(raw)
            whole = set(BOOT_PCRS) <= {event.pcr for event in log.extended()}
            if log.form is LogFormat.CRYPTO_AGILE and set(JUDGED) & set(log.algorithms) and whole:
                yield path.stem.replace("_", "-").lower(), raw, log


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[NodeKeys, list[Sent]]:
    folder = tmp_path_factory.mktemp("agent")
    with a_vendor() as vendor, a_machine(vendor, banks=("sha256", "sha384", "sha512")) as machine:
        sender = Sender(machine, folder)

        async def all_of_them() -> tuple[NodeKeys, list[Sent]]:
            sent = [await sender.send(*each) for each in real_logs()]
            return await sender.keys(), sent

        try:
            return asyncio.run(all_of_them())
        finally:
            sender.close()


def test_every_machine_is_trusted_under_its_own_golden(everything: tuple[NodeKeys, list[Sent]]) -> None:
    keys, machines = everything
    refused = {}
    for sent in machines:
        appraisal = sent.appraised(keys, sent.golden)
        if not appraisal.trusted:
            refused[sent.name] = [str(finding) for finding in appraisal.findings]
    assert refused == {}
    assert len(machines) >= 40


def test_no_machine_is_trusted_under_the_goldens_of_the_others_and_the_first_event_that_differs_is_named(
    everything: tuple[NodeKeys, list[Sent]],
) -> None:
    keys, machines = everything
    named = 0
    for sent in machines:
        others = {
            other.name: other.golden
            for other in machines
            if other.bank is sent.bank and other.golden.pcrs != sent.golden.pcrs
        }
        appraisal = sent.appraised(keys, *others.values())
        assert not appraisal.trusted, sent.name
        for finding in appraisal.findings:
            if finding.id is FindingId.PCR_MISMATCH:
                pcr, nearest = re.findall(r"PCR (\d+), golden (\S+)", finding.where)[0]
                assert first_difference(sent, others[nearest], int(pcr)) in finding.event, (sent.name, finding)
                named += 1
    assert named > len(machines)


def first_difference(sent: Sent, golden: Golden, pcr: int) -> str:
    """What the finding must say: the number of the machine's event, or that the golden goes on after its last one."""
    ours = [(number, event) for number, event in sent.log.numbered() if event.pcr == pcr and is_extended(event)]
    theirs = [event.digests[sent.bank] for event in golden.reference if event.pcr == pcr]
    for at, (number, event) in enumerate(ours):
        if at >= len(theirs) or event.digests[sent.bank] != theirs[at]:
            return f"event {number} "
    return "after the last event"


def is_extended(event: Event) -> bool:
    return event.claimed_type != EventType.NO_ACTION


def test_a_real_laptop_is_judged_by_what_it_ran_too(tmp_path: Path) -> None:
    raw = shared_data("uefi-eventlogs", "lenovo-x1c-hahuri-sdboot.bin").read_bytes()
    ran = shared_data("ima-logs", "x1c-hahuri", "ima.bin").read_bytes()
    listing = listing_of(tuple(entry for _, entry in ima_entries(ran)))

    async def scenario(machine: Machine) -> None:
        sender = Sender(machine, tmp_path)
        try:
            log = machine.boot(raw)
            machine.replay_ima(ran)
            sent, keys = await sender.send_again("laptop", log), await sender.keys()
            golden = replace(sent.golden, runtime=listing.runtime)
            assert sent.appraised(keys, golden).findings == ()
            machine.measure("/opt/copy-weights")
            (finding,) = (await sender.send_again("laptop", log)).appraised(keys, golden).findings
            assert (finding.id, "/opt/copy-weights" in finding.where) == (FindingId.IMA_UNKNOWN_FILE, True)
        finally:
            sender.close()

    with a_vendor() as vendor, a_machine(vendor) as machine:
        asyncio.run(scenario(machine))
