"""``nodeseal audit``: what happened, in the order of the verifier's log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.audit_proof import export, follow, prove, verify
from nodeseal.cli.audit_witness import witness_command
from nodeseal.cli.naming import subject_of
from nodeseal.cli.output import BLANK_LINE, CLIENT, Block, ClientOption, FactList, JsonOption
from nodeseal.client.connection import connect
from nodeseal.client.verifier import RecordQuery
from nodeseal.inert import inert
from nodeseal.v1 import admin_pb2 as pb

_HEX = re.compile(r"[0-9a-f]{40,}")
_SHOWN_DIGITS = 12
_TO_SECONDS = len("2026-01-01T00:00:00")

app = typer.Typer(no_args_is_help=True, help="Read the verifier's log: what was decided, by whom, and why.")
app.command("prove", epilog="Example: nodeseal audit prove 12 --key log.vkey -o act-12.tlog-proof")(prove)
app.command("export", epilog="Example: nodeseal audit export ./export --key log.vkey")(export)
app.command("verify", epilog="Example: nodeseal audit verify ./export --key log.vkey --witness-key witness.vkey")(
    verify
)
app.command("follow", epilog="Example: nodeseal audit follow last.checkpoint --key log.vkey --every 60")(follow)
app.command("witness", epilog="Example: nodeseal audit witness ./witness --name example.org/w1 --log-key log.vkey")(
    witness_command
)


@app.command(
    "list",
    epilog="Example: nodeseal audit list --subject node/n-4xk2…. To follow: nodeseal audit list --after 120 --json",
)
def list_records(  # noqa: PLR0913, PLR0917 - one parameter per option
    after: Annotated[
        int | None, typer.Option(min=0, help="Show the first acts behind this sequence number, not the newest.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Largest number of acts.")] = 1000,
    subject: Annotated[
        str,
        typer.Option(metavar="SUBJECT", help="Only what concerns this: node/ID, key/NAME, model/DIGEST, lease/ID…."),
    ] = "",
    actor: Annotated[str, typer.Option(metavar="ACTOR", help="Only what this one did: person/NAME, node/ID….")] = "",
    kind: Annotated[str, typer.Option(metavar="KIND", help="Only acts of this kind, such as lease.issued.")] = "",
    client: ClientOption = CLIENT,
    *,
    closed: Annotated[bool, typer.Option("--closed", help="Read the log of the releases before 0.2.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the newest acts in the order of the log: who did what to whom.

    Digests are cut short; nodeseal audit show SEQUENCE and --json show them whole. To follow the log, name the last
    sequence number that you saw with --after; --after 0 reads from the first act on.
    """
    if closed and (subject or actor or kind):
        raise typer.BadParameter("the closed log knows no filters", param_hint="--closed")
    with connect(client) as verifier:
        about = subject_of(verifier, subject)
        wanted = RecordQuery(after=after, limit=limit, subject=about, actor=actor, kind=kind, closed=closed)
        records = verifier.list_records(wanted)
    lines = _closed_lines(records) if closed else _act_lines(records)
    output.show(lambda: list(map(_plain_record, records)), lines, as_json=as_json)
    if not as_json and records and (older := records[0].sequence - 1) and not (subject or actor or kind):
        what = "records" if closed else "acts"
        said = f"older {what}: nodeseal audit list --after {max(older - limit, 0)} --limit {min(limit, older)}"
        output.show_parts([Text(said + " --closed" * closed)], output.errors)
    elif not as_json and len(records) == limit and (subject or actor or kind):
        output.show_note("more acts may match: set a larger --limit")


@app.command("show", epilog="Example: nodeseal audit show 12")
def show_record(
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=1, help="Its number, as audit list shows it.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one act whole: what was decided, on which versions, and the findings or labels that it names.

    docs/acts.md says what the fields of each kind mean.
    """
    with connect(client) as verifier:
        record = verifier.get_record(sequence)
    output.show(lambda: _plain_whole(record), _act_parts(record), as_json=as_json)


def _plain_record(record: pb.AuditRecord) -> dict[str, object]:
    plain: dict[str, object] = {
        "sequence": record.sequence,
        "leaf_hash": record.leaf_hash.hex(),
        "content": json.loads(record.content),
    }
    return {**plain, "body": json.loads(record.body), "text": record.text} if record.body else plain


def _plain_whole(record: pb.AuditRecord) -> dict[str, object]:
    documents = {document.digest: _document(document) for document in record.documents}
    return {**_plain_record(record), "documents": documents}


def _act_parts(record: pb.AuditRecord) -> Iterator[Block]:
    envelope, body = json.loads(record.content), json.loads(record.body)
    subjects, fields = envelope["subjects"], body["fields"]
    yield Text(record.text)
    yield BLANK_LINE
    yield FactList(
        (
            ("sequence", str(record.sequence)),
            ("kind", envelope["kind"]),
            ("time", envelope["at"]),
            ("actor", body["actor"]),
            ("leaf hash", record.leaf_hash.hex()),
        )
    )
    for facts in filter(None, ({name: f"version {version}" for name, version in subjects.items()}, fields)):
        yield BLANK_LINE
        yield FactList((name, _whole(value)) for name, value in facts.items())
    for document in record.documents:
        yield BLANK_LINE
        yield Text(f"{', '.join(name for name, value in fields.items() if value == document.digest)}:")
        yield _document_parts(_document(document))


def _document(document: pb.RecordDocument) -> Any:
    """Return a document as plain values; signatures (``-----BEGIN SSH SIGNATURE-----``) are no JSON, and stay text."""
    try:
        return json.loads(document.content)
    except ValueError:
        return document.content.decode("ascii", "backslashreplace")


def _document_parts(content: list[dict[str, str]] | dict[str, object] | str) -> Iterator[Block]:
    """Yield what findings, labels, signatures, proposals or their approvals say."""
    if isinstance(content, str):
        yield from (Text(f"  {inert(line)}") for line in content.splitlines())
        return
    if isinstance(content, dict):
        yield FactList((f"  {name}", _whole(value)) for name, value in content.items()) if content else Text("  none")
        return
    for finding in content:
        yield Text.assemble("  ", (finding["id"], "bold"), " ", finding["where"])
        event = (("    event", finding["event"]),) if finding["event"] else ()
        yield FactList((("    expected", finding["expected"]), ("    seen", finding["seen"]), *event))


def _whole(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_whole, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_whole(part)}" for name, part in value.items()) or "-"
    return "-" if value in {"", None} else str(value)


def _act_lines(records: list[pb.AuditRecord]) -> Iterator[Text]:
    """Yield one line for each act: number, time, kind and actor, then what happened in plain words."""
    if not records:
        yield Text("no acts")
    for record in records:
        envelope, body = json.loads(record.content), json.loads(record.body)
        time = envelope["at"][:_TO_SECONDS]
        yield Text(f"{record.sequence:>4}  {time}Z  {envelope['kind']}  by {body['actor']}")
        yield Text(f"      {_short(record.text)}")


def _closed_lines(records: list[pb.AuditRecord]) -> Iterator[Text]:
    """Yield one line that says what happened, and one with the details, which a table would squeeze into a column."""
    if not records:
        yield Text("no records")
    for record in records:
        content = json.loads(record.content)
        time = content["time"][:_TO_SECONDS]
        subject = _short(content["subject"])
        yield Text(f"{record.sequence:>4}  {time}Z  {content['action']}  {subject}  by {content['actor']}")
        known = {name: text for name, value in content["details"].items() if (text := _short(value))}
        if known:
            yield Text("      " + " ".join(f"{name}={text}" for name, text in sorted(known.items())))


def _short(value: object) -> str:
    """Return a value as people read it: findings by id, digests by their first digits, empty values as nothing."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    if isinstance(value, dict):
        return f"{value.get('id', '')} {value.get('where', '')}".strip()
    return _HEX.sub(lambda found: f"{found[0][:_SHOWN_DIGITS]}…", str(value))
