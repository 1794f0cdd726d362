"""What everything cryptographic is measured against: ``openssl speed`` on the same core."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

from benchmarks.harness import Missing

_ECDSA: Final = re.compile(r"^\+F4:\d+:256:(?P<sign>[0-9.]+):(?P<verify>[0-9.]+)$", re.MULTILINE)
"""Signatures and verifications per second of processor time, as ``-mr`` prints them."""
VERIFY: Final = "openssl speed ecdsap256, verifications per second of processor time on one core"


def p256_verifies_per_second() -> float:
    """Run ``openssl speed`` once, one second for each of signing and verifying.

    Raises:
        Missing: openssl is not installed, or prints something else.
    """
    program = shutil.which("openssl")
    if program is None:
        raise Missing("openssl is not installed")
    command = [program, "speed", "-seconds", "1", "-mr", "ecdsap256"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - as named
    return parse_speed(done.stdout)


def parse_speed(printed: str) -> float:
    """Return verifications per second from what ``openssl speed -mr ecdsap256`` prints.

    Raises:
        Missing: it is not there.
    """
    found = _ECDSA.search(printed)
    if found is None:
        raise Missing("openssl speed prints no figure for P-256")
    return float(found["verify"])
