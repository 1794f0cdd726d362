"""What everything cryptographic is measured against: ``openssl speed`` on the same core."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

from benchmarks.harness import Missing

_ECDSA: Final = re.compile(r"^\+F4:\d+:256:(?P<sign>[0-9.]+):(?P<figure>[0-9.]+)$", re.MULTILINE)
"""Signatures and verifications per second of processor time, as ``-mr`` prints them."""
_GCM: Final = re.compile(r"^\+F:\d+:AES-256-GCM:(?P<figure>[0-9.]+)$", re.MULTILINE)
VERIFY: Final = "openssl speed ecdsap256, verifications per second of processor time on one core"
GCM: Final = "openssl speed -evp aes-256-gcm, bytes per second of processor time on one core, in blocks of 1 MiB"


def p256_verifies_per_second() -> float:
    """Run ``openssl speed`` once, one second for each of signing and verifying.

    Raises:
        Missing: openssl is not installed, or prints something else.
    """
    return parse_speed(_speed("ecdsap256"))


def gcm_bytes_per_second() -> float:
    """Run ``openssl speed`` once, for a second.

    Raises:
        Missing: openssl is not installed, or prints something else.
    """
    return parse_gcm_speed(_speed("-bytes", str(1 << 20), "-evp", "aes-256-gcm"))


def _speed(*what: str) -> str:
    program = shutil.which("openssl")
    if program is None:
        raise Missing("openssl is not installed")
    command = [program, "speed", "-seconds", "1", "-mr", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - as named
    return done.stdout


def parse_speed(printed: str) -> float:
    """Return verifications per second from what ``openssl speed -mr ecdsap256`` prints.

    Raises:
        Missing: it is not there.
    """
    return _figure(_ECDSA, printed, "P-256")


def parse_gcm_speed(printed: str) -> float:
    """Return bytes per second from what ``openssl speed -mr -evp aes-256-gcm`` prints for one size of blocks.

    Raises:
        Missing: it is not there.
    """
    return _figure(_GCM, printed, "AES-256-GCM")


def _figure(pattern: re.Pattern[str], printed: str, what: str) -> float:
    found = pattern.search(printed)
    if found is None:
        raise Missing(f"openssl speed prints no figure for {what}")
    return float(found["figure"])
