"""Logs that are as large as limits allow, truly measured or not: judged in bounded time and memory, or refused."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest

from nodeseal.appraisal.kinds.boot import conclude_boot
from nodeseal.appraisal.kinds.ima_log import ImaRound, compile_runtime, judge_ima
from nodeseal.appraisal.kinds.kind import MAX_FINDINGS
from nodeseal.boot import images, loader, secure_boot
from nodeseal.boot import measured as measured_events
from nodeseal.boot.difference import reference_events
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image, RuntimeRules
from nodeseal.ima.log import encode_ima_entry, measured_entry
from nodeseal.swtpm.sample_log import DB_CERTIFICATE
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import MAX_EVENTS, Event, EventLog, encode_event_log
from nodeseal.uefi.event_log_reader import MAX_EVENT_DATA, MAX_LOG
from nodeseal.uefi.event_log_types import EventType
from support import ima
from support.boot_logs import SECURITY, appended, good_log, measured, quote_of, values_of, variable
from support.quotes import quoted_pcrs
from support.runtime import BEGINNING, at, golden_of
from support.runtime import quote_of as quote_of_entries

SHA256 = HashAlg.SHA256
CLAIMS = Claims(boot_id="boot", kernel="6.1", agent_version="1", leases=(), firmware_vendor="", firmware_version="")
NOTHING = (Image(name="nothing", digests=frozenset({bytes(32)})),)
GOOD = good_log()
STRICT = Golden(
    name="strict",
    pcrs={SHA256: {pcr: frozenset({bytes(32)}) for pcr in range(10)}},
    boot=BootRules(
        secure_boot=True,
        signers=(),
        images=NOTHING,
        drivers=NOTHING,
        files=NOTHING,
        command_lines=("quiet",),
        sections={".linux": frozenset({bytes(32)})},
        gpt=frozenset({bytes(32)}),
    ),
    reference=reference_events(GOOD, (SHA256,)),
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


IMAGE = bytes(24) + (4).to_bytes(8, "little") + b"\x7f\xff\4\0"
AUTHORITY = variable("db", SECURITY.bytes_le + DB_CERTIFICATE)
LARGE = b"linux " + b"a\0" * ((MAX_EVENT_DATA - 6) // 2)
HOSTILE: dict[str, EventLog] = {
    "files without number": with_many(measured(9, EventType.IPL, b"/f", b"content"), 10_000),
    "command lines without number": with_many(measured(8, EventType.IPL, b"kernel_cmdline: /x y", b"/x y"), 10_000),
    "authorities without number": with_many(measured(7, EventType.EFI_VARIABLE_AUTHORITY, AUTHORITY), 1_000),
    "images without number": with_many(measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"", b"image"), 10_000),
    "data as large as it may be": with_many(measured(8, EventType.IPL, LARGE, b"something else"), 3),
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

    assert len(raw) <= MAX_BOOT_LOG
    assert peak_of(judge) < max(MOST_MEMORY * len(raw), 64 * 1024 * 1024)


FULL: dict[str, tuple[int, Callable[[int], Event]]] = {
    "authorities": (7, lambda _: measured(7, EventType.EFI_VARIABLE_AUTHORITY, AUTHORITY)),
    "authorities whose data nobody knows": (7, lambda n: measured(7, EventType.IPL, b"x", n.to_bytes(4))),
    "databases after the separator": (7, lambda _: measured(7, EventType.IPL, variable("dbx", b"", SECURITY))),
    "images": (4, lambda n: measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, IMAGE, n.to_bytes(4))),
    "drivers": (2, lambda n: measured(2, EventType.EFI_BOOT_SERVICES_DRIVER, IMAGE, n.to_bytes(4))),
    "command lines": (8, lambda n: measured(8, EventType.IPL, b"/x %d" % n)),
    "files": (9, lambda n: measured(9, EventType.IPL, b"/f", n.to_bytes(4))),
    "load options": (9, lambda n: measured(9, EventType.EVENT_TAG, b"LOADED_IMAGE::LoadOptions", n.to_bytes(4))),
    "sections": (11, lambda n: measured(11, EventType.IPL, b".linux\0", n.to_bytes(4))),
    "partition tables": (5, lambda n: measured(5, EventType.EFI_GPT_EVENT, b"EFI PART%d" % n)),
    "separators after an error": (1, lambda _: measured(1, EventType.SEPARATOR, b"\1\0\0\0")),
}


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often events are described and authorities' certificates decoded."""
    calls = Counter[str]()
    places: tuple[tuple[ModuleType, str], ...] = (
        (measured_events, "describe_briefly"),
        (images, "describe_briefly"),
        (loader, "describe_briefly"),
        (secure_boot, "decode_certificate"),
    )
    for module, name in places:
        monkeypatch.setattr(module, name, _counting(getattr(module, name), calls))
    return calls


def _counting(function: Callable[..., object], calls: Counter[str]) -> Callable[..., object]:
    def call(*args: object) -> object:
        calls[function.__name__] += 1
        return function(*args)

    return call


@pytest.mark.parametrize("name", FULL)
def test_of_a_log_full_of_objections_only_those_that_are_kept_are_put_into_words(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words take most of the time that a hostile log costs: certificates and paths are decoded for them."""
    pcr, event = FULL[name]
    log = appended(GOOD, *[event(number) for number in range(1000)])
    calls = counted(monkeypatch)
    state, _ = conclude_boot(encode_event_log(log), quote_of(log), CLAIMS, [STRICT])
    verdict = state.verdicts[STRICT.digest]
    assert len(verdict.findings) + verdict.more > 1000 or len(state.findings) == 1
    assert pcr > 9 or pcr in verdict.differences
    assert 0 < calls["describe_briefly"] <= MAX_FINDINGS + len(STRICT.pcrs[SHA256])
    assert calls["decode_certificate"] <= MAX_FINDINGS


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
        outcome = judge_ima(ImaRound(delta=ImaDelta(offset=0, entries=raw), pcrs=quote, goldens=[golden], now=at(0)))
        assert outcome.progress is not None
        verdict = outcome.progress.verdicts[golden.digest]
        assert len(verdict.findings) == MAX_FINDINGS
        assert verdict.more > MAX_FINDINGS

    assert peak_of(judge) < MOST_MEMORY * len(raw)


@pytest.mark.parametrize("size", [MAX_IMA_DELTA, MAX_IMA_DELTA + 1, 100_000_000])
def test_an_ima_log_that_is_none_is_refused_and_costs_nothing(size: int) -> None:
    raw, golden = bytes(size), compile_runtime(golden_of(RuntimeRules(files={"/x": ()})))

    def judge() -> None:
        outcome = judge_ima(
            ImaRound(delta=ImaDelta(offset=0, entries=raw), pcrs=quote_after(b"", 1), goldens=[golden], now=at(0))
        )
        assert [finding.id for finding in outcome.findings] == [FindingId.IMA_LOG_MALFORMED]
        assert outcome.progress is None

    assert peak_of(judge) < 1024 * 1024
