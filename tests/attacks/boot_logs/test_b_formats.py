"""Attacks by boot logs that are none, and logs that the specification allows: rows b05, b06 and b08."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc
import pytest
from grpc import aio

from nodeseal.crypto.tls_identity import to_pem
from nodeseal.evidence.logs import MAX_BOOT_LOG
from nodeseal.golden.document import dump_golden
from nodeseal.swtpm.sample_log import sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import MAX_EVENTS, Event, EventLog, EventLogFormat, decode_event_log, encode_event_log
from nodeseal.uefi.event_log_types import EventType
from nodeseal.v1 import attestation_pb2_grpc
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED, NODE_STATE_UNTRUSTED, Evidence
from support.admin import activate
from support.attackers import seen_by
from support.boot_logs import inserted, measured, place_of, replaced, without
from support.fake_node import FakeStream, boot_log_stretches
from support.logged import LoggedNode
from support.machine_tpm import MachineTpm, tpm_of
from support.machines import a_machine
from support.suspects import (
    GOOD,
    GOOD_LOG,
    LOG,
    SHA1,
    SHA256,
    Court,
    a_court,
    a_trial,
    exact_golden,
    ids,
    places,
    rules_golden,
    telling,
)
from support.verifier import Refusal, RunningVerifier, refusal_of

SHA384: Final = HashAlg.SHA384
FIRST: Final = 12 + 20 + struct.unpack_from("<I", GOOD_LOG, 28)[0]
"""Where the event after the Specification ID begins."""
HUNDRED_MB: Final = 100 * 1024 * 1024


# b05: no log at all


def sized(count: int) -> bytes:
    """Return the good log with another size of the first event's data."""
    at = FIRST + 12 + 2 + 32
    return GOOD_LOG[:at] + struct.pack("<I", count) + GOOD_LOG[at + 4 :]


def counted(count: int) -> bytes:
    """Return the good log with another number of digests in its first event."""
    return GOOD_LOG[: FIRST + 8] + struct.pack("<I", count) + GOOD_LOG[FIRST + 12 :]


def identified(at: int, form: str, value: int) -> bytes:
    """Return the good log with another value in its Specification ID."""
    spot = 32 + at
    return GOOD_LOG[:spot] + struct.pack(form, value) + GOOD_LOG[spot + struct.calcsize(form) :]


MANY: Final = encode_event_log(
    replace(LOG, events=LOG.events + (measured(8, EventType.IPL, b""),) * (MAX_EVENTS + 1 - len(LOG.events)))
)
BROKEN: Final[dict[str, tuple[bytes, str]]] = {
    "cut off in its last event": (GOOD_LOG[:-1], "cut off"),
    "cut off in its Specification ID": (GOOD_LOG[:40], "cut off"),
    "one byte": (b"\1", "cut off"),
    "data of 4 GB": (sized(0xFFFFFFFF), "4294967295 bytes of data, at most 1048576"),
    "data of 100 MB": (sized(HUNDRED_MB), "104857600 bytes of data, at most 1048576"),
    "more data than is left": (sized(len(GOOD_LOG)), "cut off"),
    "4,294,967,295 digests of one event": (counted(0xFFFFFFFF), "4294967295 digests for 1 banks"),
    "no digest": (counted(0), "0 digests for 1 banks"),
    "4,294,967,295 banks": (identified(24, "<I", 0xFFFFFFFF), "cut off"),
    "no bank": (identified(24, "<I", 0), "none of the banks"),
    "a bank that nobody knows": (identified(28, "<H", 0x00FF), "bank 0x00ff is unknown"),
    "digests of another size than their bank's": (identified(30, "<H", 20), "has 32 bytes, not 20"),
    "no Specification ID": (GOOD_LOG[FIRST:], "event"),
    "too many events": (MANY, f"more than {MAX_EVENTS} events"),
    "noise": (bytes(range(1, 255)) * 100, "event"),
}


@pytest.mark.parametrize("golden", ["exact", "rules"])
@pytest.mark.parametrize("what", BROKEN)
def test_b05_a_broken_log_is_refused_with_the_reason(court: Court, what: str, golden: str) -> None:
    log, reason = BROKEN[what]

    async def case() -> None:
        async with a_trial(court, golden) as trial:
            began = time.monotonic()
            found = await trial.refused(telling(log))
            assert time.monotonic() - began < 5
            (broken,) = [each for each in found if each.id == "uefi.log-malformed"]
            assert reason in broken.seen
            assert ids(found) == {"uefi.log-malformed"}
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


def test_b05_a_log_that_says_nothing_is_no_log(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as trial:
            trial.node.reboot_by(GOOD_LOG)
            trial.node.boot_log = b""
            assert ids(await trial.refused(telling(b""))) == {"uefi.log-missing"}
            trial.node.leases = ()
            found = await trial.refused(telling(bytes(4096)))
            assert {"uefi.log-malformed"} <= ids(found)

    asyncio.run(case())


def most_memory_of(verifier: RunningVerifier) -> int:
    lines = Path(f"/proc/{verifier.process.pid}/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def test_b05_others_keep_their_deadlines_while_the_longest_logs_are_judged(court: Court) -> None:
    """As many events as there may be, at the largest size: judged in a thread, within bounds."""
    filler = measured(8, EventType.IPL, bytes(150))
    events = LOG.events + (filler,) * (MAX_EVENTS - len(LOG.events))
    longest = encode_event_log(replace(LOG, events=events))
    assert 0.75 * MAX_BOOT_LOG < len(longest) <= MAX_BOOT_LOG

    async def case() -> None:
        async with a_trial(court, "rules") as hostile, a_trial(court, "rules") as honest:
            before = most_memory_of(court.verifier)
            for message in telling(longest)(hostile.node, await hostile.stream.challenge()):
                await hostile.stream.send(message)
            judging = asyncio.create_task(hostile.stream.verdict())
            rounds = 0
            while not judging.done():
                await asyncio.wait_for(honest.believed(), 5)
                rounds += 1
            assert rounds > 1
            verdict = await judging
            assert verdict.state == NODE_STATE_UNTRUSTED
            assert "uefi.command-line" in ids(verdict.findings)
            assert most_memory_of(court.verifier) - before < 32 * MAX_BOOT_LOG

    asyncio.run(case())


def test_b05_a_log_of_100_megabytes_ends_the_stream_and_costs_nobody_else_anything(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "rules") as hostile, a_trial(court, "rules") as honest:
            before = most_memory_of(court.verifier)
            flood = asyncio.create_task(asyncio.to_thread(_flooded, hostile.node))
            while not flood.done():
                await asyncio.wait_for(honest.believed(), 5)
            refusal = flood.result()
            assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
            assert refusal.details == f"boot log: more than {MAX_BOOT_LOG} bytes"
            assert most_memory_of(court.verifier) - before < 4 * MAX_BOOT_LOG
            async with hostile.node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED  # with the true log

    asyncio.run(case())


def _flooded(node: LoggedNode) -> Refusal:
    """Answer the first challenge by logs without end; a call of a thread shows the status that a write may hide."""
    challenged = threading.Event()

    def messages() -> Iterator[Evidence]:
        assert challenged.wait(20)
        yield from boot_log_stretches(bytes(HUNDRED_MB))

    credentials = grpc.ssl_channel_credentials(node.verifier.ca, node.key, to_pem(*node.chain))
    with grpc.secure_channel(node.verifier.listen, credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            for _ in attestation_pb2_grpc.AttestationStub(channel).Attest(messages(), timeout=60):
                challenged.set()
        except grpc.RpcError as error:
            return refusal_of(error)
    raise AssertionError("not refused")


# b06: what the specification allows


def located(locality: int, *, log: EventLog = LOG, at: int = 0) -> EventLog:
    """Return ``log`` with a Startup Locality event."""
    event = Event(
        pcr=0,
        claimed_type=EventType.NO_ACTION,
        digests={bank: bytes(bank.digest_size) for bank in log.algorithms},
        data=b"StartupLocality\0" + bytes([locality]),
    )
    return inserted(log, at, event)


HCRTM: Final = inserted(located(4), 1, measured(0, EventType.EFI_HCRTM_EVENT, b"HCRTM", b"what the H-CRTM measured"))
BOTH: Final = decode_event_log(sample_boot_log(GOOD, (SHA1, SHA256)))
"""The good log in two banks, of which the TPM and its quotes have one."""


def in_sha1_only(log: EventLog, at: int) -> EventLog:
    """Return ``log`` with an event that was extended in one of its two banks."""
    return replaced(log, at, digests={SHA1: log.events[at].digests[SHA1]})


SHA1_ONLY: Final = in_sha1_only(BOTH, place_of(BOTH, 1))
AS_SPECIFIED: Final[dict[str, tuple[EventLog, dict[str, tuple[EventLog, list[tuple[str, str]]]]]]] = {
    "startup locality 3": (
        located(3),
        {
            "does not say so": (LOG, [("uefi.replay", "sha256 PCR 0")]),
            "says 0": (located(0), [("uefi.replay", "sha256 PCR 0")]),
            "says 4": (located(4), [("uefi.replay", "sha256 PCR 0")]),
            "says 1": (located(1), [("uefi.log-malformed", "boot log")]),
            "says 3 and 4": (located(4, log=located(3)), [("uefi.log-malformed", "boot log")]),
        },
    ),
    "startup locality 3, said late": (
        located(3, at=5),
        {"does not say so": (LOG, [("uefi.replay", "sha256 PCR 0")])},
    ),
    "an H-CRTM": (
        HCRTM,
        {
            "leaves its event out": (without(HCRTM, 1), [("uefi.replay", "sha256 PCR 0")]),
            "leaves its mark out": (without(HCRTM, 0), [("uefi.replay", "sha256 PCR 0")]),
            "says locality 3": (replaced(HCRTM, 0, data=b"StartupLocality\0\3"), [("uefi.replay", "sha256 PCR 0")]),
        },
    ),
    "two banks, of which one is quoted": (
        BOTH,
        {
            "alters the digest that is quoted": (
                replaced(BOTH, 0, digests={**BOTH.events[0].digests, SHA256: bytes(32)}),
                [("uefi.replay", "sha256 PCR 0")],
            ),
            "leaves out the digest that is quoted": (in_sha1_only(BOTH, 0), [("uefi.replay", "sha256 PCR 0")]),
            "leaves out the bank that is quoted": (
                decode_event_log(sample_boot_log(GOOD, (SHA1,))),
                [("uefi.log-malformed", "boot log")],
            ),
            "has another bank than the one quoted": (
                decode_event_log(sample_boot_log(GOOD, (SHA384,))),
                [("uefi.log-malformed", "boot log")],
            ),
        },
    ),
    "an event that was extended in the bank that is not quoted": (
        SHA1_ONLY,
        {"has it in the quoted bank too": (BOTH, [("uefi.replay", "sha256 PCR 1")])},
    ),
    "digests in another order": (
        replaced(BOTH, 3, digests=dict(reversed([*BOTH.events[3].digests.items()]))),
        {"has another event's": (replaced(BOTH, 3, digests=BOTH.events[4].digests), [("uefi.replay", "sha256 PCR 7")])},
    ),
}


@pytest.mark.parametrize("what", AS_SPECIFIED)
def test_b06_what_the_specification_allows_is_trusted_and_one_fact_less_is_not(court: Court, what: str) -> None:
    log, lies = AS_SPECIFIED[what]
    label = what.lower().replace(" ", "-").replace(",", "")

    async def case() -> None:
        async with court.verifier.person() as admin:
            await activate(admin, dump_golden(exact_golden(log, label)))
        async with a_trial(court, label, log) as trial:
            for how, (lie, found) in lies.items():
                assert places(await trial.refused(telling(lie))) == found, how
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


def test_b06_a_legacy_log_explains_nothing_in_the_banks_that_count(court: Court) -> None:
    """The SHA-1 digests are right, and may even be quoted: nobody's trust is built on them."""
    events = tuple(event for event in decode_event_log(sample_boot_log(GOOD, (SHA1,))).events)
    legacy = EventLog((SHA1,), events, EventLogFormat.SHA1)

    async def case() -> None:
        for golden in ("exact", "rules"):
            async with a_trial(court, golden) as trial:
                found = await trial.refused(telling(legacy))
                (broken,) = [each for each in found if each.id == "uefi.log-malformed"]
                assert "none of its banks (sha1) was quoted" in broken.seen

    asyncio.run(case())


@pytest.mark.parametrize("locality", [0, 3])
def test_b06_a_real_tpm_starts_where_its_log_says(court: Court, locality: int) -> None:
    log = located(locality) if locality else LOG

    async def case(tpm: MachineTpm) -> None:
        label = f"machine-{locality}"
        async with court.verifier.person() as admin:
            await activate(admin, dump_golden(exact_golden(log, label)))
        async with a_trial(court, label, log, tpm=tpm) as trial:
            other = located(3 - locality)
            assert places(await trial.refused(telling(other))) == [("uefi.replay", "sha256 PCR 0")]

    with a_machine(court.verifier.vendor) as machine, tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


# b08: stretches that never become an answer


def test_b08_logs_without_end_run_into_the_answers_deadline_and_leave_nothing(tmp_path: Path) -> None:
    async def case(court: Court) -> None:
        async with a_trial(court, "rules") as trial:
            await trial.stream.challenge()
            piece = Evidence(boot_log=GOOD_LOG[:1], more=True)
            dripping = asyncio.create_task(_drip(trial.stream, piece))
            refusal = await asyncio.wait_for(dripping, 15)
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            async with trial.node.attesting() as stream:
                assert (await stream.round()).state == NODE_STATE_TRUSTED

    with a_court(tmp_path, rules_golden(LOG), answer_within_seconds=3, trust_seconds=12) as court:
        asyncio.run(case(court))


def test_b08_logs_for_a_challenge_that_was_never_made_end_the_stream_and_nothing_else(tmp_path: Path) -> None:
    async def case(court: Court) -> None:
        async with a_trial(court, "rules") as trial:
            await trial.stream.send(Evidence(boot_log=GOOD_LOG, more=True))
            refusal = await trial.stream.end()
            assert (refusal.code, refusal.findings) == (grpc.StatusCode.UNAUTHENTICATED, ("quote.nonce",))
            known = await seen_by(trial.admin, trial.node)
            assert (known.state, list(known.leases)) == (NODE_STATE_TRUSTED, [trial.lease])

    with a_court(tmp_path, rules_golden(LOG), interval_seconds=3600, trust_seconds=3700) as court:
        asyncio.run(case(court))


async def _drip(stream: FakeStream, piece: Evidence) -> Refusal:
    for _ in range(300):
        try:
            await stream.send(piece)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            break
        await asyncio.sleep(0.1)
    return await stream.end()
