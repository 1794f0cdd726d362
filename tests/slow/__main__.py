"""``make check-slow``: what ``make test`` cannot show, since it takes a machine in another state.

``fresh``: tests pass on a machine that was started a minute ago. ``busy``: they pass beside ten busy processes.
``leftovers``: what the demo or a test run started ends with it, whatever ends it. ``kills``: nothing is lost when
verifier, agent and ledger are killed hundreds of times. ``seeds``: property tests hold for examples drawn anew.
Arguments pick some of the five.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from slow import busy, fresh, kills, leftovers, seeds
from slow.run import Skipped, say

PARTS: Final[dict[str, Callable[[], list[str]]]] = {
    "fresh": fresh.check,
    "busy": busy.check,
    "leftovers": leftovers.check,
    "kills": kills.check,
    "seeds": seeds.check,
}


def main(wanted: list[str]) -> int:
    """Run parts, all by default; return the exit code: 1 if a part found a fault, 2 for a part that there is not."""
    if unknown := set(wanted) - PARTS.keys():
        say(f"no part is called {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it; programs under test would inherit that
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    verdicts = [_verdict(name) for name in wanted or PARTS]
    for verdict, _ in verdicts:
        say(verdict)
    return int(not all(good for _, good in verdicts))


def _verdict(name: str) -> tuple[str, bool]:
    began = time.monotonic()
    try:
        faults = PARTS[name]()
    except Skipped as reason:
        return f"{name}: SKIPPED: {reason}", True
    for fault in faults:
        say(f"{name}: {fault}")
    verdict = f"FAILED, {len(faults)} faults" if faults else "passed"
    return f"{name}: {verdict} ({time.monotonic() - began:.0f} s)", not faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
