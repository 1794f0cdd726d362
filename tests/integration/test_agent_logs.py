"""Which logs an agent sends, round by round, from a software-TPM machine to a scripted verifier."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterator

import pytest

from nodeseal.evidence.claims import decode_claims
from nodeseal.evidence.logs import MAX_LOG_PIECE
from nodeseal.ima.log import replay_ima
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.pcr import pcr_digest
from nodeseal.v1 import attestation_pb2
from support.agents import World, agent_process, eventually, loader, play, running, trusted
from support.ima import decode_ima_log
from support.machines import a_machine, a_vendor
from support.scripted_verifier import NOTHING_KNOWN


@pytest.fixture(scope="module")
def vendors_machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        yield machine


@pytest.fixture(name="machine")
def _booted(vendors_machine: Machine) -> Machine:
    """The machine, booted anew, with a kernel that measures."""
    vendors_machine.boot(sample_boot_log(SampleBoot()), ima=True)
    return vendors_machine


def whole(here: World) -> list[attestation_pb2.Evidence]:
    """Return the rounds that brought a boot log."""
    return [each for each in here.verifier.seen if each.boot_log]


def reboot(here: World) -> None:
    """Boot another kernel."""
    here.machine.boot(sample_boot_log(SampleBoot(kernel=b"another kernel")), ima=True)
    here.config.host.boot_id.write_text(f"{uuid.uuid4()}\n")


def measure(here: World, path: str) -> Awaitable[None]:
    return asyncio.to_thread(here.machine.measure, path)


def test_the_first_round_has_whole_logs_and_the_next_ones_only_what_is_new(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        await measure(here, "/usr/bin/a")
        before = here.ima_log
        async with running(here.config):
            await eventually(lambda: len(here.verifier.seen) >= 2)
            first, second = here.verifier.seen[:2]
            assert (first.boot_log, first.ima.offset, first.ima.entries) == (here.boot_log, 0, before)
            assert (second.boot_log, second.ima.offset, second.ima.entries) == (b"", len(before), b"")
            await measure(here, "/usr/bin/b")
            added = here.ima_log[len(before) :]
            later = here.verifier.seen
            await eventually(lambda: any(each.ima.entries for each in later[2:]))
            (delta,) = [each for each in later[2:] if each.ima.entries]
            assert (delta.boot_log, delta.ima.offset, delta.ima.entries) == (b"", len(before), added)
            assert delta.ima.hash == HashAlg.SHA1

    play(machine, scenario)


def test_the_log_never_falls_short_of_the_quote_while_files_are_measured(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.interval = 0.0
        here.verifier.learns = False
        async with running(here.config):
            await eventually(lambda: here.verifier.seen)
            for number in range(100):
                await measure(here, f"/usr/bin/{number}")
        for evidence in here.verifier.seen:
            entries = decode_ima_log(evidence.ima.entries)
            prefixes = {replay_ima(entries[:end], HashAlg.SHA256) for end in range(len(entries) + 1)}
            assert evidence.pcr_values[10] in prefixes
            quoted = decode_attest(evidence.attest).quoted.pcr_digest
            assert quoted == pcr_digest(HashAlg.SHA256, tuple(evidence.pcr_values))

    play(machine, scenario)


def test_a_reboot_sends_everything(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
            await asyncio.to_thread(reboot, here)
            await eventually(lambda: len(whole(here)) >= 2)
        evidence = whole(here)[1]
        assert (evidence.boot_log, evidence.ima.offset, evidence.ima.entries) == (here.boot_log, 0, here.ima_log)
        assert len(evidence.pcr_values) == 17

    play(machine, scenario)


def test_a_verifier_that_forgot_is_told_everything_again(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
            here.verifier.known = NOTHING_KNOWN
            await eventually(lambda: len(whole(here)) >= 2)
        evidence = whole(here)[1]
        assert (evidence.boot_log, evidence.ima.entries) == (here.boot_log, here.ima_log)
        assert len(evidence.pcr_values) == 17

    play(machine, scenario)


def test_a_restarted_agent_goes_on_where_the_verifier_is(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
        known = len(here.ima_log)
        await measure(here, "/usr/bin/while-the-agent-was-down")
        count = len(here.verifier.seen)
        async with running(here.config):
            await eventually(lambda: len(here.verifier.seen) > count)
        evidence = here.verifier.seen[count]
        assert (evidence.boot_log, evidence.ima.offset) == (b"", known)
        assert evidence.ima.entries == here.ima_log[known:]

    play(machine, scenario)


def test_a_long_log_travels_in_stretches(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        for number in range(1300):
            here.machine.measure(f"/{number}/".ljust(4000, "x"))
        assert len(here.ima_log) > 5_000_000
        async with running(here.config):
            await eventually(lambda: len(here.verifier.seen) >= 2)
        size = len(here.boot_log) + len(here.ima_log)
        assert here.verifier.messages[:2] == [-(-size // MAX_LOG_PIECE), 1]
        assert (here.verifier.seen[0].boot_log, here.verifier.seen[0].ima.entries) == (here.boot_log, here.ima_log)

    play(machine, scenario)


def test_a_release_proves_itself_with_logs_too(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.learns = False
        for number in range(70):
            here.machine.measure(f"/{number}/".ljust(4000, "x"))
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            assert not (await client.open()).error
        (proof,) = here.verifier.releases
        assert (proof.evidence.boot_log, proof.evidence.ima.entries) == (here.boot_log, here.ima_log)
        assert len(proof.evidence.pcr_values) == 17

    play(machine, scenario)


def test_a_node_without_logs_says_so_by_sending_none(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.machine.reset()
        async with running(here.config):
            await eventually(lambda: here.verifier.seen)
        assert not here.verifier.seen[0].boot_log
        assert not here.verifier.seen[0].HasField("ima")

    play(machine, scenario)


def test_claims_name_the_firmware(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        (here.config.host.firmware / "bios_vendor").write_text("American Megatrends Inc.\n")
        (here.config.host.firmware / "bios_version").write_text("2.4\n")
        async with running(here.config):
            await eventually(lambda: here.verifier.seen)
        claims = decode_claims(here.verifier.seen[0].claims)
        assert (claims.firmware_vendor, claims.firmware_version) == ("American Megatrends Inc.", "2.4")

    play(machine, scenario)


def test_the_agents_log_has_no_line_of_the_logs(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        await measure(here, "/usr/bin/a-secret-project")
        with agent_process(machine.tcti, here.config.verifier) as agent:
            await trusted(agent)
            assert await asyncio.to_thread(agent.stop) == 0
            assert "a-secret-project" not in agent.log
            assert "shimx64" not in agent.log

    play(machine, scenario)
