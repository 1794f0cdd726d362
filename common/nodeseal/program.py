"""What the command lines of the three programs have in common: ``-h``, ``--version``, and errors as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Annotated, Final

import typer

from nodeseal.errors import NodesealError

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}
"""Settings of a program's context; its commands inherit them."""
_JSON: Final = "--json"


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a callback of typer's
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - slow to load, and only this needs it

        typer.echo(version("nodeseal"))
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
]


def asks_for_json(argv: Sequence[str]) -> bool:
    """Whether a command line has the option ``--json``."""
    return _JSON in takewhile(lambda argument: argument != "--", argv[1:])


def plain_error(error: NodesealError, findings: Iterable[tuple[str, str]] = ()) -> dict[str, object]:
    """Return an error as a program reads it on stdout, in the place of a result.

    Args:
        error: what went wrong.
        findings: what was found, each with its remedy.
    """
    found = [{"finding": text, "remedy": remedy} for text, remedy in findings]
    return {"error": {"message": str(error), "remedy": error.remedy, "findings": found}}
