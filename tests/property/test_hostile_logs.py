"""Logs that are as large as limits allow, truly measured or not: judged in bounded time and memory, or refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from nodeseal.evidence import MAX_IMA_DELTA, Claims, ImaDelta
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image, RuntimeRules
from nodeseal.quote import QuotedPcrs
from nodeseal.swtpm.sample_log import DB_CERTIFICATE
from nodeseal.tcg.algorithms import HashAlg
from nodeseal.tcg.event_log import MAX_EVENTS, Event, EventLog, encode_event_log
from nodeseal.tcg.event_log_reader import MAX_EVENT_DATA, MAX_LOG
from nodeseal.tcg.event_log_types import EventType
from nodeseal.tcg.ima_log import encode_ima_entry, measured_entry
from nodeseal.verifier.appraisal.boot_log import MAX_FINDINGS, conclude_boot
from nodeseal.verifier.appraisal.runtime import MAX_FINDINGS as MAX_IMA_FINDINGS
from nodeseal.verifier.appraisal.runtime import compile_runtime, judge_ima
from support import ima
from support.boot_logs import SECURITY, appended, good_log, measured, quote_of, values_of, variable
from support.runtime import BEGINNING, at, golden_of, quoted_pcrs
from support.runtime import quote_of as quote_of_entries

SHA256 = HashAlg.SHA256
CLAIMS = Claims(boot_id="boot", kernel="6.1", agent_version="1", leases=(), firmware_vendor="", firmware_version="")
NOTHING = (Image(name="nothing", digests=frozenset({bytes(32)})),)
GOOD = good_log()
STRICT = Golden(
    name="strict",
    pcrs={SHA256: {pcr: frozenset({bytes(32)}) for pcr in range(10)}},
    boot=BootRules(secure_boot=True, signers=(), images=NOTHING, files=NOTHING, command_lines=("quiet",)),
)
MOST_MEMORY = 12
"""Times the size of a log, or 64 MiB: a bound on what is in memory while it is judged."""


def peak_of(judge: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        judge()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def with_many(event: Event, count: int) -> EventLog:
    return appended(GOOD, *[event] * count)


AUTHORITY = variable("db", SECURITY.bytes_le + DB_CERTIFICATE)
LARGE = b"linux " + b"a\0" * ((MAX_EVENT_DATA - 6) // 2)
HOSTILE: dict[str, EventLog] = {
    "files without number": with_many(measured(9, EventType.IPL, b"/f", b"content"), 10_000),
    "command lines without number": with_many(measured(8, EventType.IPL, b"kernel_cmdline: /x y", b"/x y"), 10_000),
    "authorities without number": with_many(measured(7, EventType.EFI_VARIABLE_AUTHORITY, AUTHORITY), 1_000),
    "images without number": with_many(measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"", b"image"), 10_000),
    "data as large as it may be": with_many(measured(8, EventType.IPL, LARGE, b"something else"), 14),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_boot_log_at_its_limits_that_was_truly_measured_costs_bounded_memory(name: str) -> None:
    log = HOSTILE[name]
    raw, quote = encode_event_log(log), quote_of(log)

    def judge() -> None:
        state, claims = conclude_boot(raw, quote, CLAIMS, [STRICT])
        verdict = state.verdicts[STRICT.digest]
        assert claims is not None
        assert 0 < len(verdict.findings) <= MAX_FINDINGS
        assert len(state.findings) <= MAX_FINDINGS

    assert len(raw) <= MAX_LOG
    assert peak_of(judge) < max(MOST_MEMORY * len(raw), 64 * 1024 * 1024)


BEYOND: dict[str, Callable[[], bytes]] = {
    "one byte too many": lambda: encode_event_log(GOOD).ljust(MAX_LOG + 1, b"\0"),
    "nothing but zeros": lambda: bytes(MAX_LOG),
    "an event too many": lambda: bytes(32) * (MAX_EVENTS + 1) + b"\1",
    "a hundred megabytes": lambda: encode_event_log(GOOD).ljust(100_000_000, b"\1"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_boot_log_beyond_its_limits_is_refused_and_costs_little(name: str) -> None:
    raw = BEYOND[name]()

    def judge() -> None:
        state, claims = conclude_boot(raw, quote_of(GOOD), CLAIMS, [STRICT])
        assert claims is None
        assert [finding.id for finding in state.findings] == [FindingId.UEFI_LOG_MALFORMED]

    assert peak_of(judge) < 64 * 1024 * 1024


def quote_after(entry: bytes, count: int) -> QuotedPcrs:
    """Return the quote of a machine that has measured these template data so many times."""
    values = {pcr: value for pcr, value in values_of(GOOD).items() if pcr < 10}
    value, digest = quote_of_entries([BEGINNING]).get(SHA256, 10) or b"", SHA256.digest(entry)
    for _ in range(count):
        value = SHA256.digest(value + digest)
    return quoted_pcrs({SHA256: {**values, 10: value}})


@pytest.mark.parametrize("template", ["x", "ima-ng"])
def test_an_ima_log_of_entries_without_number_costs_bounded_memory(template: str) -> None:
    entry, count = measured_entry(template, b""), 20_000
    raw, quote = ima.log([BEGINNING]) + encode_ima_entry(entry) * count, quote_after(b"", count)
    golden = compile_runtime(golden_of(RuntimeRules(files={"/x": ()})))

    def judge() -> None:
        outcome = judge_ima(ImaDelta(offset=0, entries=raw), None, None, quote, [golden], at(0))
        assert outcome.progress is not None
        verdict = outcome.progress.verdicts[golden.digest]
        assert len(verdict.findings) == MAX_IMA_FINDINGS
        assert verdict.more > MAX_IMA_FINDINGS

    assert peak_of(judge) < MOST_MEMORY * len(raw)


@pytest.mark.parametrize("size", [MAX_IMA_DELTA, MAX_IMA_DELTA + 1, 100_000_000])
def test_an_ima_log_that_is_none_is_refused_and_costs_nothing(size: int) -> None:
    raw, golden = bytes(size), compile_runtime(golden_of(RuntimeRules(files={"/x": ()})))

    def judge() -> None:
        outcome = judge_ima(ImaDelta(offset=0, entries=raw), None, None, quote_after(b"", 1), [golden], at(0))
        assert [finding.id for finding in outcome.findings] == [FindingId.IMA_LOG_MALFORMED]
        assert outcome.progress is None

    assert peak_of(judge) < 1024 * 1024
