"""TPMs with several endorsement certificates, with unwritten ones, and with a password before their hierarchy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.agent.config import AgentConfig
from nodeseal.agent.enrol import each_identity
from nodeseal.agent.identity import Identity
from nodeseal.agent.service import Agent
from nodeseal.agent.tpm.connection import Connection
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.crypto.credential import make_credential
from nodeseal.errors import MalformedInput, PolicyRefused
from nodeseal.ids import digest_of
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.public import TpmPublic, decode_public
from nodeseal.v1 import admin_pb2
from support.agents import agent_config, short_folder
from support.machines import a_machine, a_vendor
from support.nv_indices import define_nv, write_nv
from support.scripted_verifier import ScriptedVerifier
from support.verifier import RunningVerifier, a_verifier

UNIQUE = bytes(range(64))
P256 = template("L-2")
PASSWORD = b"a password of the endorsement hierarchy"


@contextmanager
def connected(machine: Machine) -> Iterator[Connection]:
    connection = Connection(machine.tcti)
    try:
        yield connection
    finally:
        connection.close()


def endorsement_key(connection: Connection, name: str) -> TpmPublic:
    return decode_public(connection.create_primary(ESYS_TR.ENDORSEMENT, template(name).public.encode()).public)


def certify(machine: Machine, vendor: TpmVendor, name: str = "L-1") -> None:
    """Give a TPM a certificate for another of its endorsement keys."""
    with connected(machine) as connection:
        certificate = vendor.issue(endorsement_key(connection, name))
        write_nv(connection, template(name).certificate_nv_index, certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A machine whose P-256 certificate is of one vendor and whose RSA one is of another, and a verifier.

    Attributes:
        machine: the machine.
        verifier: trusts some of the vendors.
        config: of the machine's agent.
    """

    machine: Machine
    verifier: RunningVerifier
    config: AgentConfig

    async def enrolled(self) -> Identity:
        """Enrol with an agent that starts for it and ends."""
        agent = Agent(self.config)
        try:
            return await agent.enrol()
        finally:
            await agent.close()

    def enrolments(self) -> list[dict[str, str]]:
        """Return the details of every enrolment on record."""
        return [record["details"] for record in self.verifier.records() if record["action"] == "node.enrolled"]


class At(ScriptedVerifier):
    """Stands for a verifier that runs elsewhere, in the configuration of an agent."""

    def as_config(self, folder: Path) -> VerifierConfig:
        return VerifierConfig(
            address=self.address, enrol_address=self.enrol_address, ca_file=folder / "ca.pem", server_name="localhost"
        )


@asynccontextmanager
async def a_site(folder: Path, *, trusts: tuple[str, ...]) -> AsyncIterator[Site]:
    """Run a verifier that trusts the vendors of these certificates: ``ecc``, ``rsa``, both or none."""
    with a_vendor() as ecc, a_vendor() as rsa, a_machine(ecc) as machine:
        certify(machine, rsa)
        with a_verifier(folder, TpmVendor.create(folder / "nobody", "nobody"), start=False) as verifier:
            for name, vendor in (("ecc", ecc), ("rsa", rsa)):
                if name in trusts:
                    (verifier.folder / "ek-roots" / f"{name}.pem").write_bytes(vendor.root_pem)
                    (verifier.folder / "ek-roots" / f"{name}.der").write_bytes(vendor.intermediate)
            verifier.start()
            async with short_folder() as agents:
                (agents / "ca.pem").write_bytes(verifier.ca)
                script = At(address=verifier.listen, enrol_address=verifier.listen_enrol)
                yield Site(machine=machine, verifier=verifier, config=agent_config(agents, machine.tcti, script))


def play(folder: Path, scenario: Callable[[Site], Awaitable[None]], *, trusts: tuple[str, ...]) -> None:
    async def whole() -> None:
        async with a_site(folder, trusts=trusts) as site:
            await scenario(site)

    asyncio.run(whole())


def test_after_a_refused_certificate_the_next_one_is_shown(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        identity = await site.enrolled()
        (enrolment,) = site.enrolments()
        assert enrolment["ek_template"] == "L-1"
        assert [each["event"] for each in site.verifier.log()].count("call refused") == 1
        agent = Agent(site.config)
        assert await agent._identity() == identity
        assert (await agent.enrol()).node_id == identity.node_id
        await agent.close()
        assert [each["event"] for each in site.verifier.log()].count("call refused") == 1

    play(tmp_path, scenario, trusts=("rsa",))


def test_the_best_of_several_good_certificates_is_taken(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.enrolled()
        assert [each["ek_template"] for each in site.enrolments()] == ["L-2"]

    play(tmp_path, scenario, trusts=("ecc", "rsa"))


def test_without_a_good_certificate_every_refusal_is_told(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        with capture_logs() as logged, pytest.raises(PolicyRefused) as refused:
            await site.enrolled()
        assert refused.value.findings[0].id.code == "ek.untrusted-root"
        assert site.enrolments() == []
        with connected(site.machine) as connection:
            expected = [(name, digest_of(endorsement_key(connection, name).encode())) for name in ("L-2", "L-1")]
        assert [(each["template"], each["ek_sha256"]) for each in logged] == expected

    play(tmp_path, scenario, trusts=())


def test_a_retired_node_does_not_come_back_by_its_other_key(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        identity = await site.enrolled()
        async with site.verifier.person() as admin:
            await admin.nodes.RetireNode(admin_pb2.RetireNodeRequest(node_id=identity.node_id, reason="sold"))
        with pytest.raises(PolicyRefused) as refused:
            await site.enrolled()
        assert [finding.id.code for finding in refused.value.findings] == ["node.retired"]
        assert len(site.enrolments()) == 1

    play(tmp_path, scenario, trusts=("ecc", "rsa"))


# Slots without content


@pytest.mark.parametrize("content", [None, b"\xff" * 64, bytes(64)], ids=["never written", "0xFF", "0x00"])
def test_an_index_without_a_certificate_is_no_slot(content: bytes | None) -> None:
    with a_vendor() as vendor, a_machine(vendor, ek="L-1") as machine, connected(machine) as connection:
        if content is None:
            define_nv(connection, P256.certificate_nv_index, 64)
        else:
            write_nv(connection, P256.certificate_nv_index, content)
        define_nv(connection, 0x01C00101, 64)
        device = Device(connection, UNIQUE)
        shown = device.identity()
        assert device.templates() == (shown.template,) == ("L-1",)
        assert len(shown.ek_certificates) == len(shown.ek_chain) == 1


def test_without_any_certificate_both_usual_keys_are_shown() -> None:
    from support.bare_tpm import bare_tpm  # noqa: PLC0415  # the only test without a machine

    async def scenario(tcti: str) -> list[str]:
        owner = TpmOwner(tcti, UNIQUE, 20)
        try:
            return [shown.template async for shown in each_identity(owner)]
        finally:
            owner.close()

    with bare_tpm() as tcti:
        assert asyncio.run(scenario(tcti)) == ["L-2", "L-1"]


def test_a_certificate_comes_first_when_its_key_is_shown() -> None:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        certify(machine, vendor)
        with connected(machine) as connection:
            device = Device(connection, UNIQUE)
            first, second = device.use("L-2"), device.use("L-1")
            assert first.ek_certificates == second.ek_certificates[::-1]
            assert first.ek_public != second.ek_public
            assert device.identity() == second
            secret = os.urandom(32)
            made = make_credential(decode_public(second.ek_public), decode_public(second.ak_public).name(), secret)
            assert device.activate(made.id_object, made.encrypted_secret) == secret


# A password before the endorsement hierarchy


@contextmanager
def a_locked_machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        with connected(machine) as connection:
            connection.esys.hierarchy_change_auth(ESYS_TR.ENDORSEMENT, PASSWORD)
        yield machine


def test_the_password_opens_the_endorsement_hierarchy() -> None:
    with a_locked_machine() as machine:
        device = Device(Connection(machine.tcti, PASSWORD), UNIQUE)
        shown, secret = device.identity(), os.urandom(32)
        made = make_credential(decode_public(shown.ek_public), decode_public(shown.ak_public).name(), secret)
        assert device.activate(made.id_object, made.encrypted_secret) == secret
        device.close()


@pytest.mark.parametrize("password", [b"", b"another"])
def test_without_the_password_the_refusal_says_where_it_goes(password: bytes) -> None:
    with a_locked_machine() as machine:
        device = Device(Connection(machine.tcti, password), UNIQUE)
        with pytest.raises(TpmFailed) as refused:
            device.identity()
        device.close()
    assert "endorsement_auth_file" in refused.value.remedy
    assert not password or password.decode() not in str(refused.value)


def test_the_agent_reads_the_password_from_a_private_file(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(machine: Machine) -> None:
        async with short_folder() as folder:
            file = folder / "auth"
            file.write_bytes(PASSWORD + b"\n")
            file.chmod(0o600)
            config = replace(agent_config(folder, machine.tcti, At()), endorsement_auth_file=file)
            agent = Agent(config)
            assert [shown.template async for shown in each_identity(agent._tpm)] == ["L-2"]
            await agent.close()
            file.chmod(0o640)
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
            await Agent(config).close()
            monkeypatch.delenv("CREDENTIALS_DIRECTORY")
            with pytest.raises(MalformedInput, match="other users may read") as refused:
                Agent(config)
            assert PASSWORD.decode() not in f"{refused.value} {config}"

    with a_locked_machine() as machine, capture_logs() as logged:
        asyncio.run(scenario(machine))
    assert PASSWORD.decode() not in str(logged)
