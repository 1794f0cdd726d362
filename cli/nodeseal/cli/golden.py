"""``nodeseal golden``: the reference values that nodes are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.golden_capture import capture_golden
from nodeseal.cli.golden_check import check_golden
from nodeseal.cli.golden_explain import explain_node
from nodeseal.cli.golden_predict import predict_golden
from nodeseal.cli.golden_runtime import build_runtime
from nodeseal.cli.golden_source import load_golden
from nodeseal.cli.golden_transfer import activate_golden, fetch_golden
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.client.connection import CALL_SECONDS, connect
from nodeseal.golden.difference import GoldenDifference, diff_goldens
from nodeseal.golden.document import parse_golden
from nodeseal.golden.lint import lint_golden
from nodeseal.golden.schema import golden_schema
from nodeseal.ids import parse_digest
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Capture, activate and compare golden measurements.")

DigestArgument = Annotated[
    str, typer.Argument(metavar="DIGEST", parser=output.argument(parse_digest), help="Which, as golden list shows it.")
]


@app.command("activate", epilog="Example: nodeseal golden activate rack-a.yaml")
def activate(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A golden in YAML.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let nodes that match this golden be trusted; other active goldens stay active."""
    document = file.read_bytes()
    parse_golden(document, str(file))
    with connect(client) as verifier:
        golden = activate_golden(verifier, document)
    _print(golden, as_json=as_json)


@app.command("retire", epilog="Example: nodeseal golden retire DIGEST")
def retire_golden(digest: DigestArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Stop trusting nodes because of this golden."""
    with connect(client) as verifier:
        golden = verifier.goldens.RetireGolden(pb.RetireGoldenRequest(digest=digest), timeout=CALL_SECONDS)
    _print(golden, as_json=as_json)


@app.command("list", epilog="Example: nodeseal golden list --retired")
def list_goldens(
    retired: Annotated[bool, typer.Option("--retired", help="Show retired goldens too.")] = False,  # noqa: FBT002 - a flag
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """List goldens."""
    request = pb.ListGoldensRequest(include_retired=retired)
    with connect(client) as verifier:
        goldens = verifier.goldens.ListGoldens(request, timeout=CALL_SECONDS).goldens
    if as_json:
        output.print_json([output.message_json(golden) for golden in goldens])
        return
    rows = ((g.name, _status(g), g.digest, output.show_time(g.activated), output.show_time(g.retired)) for g in goldens)
    output.print_table(("golden", "status", "digest", "activated", "retired"), rows, empty="no goldens")


@app.command("show", epilog="Example: nodeseal golden show DIGEST > rack-a.yaml")
def show_golden(digest: DigestArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Print a golden as YAML."""
    with connect(client) as verifier:
        golden = fetch_golden(verifier, digest)
    if as_json:
        output.print_message(golden)
        return
    typer.echo(golden.document.decode(), nl=False)


@app.command("diff", epilog="Example: nodeseal golden diff rack-a.yaml 3f0c…")
def diff_golden(
    left: Annotated[str, typer.Argument(metavar="A", help="A file, or the digest of a golden of the verifier.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what two goldens judge differently, section by section; exit 1 if there is anything."""
    differences = diff_goldens(load_golden(left, client), load_golden(right, client))
    if as_json:
        output.print_json([_plain(d) for d in differences])
    else:
        rows = ((f"{d.section} {d.where}", _values(d.before), _values(d.after)) for d in differences)
        output.print_table(("differs", "A says", "B says"), rows, empty="the goldens judge alike")
    raise typer.Exit(output.REFUSED if differences else 0)


for _name, _command, _example in (
    ("capture", capture_golden, "n-4xk2… ./before-reboot --name rack-a -o rack-a.yaml"),
    ("predict", predict_golden, "rack-a.yaml --replace grubx64.efi --name rack-a.2 -o rack-a.2.yaml"),
    ("check", check_golden, "rack-a.2.yaml n-4xk2…"),
    ("explain", explain_node, "n-4xk2… --golden rack-a.yaml"),
    ("runtime", build_runtime, "--deb new.deb --merge rack-a.yaml -o rack-a-2.yaml"),
):
    app.command(_name, epilog=f"Example: nodeseal golden {_name} {_example}")(_command)


@app.command("schema", epilog="Example: nodeseal golden schema > golden.schema.json")
def print_schema() -> None:
    """Print the JSON Schema of goldens, for editors."""
    typer.echo(golden_schema(), nl=False)


@app.command("lint", epilog="Example: nodeseal golden lint rack-a.yaml")
def lint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, or the digest of a golden of the verifier.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what a golden judges and what it leaves open; refuses what the verifier would refuse."""
    golden = load_golden(file, client)
    found = lint_golden(golden)
    if as_json:
        output.print_json({"digest": golden.digest, "judged": list(found.covered), "open": list(found.open)})
        return
    output.print_facts((("golden", golden.name), ("digest", golden.digest)))
    output.print_table(("judged",), ((line,) for line in found.covered), empty="judged: nothing")
    output.print_table(("left open",), ((line,) for line in found.open), empty="left open: nothing")


def _values(said: tuple[str, ...]) -> str:
    return "\n".join(said) or "-"


def _plain(difference: GoldenDifference) -> dict[str, object]:
    return {
        "section": difference.section,
        "where": difference.where,
        "a": list(difference.before),
        "b": list(difference.after),
    }


def _status(golden: pb.Golden) -> str:
    return "active" if golden.active else "retired"


def _print(golden: pb.Golden, *, as_json: bool) -> None:
    if as_json:
        output.print_message(golden)
        return
    output.print_facts(
        (
            ("golden", golden.name),
            ("status", _status(golden)),
            ("digest", golden.digest),
            ("activated", output.show_time(golden.activated)),
            ("retired", output.show_time(golden.retired)),
        )
    )
