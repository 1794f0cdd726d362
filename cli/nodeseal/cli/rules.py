"""``nodeseal rules``: which acts need a proposal, and who must approve it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption
from nodeseal.client.connection import connect
from nodeseal.files import read_small
from nodeseal.governance.rules import MAX_RULES, Rules, decode_rules, parse_rules

app = typer.Typer(no_args_is_help=True, help="Show which acts need a proposal, and who must approve it.")


@app.command("show", epilog="Example: nodeseal rules show")
def show_rules(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Show the rules in force, and warn where the absence of one person would leave nobody who can meet them."""
    with connect(client) as verifier:
        found = verifier.get_rules()
    rules = decode_rules(found.document, "rules")
    warnings = [("warning", warning) for warning in found.warnings]
    output.show(lambda: plain_message(found), FactList((*_facts(rules), *warnings)), as_json=as_json)


@app.command("check", epilog="Example: nodeseal rules check rules.yaml")
def check_rules(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Rules in YAML.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Read rules as the verifier would, without one, and show what they say."""
    rules = parse_rules(read_small(file, MAX_RULES), str(file))
    output.show({"digest": rules.digest, "words": rules.words}, FactList(_facts(rules)), as_json=as_json)


def _facts(rules: Rules) -> Iterator[tuple[str, str]]:
    yield "rules", rules.words
    yield "digest", rules.digest
    if rules.solo:
        return
    for group in rules.groups:
        yield "group", f"{group.name}: {group.least} of {', '.join(group.members)}"
    yield "approvals last", f"{rules.approvals_last // timedelta(hours=1)} hours"
    yield "needs a proposal", ", ".join(sorted(kind.value for kind in rules.governed))
