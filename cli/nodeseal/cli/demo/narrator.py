"""The demo's output: acts with a heading, sentences, commands with their output, and checked facts."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule


class Narrator:
    """Prints the story, numbered by act, with the seconds since it began."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._act = 0

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._act += 1
        seconds = time.monotonic() - self._started
        self._console.print()
        self._console.print(Rule(f"[bold]{self._act}. {escape(title)}[/]  [dim]{seconds:.0f} s[/]", align="left"))

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._console.print(escape(" ".join(text.split())), highlight=False)

    def command(self, line: str) -> None:
        """Show a command as it would be typed."""
        self._console.print(f"[bold cyan]$ {escape(line)}[/]", highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Show the output of a command."""
        for line in text.rstrip().splitlines():
            self._console.print(f"  [dim]{escape(line)}[/]", highlight=False, soft_wrap=True)

    def proved(self, text: str) -> None:
        """Print a fact that the demo has just checked."""
        self._console.print(f"[bold green]✓[/] {escape(text)}", highlight=False)
