"""Attacks on time and resets, over gRPC against a running verifier: rows t01 to t04.

Where the TPM's own behaviour matters, a software-TPM machine shows it; counters that no test can wait for are a
:class:`support.attackers.ClockworkTpm`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import ClockInfo
from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import (
    NODE_STATE_QUARANTINED,
    NODE_STATE_STALE,
    NODE_STATE_TRUSTED,
    NODE_STATE_UNTRUSTED,
    NodeState,
    Verdict,
)
from support.admin import Entitled, Sealed, activate, entitled, grant, trusted_node
from support.attackers import admitted_node, last_finding_ids, seen_by
from support.fake_node import FakeNode, FakeStream, a_node, golden_of
from support.forged_rounds import Scene, a_scene
from support.in_process import MovableClocks, in_process
from support.machine_tpm import ClockworkTpm, MachineTpm, tpm_of
from support.machines import a_machine, judged_pcrs, need
from support.verifier import RunningVerifier, Stubs, a_verifier, refused

SHA256 = HashAlg.SHA256
BOOT_LOG = sample_boot_log(SampleBoot())
HOUR_MS = 3_600_000
OTHER_BOOT = "3f0c7c9e-0000-4000-8000-000000000002"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with a_scene(tmp_path_factory.mktemp("t")) as made:
        yield made


def ids(verdict: Verdict) -> set[str]:
    return {finding.id for finding in verdict.findings}


async def leased(node: FakeNode, model: Sealed, admin: Stubs) -> str:
    """Let a node open the model and return its lease."""
    await grant(admin, node)
    return await Entitled(verifier=node.verifier, admin=admin, node=node, model=model).lease()


async def lost(admin: Stubs, node: FakeNode, lease: str, stream: FakeStream | None = None) -> None:
    """See to it that a lease has ended for the operator, in the audit log, and for the node if it is connected."""
    assert list((await seen_by(admin, node)).leases) == []
    assert node.verifier.actions(f"lease/{lease}") == ["lease.issued", "lease.ended"]
    if stream is not None:
        assert list((await asyncio.wait_for(stream.revocation(), 5)).lease_ids) == [lease]


# t01, t02: real machines


@pytest.fixture
def machine(scene: Scene) -> Iterator[Machine]:
    need("swtpm")
    with a_machine(scene.verifier.vendor) as made:
        yield made


def on_booted(machine: Machine, case: Callable[[MachineTpm], Coroutine[None, None, None]]) -> None:
    """Boot a machine and play a case with its TPM."""
    machine.boot(BOOT_LOG)
    with tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


async def machine_node(scene: Scene, tpm: MachineTpm, admin: Stubs) -> tuple[FakeNode, str]:
    """Boot a machine, capture a golden from it, and return it as a trusted node with a lease."""
    node = await admitted_node(scene.verifier, tpm)
    async with node.attesting() as stream:
        if (await stream.round()).state != NODE_STATE_TRUSTED:  # the first of these machines; they all boot the same
            document = golden_of(node, name="machine")
            await activate(admin, document)
            await stream.round_until(NODE_STATE_TRUSTED)
    return node, await leased(node, scene.model, admin)


def test_t01_a_tpm_reset_with_replayed_extends_and_no_reboot_is_found(scene: Scene, machine: Machine) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with scene.verifier.person() as admin:
            node, lease = await machine_node(scene, tpm, admin)
            async with node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED
                before = judged_pcrs(machine)
                machine.boot(BOOT_LOG)  # the same values again, but the operating system ran on
                tpm.connect()
                assert judged_pcrs(machine) == before
                for _ in range(3):  # asking again does not make it better
                    verdict = await stream.round()
                    assert (verdict.state, ids(verdict)) == (NODE_STATE_UNTRUSTED, {"clock.reset-without-reboot"})
                await lost(admin, node, lease, stream)
                refusal = await refused(node.release(scene.model.digest, [scene.model.slot]))
                assert refusal.findings == ("release.node-state", "clock.reset-without-reboot")
            async with node.attesting() as stream:  # nor does connecting again
                assert (await stream.round()).state == NODE_STATE_UNTRUSTED
                machine.boot(BOOT_LOG)
                tpm.connect()
                node.boot_id, node.leases = OTHER_BOOT, ()
                assert (await stream.round()).state == NODE_STATE_TRUSTED  # a reboot does
            await lost(admin, node, lease)

    on_booted(machine, case)


def test_t01_a_reset_while_the_node_was_away_is_found(scene: Scene, machine: Machine) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with scene.verifier.person() as admin:
            node, lease = await machine_node(scene, tpm, admin)
            machine.boot(BOOT_LOG)
            tpm.connect()
            async with node.attesting() as stream:
                assert ids(await stream.round()) == {"clock.reset-without-reboot"}
                await lost(admin, node, lease, stream)

    on_booted(machine, case)


def test_t01_a_reset_that_replays_the_clean_boot_of_a_tampered_machine_is_found(scene: Scene, machine: Machine) -> None:
    """This is what t01 is for: hide a measurement by resetting the TPM and extending only the good values again."""

    async def case(tpm: MachineTpm) -> None:
        async with scene.verifier.person() as admin:
            node, lease = await machine_node(scene, tpm, admin)
            async with node.attesting() as stream:
                await stream.round()
                machine.extend(4, hashlib.sha256(b"another boot loader").digest())
                assert ids(await stream.round()) == {"pcr.mismatch"}
                await lost(admin, node, lease, stream)
                machine.boot(BOOT_LOG)
                tpm.connect()
                verdict = await stream.round()
                assert (verdict.state, ids(verdict)) == (NODE_STATE_UNTRUSTED, {"clock.reset-without-reboot"})

    on_booted(machine, case)


@pytest.mark.parametrize("boot_id", ["", OTHER_BOOT], ids=["no reboot claimed", "a reboot claimed"])
def test_t02_tpm_state_restored_from_a_copy_is_quarantined(
    scene: Scene, machine: Machine, tmp_path: Path, boot_id: str
) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with scene.verifier.person() as admin:
            tpm.pass_time(HOUR_MS)
            node, lease = await machine_node(scene, tpm, admin)
            tpm.close()
            machine.stop()
            machine.restore(tmp_path / "copy")
            machine.boot(BOOT_LOG)
            tpm.connect()
            node.boot_id = boot_id or node.boot_id
            async with node.attesting() as stream:
                verdict = await stream.round()
                assert (verdict.state, verdict.trusted_for_ms) == (NODE_STATE_QUARANTINED, 0)
                assert ids(verdict) == {"clock.rollback"}
                await lost(admin, node, lease, stream)
                if not boot_id:
                    tpm.pass_time(2 * HOUR_MS)  # a clock that has caught up does not lift it
                assert (await stream.round()).state == NODE_STATE_QUARANTINED
            known = await seen_by(admin, node)
            assert (known.state, known.reason) == (NODE_STATE_QUARANTINED, "the clock ran backwards")
            assert (await refused(node.release(scene.model.digest, [scene.model.slot]))).findings[0] == (
                "release.node-state"
            )
            await admin.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=node.node_id))
            node.leases = ()
            async with node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED

    machine.boot(BOOT_LOG)
    machine.stop()
    machine.snapshot(tmp_path / "copy")
    on_booted(machine, case)


def test_t02_a_clock_that_runs_backwards_is_remembered_by_a_verifier_that_starts_anew(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            node = await trusted_node(verifier)
        assert verifier.stop() == 0
        verifier.start()
        now = node.tpm._milliseconds()
        node.tpm._milliseconds = lambda: now - HOUR_MS
        async with node.attesting() as stream, verifier.person() as admin:
            verdict = await stream.round()
            assert (verdict.state, ids(verdict)) == (NODE_STATE_QUARANTINED, {"clock.rollback"})
            node.tpm._milliseconds = lambda: now + HOUR_MS
            assert (await stream.round()).state == NODE_STATE_QUARANTINED
        verifier.kill()
        verifier.start()
        async with node.attesting() as stream, verifier.person() as admin:
            assert (await stream.round()).state == NODE_STATE_QUARANTINED
            assert (await seen_by(admin, node)).state == NODE_STATE_QUARANTINED

    with a_verifier(tmp_path, interval_seconds=0) as verifier:
        asyncio.run(case(verifier))


# t03: the decision table, written down once more as what comes of a round

BEFORE = ClockInfo(clock=10 * HOUR_MS, reset_count=7, restart_count=3, safe=True)
UPDATE_MS = 1 << 22
"""The longest that a TPM runs before it saves its clock (TPMS_CLOCK_INFO)."""
TRUSTED, UNTRUSTED, QUARANTINED = NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, NODE_STATE_QUARANTINED
RESET, ROLLBACK, UNSAFE = "clock.reset-without-reboot", "clock.rollback", "clock.unsafe"

COUNTERS = {
    "counters stand": {},
    "a restart": {"restart_count": 4},
    "fewer restarts": {"restart_count": 2},
    "a reset": {"reset_count": 8, "restart_count": 0},
    "fewer resets": {"reset_count": 6},
}
CLOCKS: dict[str, dict[str, object]] = {
    "runs on": {"clock": BEFORE.clock + 1000},
    "stands still": {"clock": BEFORE.clock},
    "jumps ahead": {"clock": BEFORE.clock + 100 * HOUR_MS},
    "runs on, unsafe": {"clock": BEFORE.clock + 1000, "safe": False},
    "a millisecond back": {"clock": BEFORE.clock - 1},
    "back as after a power loss": {"clock": BEFORE.clock - UPDATE_MS, "safe": False},
    "a millisecond further back": {"clock": BEFORE.clock - UPDATE_MS - 1, "safe": False},
    "zero": {"clock": 0},
}
FORWARD = ("runs on", "stands still", "jumps ahead")
POWER_LOSS = ("runs on, unsafe", "back as after a power loss")
STANDING, RESETTING = ("counters stand",), ("a reset", "fewer resets")


def outcome(counters: str, clock: str, *, new_boot: bool) -> tuple[int, set[str], bool]:
    """Return state, findings, and whether the lease goes on."""
    warning = {UNSAFE} if CLOCKS[clock].get("safe") is False else set()
    if counters in STANDING and clock in FORWARD:
        return TRUSTED, set(), not new_boot
    if new_boot and (clock in FORWARD or (counters in RESETTING and clock in POWER_LOSS)):
        return TRUSTED, warning, False
    found = set() if counters in STANDING or new_boot else {RESET}
    if clock not in FORWARD and not (counters in RESETTING and clock in POWER_LOSS):
        found |= {ROLLBACK}
    return (QUARANTINED if ROLLBACK in found else UNTRUSTED), found | warning, False


@pytest.mark.parametrize("new_boot", [False, True], ids=["same boot", "new boot"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("counters", COUNTERS)
def test_t03_each_change_of_clock_and_counters_has_its_outcome(
    scene: Scene,
    counters: str,
    clock: str,
    new_boot: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    async def case() -> None:
        tpm = ClockworkTpm(scene.verifier.vendor)
        tpm._pcrs, tpm.info = a_node(scene.verifier).tpm._pcrs, BEFORE
        node = await admitted_node(scene.verifier, tpm)
        async with scene.verifier.person() as admin, node.attesting() as stream:
            assert (await stream.round()).state == TRUSTED
            lease = await leased(node, scene.model, admin)
            tpm.info = BEFORE._replace(**COUNTERS[counters], **CLOCKS[clock])  # type: ignore[arg-type]  # its fields
            node.boot_id = OTHER_BOOT if new_boot else node.boot_id
            state, found, goes_on = outcome(counters, clock, new_boot=new_boot)
            verdict = await stream.round()
            assert (verdict.state, ids(verdict)) == (state, found), NodeState.Name(verdict.state)
            assert list((await seen_by(admin, node)).leases) == [lease] * goes_on
            ended = [] if goes_on else ["lease.ended"]
            assert scene.verifier.actions(f"lease/{lease}") == ["lease.issued", *ended]
            if found:
                assert set(last_finding_ids(scene.verifier, node)) == found

    asyncio.run(case())


# t04: silence, death and other clocks


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[RunningVerifier]:
    """A verifier whose trust ends after three seconds."""
    with a_verifier(tmp_path, interval_seconds=0, trust_seconds=3, answer_within_seconds=1) as running:
        yield running


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[RunningVerifier]:
    """A verifier that trusts for a minute, set up and not started."""
    with a_verifier(tmp_path, start=False, interval_seconds=0, trust_seconds=60) as made:
        yield made


@pytest.fixture
def clocks() -> MovableClocks:
    """Clocks for a verifier in this process."""
    return MovableClocks()


async def stale_and_lost(admin: Stubs, node: FakeNode, lease: str) -> None:
    """Wait until a node is stale, which holds before it is recorded, and see to it that its lease has ended."""
    for _ in range(600):
        known = await seen_by(admin, node)
        recorded = "lease.ended" in node.verifier.actions(f"lease/{lease}")
        if known.state == NODE_STATE_STALE and not known.leases and recorded:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"not stale: {known}")
    await lost(admin, node, lease)


def test_t04_a_silent_node_is_stale_at_its_time_and_its_lease_ends_with_a_record(quick: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(quick) as scene:
            lease = await scene.lease()
            async with scene.node.attesting() as stream:
                await stream.round()
                ends = (await seen_by(scene.admin, scene.node)).trusted_until.ToDatetime(UTC)
                assert (await stream.end()).findings == ("quote.nonce",)  # it never answered the next challenge
            await stale_and_lost(scene.admin, scene.node, lease)
        (ended,) = [each for each in quick.records() if each["action"] == "lease.ended"]
        assert datetime.fromisoformat(ended["time"]) >= ends
        assert "stale" in ended["details"]["reason"]

    asyncio.run(case())


def test_t04_trust_does_not_outlive_a_verifier_that_was_killed(quick: RunningVerifier) -> None:
    async def case() -> None:
        async with entitled(quick) as scene:
            lease = await scene.lease()
        quick.kill()
        await asyncio.sleep(3)
        quick.start()
        async with quick.person() as admin:
            assert (await seen_by(admin, scene.node)).state == NODE_STATE_STALE  # from its first answer on
            await stale_and_lost(admin, scene.node, lease)

    asyncio.run(case())


JUMPS = pytest.mark.parametrize("jump", [timedelta(hours=-12), timedelta(hours=12)], ids=["back", "ahead"])


@JUMPS
def test_t04_setting_the_verifiers_time_neither_ends_nor_extends_trust(
    stopped: RunningVerifier, clocks: MovableClocks, jump: timedelta
) -> None:
    async def case() -> None:
        async with in_process(stopped, clocks), entitled(stopped) as scene:
            lease, node = await scene.lease(), scene.node
            async with node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED
                open_challenge = await stream.challenge()
                clocks.wall_ahead += jump
                await stream.send(node.evidence(open_challenge))  # on its way while the time was set
                assert (await stream.verdict()).state == NODE_STATE_TRUSTED
                assert (await stream.round()).state == NODE_STATE_TRUSTED
            await asyncio.sleep(0.7)  # a sweep
            known = await seen_by(scene.admin, node)
            assert (known.state, list(known.leases)) == (NODE_STATE_TRUSTED, [lease])
            clocks.steady_ahead += 60
            assert (await seen_by(scene.admin, node)).state == NODE_STATE_STALE
            await stale_and_lost(scene.admin, node, lease)

    asyncio.run(case())


def test_t04_a_stale_node_gets_no_key_and_no_certificate_until_it_proves_itself(
    stopped: RunningVerifier, clocks: MovableClocks
) -> None:
    async def case() -> None:
        async with in_process(stopped, clocks), entitled(stopped) as scene:
            node = scene.node
            clocks.steady_ahead += 60
            refusal = await scene.denied()
            assert refusal.findings == ("release.node-state",)
            assert "seen stale" in refusal.details
            assert (await refused(node.renew(node.key))).findings == ("node.not-trusted",)
            async with node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED
            assert await scene.lease()

    asyncio.run(case())


@JUMPS
def test_t04_a_time_set_while_the_verifier_was_down_extends_no_trust(
    stopped: RunningVerifier, clocks: MovableClocks, jump: timedelta
) -> None:
    """The end of trust is stored by the time of day; no start makes more of it than a round would have given."""

    async def case() -> None:
        async with in_process(stopped, clocks), entitled(stopped) as scene:
            lease = await scene.lease()
        clocks.wall_ahead += jump
        async with in_process(stopped, clocks), stopped.person() as admin:
            if jump < timedelta():
                assert (await seen_by(admin, scene.node)).state == NODE_STATE_TRUSTED
                clocks.steady_ahead += 60
            assert (await seen_by(admin, scene.node)).state == NODE_STATE_STALE
            await stale_and_lost(admin, scene.node, lease)

    asyncio.run(case())
