"""``nodeseal golden egress``: the file that nodes of a golden install their egress limits from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli.golden_source import load_golden
from nodeseal.cli.output import CLIENT, ClientOption, write_file
from nodeseal.egress.document import EGRESS_FORMAT, egress_plain
from nodeseal.errors import NotFound
from nodeseal.golden.yaml_text import render


def write_egress(
    golden: Annotated[
        str, typer.Argument(metavar="GOLDEN", help="A file, or a golden of the verifier: name or digest.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it there; it must not exist.")] = None,
    client: ClientOption = CLIENT,
) -> None:
    """Print the egress file of a golden, which its nodes install limits from (egress.file in agent.yaml)."""
    found = load_golden(golden, client)
    if found.egress is None:
        raise NotFound(f"golden {found.name} has no egress limits", remedy="add the section egress; see docs/egress.md")
    text = render({"format": EGRESS_FORMAT, **egress_plain(found.egress)})
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_file(output, text.encode())
