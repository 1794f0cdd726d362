"""``nodeseal``, the operator's command: mounts one module per command and gives errors their exit code.

Exit codes: 0 done, 1 refused or failed, 2 misused.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from nodeseal.cli import audit, golden, key, log, model, node, output, person, quote
from nodeseal.cli.appraise import appraise
from nodeseal.cli.demo.command import demo
from nodeseal.cli.doctor import doctor
from nodeseal.cli.inspect import inspect
from nodeseal.cli.open import open_sealed
from nodeseal.cli.reseal import reseal
from nodeseal.cli.reslot import reslot
from nodeseal.cli.seal import seal
from nodeseal.cli.verify import verify
from nodeseal.errors import NodesealError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Keep model weights sealed everywhere but on machines that have proved what they run.",
    epilog="Start here: nodeseal demo",
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a callback of typer's
    if wanted:
        typer.echo(version("nodeseal"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Keep model weights sealed everywhere but on machines that have proved what they run."""


for _name, _group in {
    "node": node.app,
    "golden": golden.app,
    "key": key.app,
    "model": model.app,
    "quote": quote.app,
    "log": log.app,
    "audit": audit.app,
    "person": person.app,
}.items():
    app.add_typer(_group, name=_name)

for _name, _command, _example in (
    ("appraise", appraise, "nodeseal appraise --golden rack-a.yaml --evidence ./n-4xk2"),
    ("seal", seal, "nodeseal seal ./llama-plain --key llama-70b.pub -o ./llama"),
    ("inspect", inspect, "nodeseal inspect ./llama"),
    ("open", open_sealed, "nodeseal open ./llama"),
    ("verify", verify, "nodeseal verify ./llama"),
    ("reslot", reslot, "nodeseal reslot ./llama --key llama-2027.pub --drop llama-2026"),
    ("reseal", reseal, "nodeseal reseal ./llama -o ./llama-2 --key llama-2027.pub"),
    ("doctor", doctor, "nodeseal doctor --client ./kim"),
    ("demo", demo, "nodeseal demo --keep"),
):
    app.command(_name, epilog=f"Example: {_example}")(_command)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except NodesealError as error:
        sys.exit(output.report(error))
