"""The two clocks of a verifier, as arguments: wall time, and a steady clock that never jumps.

Ends of trust are on the steady clock, so that setting the machine's time neither extends nor ends trust. The steady
clock goes on while the machine sleeps (``CLOCK_BOOTTIME``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


@dataclass(frozen=True, slots=True)
class Clock:
    """Source of the time.

    Attributes:
        wall: now, in UTC.
        steady: seconds since some moment.
    """

    wall: Callable[[], datetime]
    steady: Callable[[], float]


SYSTEM: Final = Clock(wall=lambda: datetime.now(UTC), steady=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
