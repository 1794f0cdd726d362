"""One verifier, and real agents over software TPMs with different PCR banks: each is judged in banks that it has."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from nodeseal.appraisal.capture import CaptureOptions, capture
from nodeseal.appraisal.offline import observe
from nodeseal.evidence.folder import EvidenceFolder, decode_evidence_folder
from nodeseal.golden.document import dump_golden
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.v1 import admin_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE
from support.admin import a_sealed_model, activate, grant
from support.agents import AgentProcess, agent_process, eventually, heard, loader, trusted
from support.hosts import agents_view, open_parameters
from support.machines import a_machine, a_vendor
from support.verifier import RunningVerifier, Stubs, a_verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A node of some kind that has enrolled, and its verifier, whose settings name SHA-256."""

    machine: Machine
    verifier: RunningVerifier
    admin: Stubs
    agent: AgentProcess

    async def evidence(self) -> EvidenceFolder:
        files: dict[str, bytes] = {}
        request = admin_pb2.GetEvidenceRequest(node_id=self.agent.node_id)
        async for part in self.admin.nodes.GetEvidence(request, timeout=60):
            files[part.name] = files.get(part.name, b"") + part.data
        return decode_evidence_folder(files)

    async def captured(self) -> bytes:
        """Return a golden captured from the node, as ``nodeseal golden capture`` makes it."""
        made = capture([observe(await self.evidence()).observation], CaptureOptions(name="kind"))
        return dump_golden(made.golden)

    async def finds(self, *findings: str) -> None:
        """Wait until the node has heard these findings, and no others."""

        def found(status: object) -> list[str]:
            assert isinstance(status, dict)
            return sorted(each["id"] for each in status["findings"])

        await heard(self.agent, lambda status: found(status) == sorted(findings))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """A loader that holds a model's key."""
        model = await a_sealed_model(self.admin)
        await grant(self.admin, self.agent)
        async with loader(self.agent) as client:
            reply = await client.call(f"{KEYS_INTERFACE}.Open", open_parameters(model), more=True)
            assert not reply.error, reply
            yield


def play(banks: tuple[str, ...], scenario: Callable[[Site], Awaitable[None]]) -> None:
    """Run ``scenario`` with a node whose TPM has ``banks`` and whose firmware measures into all of them."""

    async def whole(machine: Machine, verifier: RunningVerifier) -> None:
        with agent_process(machine.tcti, agents_view(verifier)) as agent:
            async with verifier.person() as admin:
                await eventually(lambda: agent.node_id)
                await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=agent.node_id))
                await scenario(Site(machine=machine, verifier=verifier, admin=admin, agent=agent))

    with a_vendor() as vendor, a_machine(vendor, banks=banks) as machine, tempfile.TemporaryDirectory() as folder:
        machine.boot(sample_boot_log(SampleBoot(), tuple(map(HashAlg.from_name, banks))), ima=True)
        with a_verifier(Path(folder), vendor, start=True) as verifier:
            asyncio.run(whole(machine, verifier))


KINDS = {
    "SHA-256 only": (("sha256",), HashAlg.SHA256),
    "SHA-384 only": (("sha384",), HashAlg.SHA384),
    "SHA-1 and SHA-256": (("sha1", "sha256"), HashAlg.SHA256),
    "SHA-1 and SHA-384": (("sha1", "sha384"), HashAlg.SHA384),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_of_any_kind_is_captured_trusted_and_gets_a_key(kind: str) -> None:
    banks, used = KINDS[kind]

    async def scenario(site: Site) -> None:
        await site.finds("golden.none")
        folder = await site.evidence()
        assert [bank for bank, _ in folder.selection.banks] == [used]
        await activate(site.admin, await site.captured())
        await trusted(site.agent)
        async with site.opened():
            assert any(site.machine.read_pcrs(used.hashlib_name)[EPOCH_PCR])

    play(banks, scenario)


def test_a_golden_of_another_bank_is_named_as_such_and_the_node_stays_untrusted() -> None:
    other: dict[str, bytes] = {}

    async def capture_there(site: Site) -> None:
        other["golden"] = await site.captured()

    async def scenario(site: Site) -> None:
        await site.finds("golden.none")
        await activate(site.admin, other["golden"])
        await site.finds("pcr.bank")

    play(("sha256",), capture_there)
    play(("sha384",), scenario)


def test_a_golden_of_another_bank_that_the_tpm_has_too_makes_the_node_quote_that() -> None:
    async def scenario(site: Site) -> None:
        await site.finds("golden.none")
        assert [bank for bank, _ in (await site.evidence()).selection.banks] == [HashAlg.SHA256]
        await activate(site.admin, golden["of sha384"])
        await trusted(site.agent)
        assert [bank for bank, _ in (await site.evidence()).selection.banks] == [HashAlg.SHA256, HashAlg.SHA384]

    golden: dict[str, bytes] = {}

    async def capture_there(site: Site) -> None:
        golden["of sha384"] = await site.captured()

    play(("sha384",), capture_there)
    play(("sha256", "sha384"), scenario)


def test_a_tpm_with_sha1_alone_is_a_finding_with_a_remedy_and_the_agent_lives() -> None:
    async def scenario(site: Site) -> None:
        await site.finds("pcr.no-bank")
        async with loader(site.agent) as client:
            (finding,) = (await client.call(f"{KEYS_INTERFACE}.Status")).parameters["findings"]  # type: ignore[misc]
        assert finding["seen"] == "only sha1"  # type: ignore[has-type]
        with pytest.raises(grpc.aio.AioRpcError, match="no active PCR bank of SHA-2"):
            await site.evidence()
        assert "tpm2_pcrallocate" in finding["remedy"]  # type: ignore[has-type]

    play(("sha1",), scenario)
