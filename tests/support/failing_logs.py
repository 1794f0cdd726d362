"""Logs that fail, to see what has taken effect by the time a line is logged."""

from __future__ import annotations

from typing import Never

import structlog


def let_logs_fail() -> None:
    """Let every line that this test logs raise BrokenPipeError. The next test's logs work again."""

    def fail(*_: object) -> Never:
        raise BrokenPipeError

    structlog.configure(processors=[fail])
