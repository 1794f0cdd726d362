"""A bar for long work over many bytes: how much is done, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from nodeseal.cli import output


@contextmanager
def progress_bar(doing: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal, while the block runs.

    Args:
        doing: the work, in one word.
        size: bytes in all.

    Yields:
        A function that takes the number of bytes done, callable from any thread.
    """
    columns = (
        TextColumn(doing),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.errors, transient=True, disable=not output.errors.is_terminal) as bar:
        task = bar.add_task(doing, total=size)
        yield lambda done: bar.advance(task, done)


def speed(size: int, seconds: float) -> str:
    """Return bytes, time and throughput as people read them."""
    return f"{size:,} in {seconds:.1f} s, {size / 1e9 / max(seconds, 1e-9):.2f} GB/s"
