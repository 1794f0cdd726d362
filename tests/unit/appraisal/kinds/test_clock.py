"""The decision table over resets, clock, safe and boot id (t01, t02, t03)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from nodeseal.appraisal.kinds import clock
from nodeseal.appraisal.kinds.clock import Boot, ClockMotion, Counters
from nodeseal.appraisal.model import Baseline, Continuity
from nodeseal.findings import FindingId
from nodeseal.tpm.attest import ClockInfo

BOOT, OTHER = "3f0c7c9e-0000-4000-8000-000000000001", "3f0c7c9e-0000-4000-8000-000000000002"
BEFORE = ClockInfo(clock=10_000_000, reset_count=7, restart_count=3, safe=True)
BASELINE = Baseline(clock_info=BEFORE, boot_id=BOOT)
INTERVAL = 4_194_304  # 2**22 ms, TPM Library Part 2, TPMS_CLOCK_INFO

CONTINUES, REBOOTED, BROKEN = Continuity.CONTINUES, Continuity.REBOOTED, Continuity.BROKEN
RESET, ROLLBACK, UNSAFE = FindingId.CLOCK_RESET, FindingId.CLOCK_ROLLBACK, FindingId.CLOCK_UNSAFE


def judge(seen: ClockInfo, boot_id: str = BOOT, before: ClockInfo = BEFORE) -> tuple[Continuity, tuple[FindingId, ...]]:
    timing = clock.prove(Baseline(clock_info=before, boot_id=BOOT), seen, boot_id)
    return timing.continuity, tuple(finding.id for finding in timing.findings)


@pytest.mark.parametrize(
    ("change", "boot_id", "expected"),
    [
        pytest.param({}, BOOT, (CONTINUES, ()), id="nothing moves"),
        pytest.param({"clock": 10_000_001}, BOOT, (CONTINUES, ()), id="the clock runs on"),
        pytest.param({"clock": 9_999_999}, BOOT, (BROKEN, (ROLLBACK,)), id="t02 the clock is a millisecond back"),
        pytest.param({}, OTHER, (REBOOTED, ()), id="another kernel runs (kexec) while the TPM runs on"),
        pytest.param({"clock": 9_999_999}, OTHER, (BROKEN, (ROLLBACK,)), id="t02 kexec and a clock that is back"),
        pytest.param(
            {"clock": 11_000_000, "reset_count": 8, "restart_count": 0}, OTHER, (REBOOTED, ()), id="an orderly reboot"
        ),
        pytest.param(
            {"clock": 9_000_000, "reset_count": 8, "restart_count": 0, "safe": False},
            OTHER,
            (REBOOTED, (UNSAFE,)),
            id="a reboot after a power loss",
        ),
        pytest.param(
            {"clock": 10_000_000 - INTERVAL, "reset_count": 8, "safe": False},
            OTHER,
            (REBOOTED, (UNSAFE,)),
            id="a power loss just before the clock was saved",
        ),
        pytest.param(
            {"clock": 10_000_000 - INTERVAL - 1, "reset_count": 8, "safe": False},
            OTHER,
            (BROKEN, (ROLLBACK, UNSAFE)),
            id="t02 back by more than any power loss",
        ),
        pytest.param(
            {"clock": 9_999_999, "reset_count": 8}, OTHER, (BROKEN, (ROLLBACK,)), id="t02 back across an orderly reboot"
        ),
        pytest.param(
            {"clock": 0, "reset_count": 0, "restart_count": 0}, OTHER, (BROKEN, (ROLLBACK,)), id="t02 a cleared TPM"
        ),
        pytest.param({"reset_count": 8}, BOOT, (BROKEN, (RESET,)), id="t01 the TPM was reset, the machine was not"),
        pytest.param({"reset_count": 6}, BOOT, (BROKEN, (RESET,)), id="t01 the reset count went down"),
        pytest.param({"restart_count": 4}, BOOT, (BROKEN, (RESET,)), id="t01 the TPM restarted, the machine did not"),
        pytest.param({"restart_count": 4}, OTHER, (REBOOTED, ()), id="hibernated and booted anew"),
        pytest.param(
            {"clock": 9_999_999, "restart_count": 4, "safe": False},
            OTHER,
            (BROKEN, (ROLLBACK, UNSAFE)),
            id="t02 back across a restart, which is always orderly",
        ),
        pytest.param(
            {"clock": 0, "reset_count": 8}, BOOT, (BROKEN, (RESET, ROLLBACK)), id="t01 and t02 at once: both are named"
        ),
        pytest.param(
            {"clock": 11_000_000, "safe": False},
            BOOT,
            (BROKEN, (ROLLBACK, UNSAFE)),
            id="t02 safe fell without a reset: a restored copy caught up",
        ),
    ],
)
def test_each_row_of_the_table(
    change: dict[str, Any], boot_id: str, expected: tuple[Continuity, tuple[FindingId, ...]]
) -> None:
    assert judge(BEFORE._replace(**change), boot_id) == expected


def test_boot_ids_have_no_order() -> None:
    baseline = Baseline(clock_info=BEFORE, boot_id=OTHER)
    assert clock.prove(baseline, BEFORE, BOOT).continuity is REBOOTED


def test_obfuscated_counters_are_large_and_equal_by_value() -> None:
    obfuscated = [BEFORE._replace(reset_count=int("3735928559"), restart_count=int("3405691582")) for _ in range(2)]
    assert judge(obfuscated[1], before=obfuscated[0]) == (CONTINUES, ())


def test_an_unsafe_clock_is_a_warning_until_it_is_safe_again() -> None:
    unsafe = BEFORE._replace(safe=False)
    assert judge(unsafe, before=unsafe) == (CONTINUES, (UNSAFE,))
    assert judge(BEFORE, before=unsafe) == (CONTINUES, ())


def test_an_unsafe_clock_may_not_run_backwards_either() -> None:
    unsafe = BEFORE._replace(safe=False)
    assert judge(unsafe._replace(clock=9_999_999), before=unsafe) == (BROKEN, (ROLLBACK, UNSAFE))


@pytest.mark.parametrize("safe", [True, False])
def test_a_first_round_has_nothing_to_continue(safe: bool) -> None:  # noqa: FBT001  # a case of the table
    timing = clock.prove(None, BEFORE._replace(safe=safe), BOOT)
    assert timing.continuity is Continuity.FIRST
    assert [finding.id for finding in timing.findings] == ([] if safe else [UNSAFE])


def test_t03_the_table_decides_every_combination() -> None:
    assert set(clock.DECISIONS) == set(product(Counters, Boot, ClockMotion))


def _independent_verdict(before: ClockInfo, seen: ClockInfo, *, same_boot: bool) -> set[str]:
    """The rules once more, in words of their own: what is wrong, or how the round follows."""
    reset, restarted = seen.reset_count != before.reset_count, seen.restart_count != before.restart_count
    wrong = set()
    if same_boot and (reset or restarted):
        wrong.add("reset")
    if reset:
        allowed = 0 if seen.safe else INTERVAL
        if seen.clock < before.clock - allowed:
            wrong.add("rollback")
    elif seen.clock < before.clock or (before.safe and not seen.safe):
        wrong.add("rollback")
    return wrong or {"continues" if same_boot else "rebooted"}


_NAMES = {RESET: "reset", ROLLBACK: "rollback"}


@pytest.mark.parametrize("same_boot", [True, False])
@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("was_safe", [True, False])
@pytest.mark.parametrize("restarts", [2, 3, 4])
@pytest.mark.parametrize("resets", [6, 7, 8])
@pytest.mark.parametrize("moved", [1, 0, -1, -INTERVAL, -INTERVAL - 1])
def test_t03_every_combination_of_changes(  # noqa: PLR0913  # the dimensions of the table
    *, moved: int, resets: int, restarts: int, was_safe: bool, safe: bool, same_boot: bool
) -> None:
    before = BEFORE._replace(safe=was_safe)
    seen = ClockInfo(clock=BEFORE.clock + moved, reset_count=resets, restart_count=restarts, safe=safe)
    continuity, ids = judge(seen, BOOT if same_boot else OTHER, before)
    attacks = {_NAMES[id_] for id_ in ids if id_ is not UNSAFE}
    assert (UNSAFE in ids) is not safe
    assert (attacks or {continuity.value}) == _independent_verdict(before, seen, same_boot=same_boot)
    assert (continuity is BROKEN) is bool(attacks)


def test_a_finding_says_what_was_there_before_and_now() -> None:
    (finding,) = clock.prove(BASELINE, BEFORE._replace(reset_count=8, clock=11_000_000), BOOT).findings
    assert "reset 7, restart 3, clock 10000000 ms, safe YES" in finding.expected
    assert "reset 8, restart 3, clock 11000000 ms, safe YES" in finding.seen
    assert BOOT in finding.seen


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (BEFORE._replace(reset_count=8), "unchanged counters or a new boot"),
        (BEFORE._replace(clock=1), "a clock that runs on"),
    ],
    ids=["a reset", "a rollback"],
)
def test_a_finding_says_what_honest_nodes_show(seen: ClockInfo, expected: str) -> None:
    (finding,) = clock.prove(BASELINE, seen, BOOT).findings
    assert finding.expected.startswith(f"{expected} after ")
