"""Commands that are loaded when they are called: a list of them shall not cost what each of them imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_group


class Later(TyperCommand):
    """Stands in the list of commands for one that is not loaded yet.

    Args:
        name: of the command or group.
        line: what the list says of it: the first paragraph of its help.
        load: imports it and returns a group, or the function of a command.
        example: how to call it; groups have none, but their commands do.
    """

    def __init__(
        self, name: str, line: str, load: Callable[[], typer.Typer | Callable[..., None]], example: str = ""
    ) -> None:
        super().__init__(name, help=line)
        self._load = load
        self._example = example

    def loaded(self) -> Any:
        """Return the command or group itself, as typer makes it."""
        app, found = typer.Typer(rich_markup_mode="markdown"), self._load()
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name, epilog=f"Example: {self._example}")(found)
        return get_group(app).commands[str(self.name)]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Begin a call: from here on, the command itself is in charge."""
        return self.loaded().make_context(*arguments, **options)
