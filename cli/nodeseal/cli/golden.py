"""``nodeseal golden``: the reference values that nodes are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.golden_capture import capture_golden
from nodeseal.cli.golden_check import check_golden
from nodeseal.cli.golden_egress import write_egress
from nodeseal.cli.golden_explain import explain_node
from nodeseal.cli.golden_outlook import show_outlook
from nodeseal.cli.golden_predict import predict_golden
from nodeseal.cli.golden_runtime import build_runtime
from nodeseal.cli.golden_source import QuirksOption, load_golden, quirks_of
from nodeseal.cli.messages import plain_message, plain_messages, show_time
from nodeseal.cli.naming import GoldenArgument, golden_of
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.files import read_regular
from nodeseal.golden.difference import GoldenDifference, diff_goldens
from nodeseal.golden.document import MAX_GOLDEN, parse_golden
from nodeseal.golden.lint import lint_golden
from nodeseal.golden.schema import golden_schema
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Capture, activate and compare golden measurements.")


@app.command("activate", epilog="Example: nodeseal golden activate rack-a.yaml --dry-run")
def activate(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A golden in YAML.")],
    client: ClientOption = CLIENT,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what it would say of each node, and why.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let nodes that match this golden be trusted; other active goldens stay active.

    With --dry-run, exit code 1: a node that is trusted now would not be trusted by this golden alone, or nothing is
    known of its present boot yet, as when the verifier has just started.
    """
    document = read_regular(file, MAX_GOLDEN + 1)
    parse_golden(document, str(file))
    if dry_run:
        show_outlook(document, client, as_json=as_json)
        return
    with connect(client) as verifier:
        golden = verifier.activate_golden(document)
    output.show(lambda: plain_message(golden), _golden_facts(golden), as_json=as_json)


@app.command("retire", epilog="Example: nodeseal golden retire rack-a")
def retire_golden(golden: GoldenArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Stop trusting nodes because of this golden."""
    with connect(client) as verifier:
        found = verifier.retire_golden(golden_of(verifier, golden, Use.TAKE_AWAY))
    output.show(lambda: plain_message(found), _golden_facts(found), as_json=as_json)


@app.command("list", epilog="Example: nodeseal golden list --retired")
def list_goldens(
    retired: Annotated[bool, typer.Option("--retired", help="Show retired goldens too.")] = False,  # noqa: FBT002 - a flag
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """List goldens."""
    with connect(client) as verifier:
        goldens = verifier.list_goldens(include_retired=retired)
    columns = ("golden", "status", "digest", "activated", "retired")
    output.show(
        lambda: plain_messages(goldens), Rows(columns, map(_golden_row, goldens), empty="no goldens"), as_json=as_json
    )


def _golden_row(golden: pb.Golden) -> tuple[str, ...]:
    times = show_time(golden.activated), show_time(golden.retired)
    return golden.name, _status(golden), golden.digest, *times


@app.command("show", epilog="Example: nodeseal golden show rack-a > rack-a.yaml")
def show_golden(golden: GoldenArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Print a golden as YAML."""
    with connect(client) as verifier:
        found = verifier.get_golden(golden_of(verifier, golden, Use.LOOK))
    output.show(lambda: plain_message(found), found.document, as_json=as_json)


@app.command("diff", epilog="Example: nodeseal golden diff rack-a.yaml 3f0c9a")
def diff_golden(
    left: Annotated[str, typer.Argument(metavar="A", help="A file, or a golden of the verifier: name or digest.")],
    right: Annotated[str, typer.Argument(metavar="B", help="The other golden, as A.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what two goldens judge differently, section by section. Exit code 1: they differ."""
    differences = diff_goldens(load_golden(left, client), load_golden(right, client))
    rows = ((f"{d.section} {d.where}", _values(d.before), _values(d.after)) for d in differences)
    table = Rows(("differs", "A says", "B says"), rows, empty="the goldens judge alike")
    output.show(list(map(_plain_difference, differences)), table, as_json=as_json)
    raise typer.Exit(output.REFUSED if differences else 0)


for _name, _command, _example in (
    ("capture", capture_golden, "n-4xk2… ./before-reboot --name rack-a -o rack-a.yaml"),
    ("predict", predict_golden, "rack-a.yaml --replace grubx64.efi --name rack-a.2 -o rack-a.2.yaml"),
    ("check", check_golden, "rack-a.2.yaml n-4xk2…"),
    ("explain", explain_node, "n-4xk2… --golden rack-a.yaml"),
    ("egress", write_egress, "rack-a -o egress.yaml"),
    ("runtime", build_runtime, "--deb new.deb --merge rack-a.yaml -o rack-a-2.yaml"),
):
    app.command(_name, epilog=f"Example: nodeseal golden {_name} {_example}")(_command)


@app.command("schema", epilog="Example: nodeseal golden schema > golden.schema.json")
def print_schema() -> None:
    """Print the JSON Schema of goldens, for editors."""
    typer.echo(golden_schema(), nl=False)


@app.command("lint", epilog="Example: nodeseal golden lint rack-a.yaml")
def lint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, or a golden of the verifier: name or digest.")],
    quirks: QuirksOption = None,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a golden judges and what it leaves open. Refuse a golden that the verifier would refuse.

    With --quirks, also what each of them gives up.
    """
    golden = load_golden(file, client)
    found = lint_golden(golden, ((str(quirk), quirk.pcr) for quirk in quirks_of(quirks)))
    output.show(
        {"digest": golden.digest, "judged": list(found.covered), "open": list(found.open)},
        FactList((("golden", golden.name), ("digest", golden.digest))),
        Rows(("judged",), ((line,) for line in found.covered), empty="judged: nothing"),
        Rows(("left open",), ((line,) for line in found.open), empty="left open: nothing"),
        as_json=as_json,
    )


def _values(said: tuple[str, ...]) -> str:
    return "\n".join(said) or "-"


def _plain_difference(difference: GoldenDifference) -> dict[str, object]:
    return {
        "section": difference.section,
        "where": difference.where,
        "a": list(difference.before),
        "b": list(difference.after),
    }


def _status(golden: pb.Golden) -> str:
    return "active" if golden.active else "retired"


def _golden_facts(golden: pb.Golden) -> FactList:
    return FactList(
        (
            ("golden", golden.name),
            ("status", _status(golden)),
            ("digest", golden.digest),
            ("activated", show_time(golden.activated)),
            ("retired", show_time(golden.retired)),
        )
    )
