"""``nodeseal node``: who is enrolled, in which state, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.evidence import write_folder
from nodeseal.cli.labels import parse_label_changes
from nodeseal.cli.messages import plain_message, plain_messages, show_time
from nodeseal.cli.naming import NodeArgument, NodeIdArgument, node_of
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.errors import MalformedInput
from nodeseal.evidence.folder import decode_evidence_folder
from nodeseal.v1 import admin_pb2 as pb
from nodeseal.wire.messages import state_from_proto

app = typer.Typer(no_args_is_help=True, help="Show nodes and decide about them.")


def _parse_nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise typer.BadParameter("not hex digits") from error


ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list", epilog="Example: nodeseal node list --json")
def list_nodes(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List all nodes with their states."""
    with connect(client) as verifier:
        nodes = verifier.list_nodes()
    columns = ("node", "state", "trusted until", "host", "leases", "findings")
    output.show(lambda: plain_messages(nodes), Rows(columns, map(_node_row, nodes), empty="no nodes"), as_json=as_json)


def _node_row(node: pb.Node) -> tuple[str, ...]:
    findings = ", ".join(f"{finding.id} {finding.where}".strip() for finding in node.findings)
    return (
        node.node_id,
        state_from_proto(node.state),
        show_time(node.trusted_until),
        node.hostname,
        str(len(node.leases)),
        findings,
    )


@app.command("show", epilog="Example: nodeseal node show n-4xk2…")
def show_node(node: NodeArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Show one node: state, findings with remedies, keys, leases."""
    with connect(client) as verifier:
        found = verifier.get_node(node_of(verifier, node, Use.LOOK))
    _show_node(found, as_json=as_json)


@app.command("admit", epilog="Example: nodeseal node admit n-4xk2…")
def admit_node(node: NodeIdArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Let a pending node be judged, or lift a quarantine."""
    with connect(client) as verifier:
        found = verifier.admit_node(node_of(verifier, node, Use.TRUST))
    _show_node(found, as_json=as_json)


@app.command("quarantine", epilog="Example: nodeseal node quarantine n-4xk2… --reason 'chassis opened'")
def quarantine_node(
    node: NodeArgument, reason: ReasonOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Take a node's trust and leases away until a person admits it again."""
    with connect(client) as verifier:
        found = verifier.quarantine_node(node_of(verifier, node, Use.TAKE_AWAY), reason)
    _show_node(found, as_json=as_json)


@app.command("retire", epilog="Example: nodeseal node retire n-4xk2… --reason 'returned to vendor'")
def retire_node(
    node: NodeArgument, reason: ReasonOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Take a node out of service for good; it cannot enrol again."""
    with connect(client) as verifier:
        found = verifier.retire_node(node_of(verifier, node, Use.TAKE_AWAY), reason)
    _show_node(found, as_json=as_json)


@app.command("label", epilog="Example: nodeseal node label n-4xk2… rack=a role=gpu old-label=")
def label_node(
    node: NodeIdArgument,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL=VALUE…", help="LABEL= takes a label away.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what a node is called; goldens select nodes by their labels, so it is judged anew at once."""
    changes = parse_label_changes(labels)
    with connect(client) as verifier:
        found = verifier.label_node(node_of(verifier, node, Use.TRUST), changes)
    _show_node(found, as_json=as_json)


@app.command("evidence", epilog="Example: nodeseal node evidence n-4xk2… -o ./evidence")
def node_evidence(
    node: NodeIdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to make.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask a connected node for fresh and whole evidence, and keep it as a folder for nodeseal appraise."""
    if out.exists():
        raise MalformedInput(f"{out}: exists already", remedy="name a folder that does not exist yet")
    with connect(client) as verifier:
        files = verifier.get_evidence(node_of(verifier, node, Use.TRUST))
    folder = decode_evidence_folder(files)
    write_folder(out, files)
    facts = {"folder": str(out), "node": folder.channel.node_id, "received": folder.received.isoformat()}
    sizes = {name: len(content) for name, content in files.items()}
    shown = [*facts.items(), *((name, f"{size} bytes") for name, size in sizes.items())]
    output.show({**facts, "files": sizes}, FactList(shown), as_json=as_json)


@app.command("token", epilog="Example: nodeseal node token n-4xk2… --nonce 00112233445566778899aabbccddeeff")
def node_token(
    node: NodeIdArgument,
    nonce: Annotated[
        bytes | None, typer.Option(metavar="HEX", parser=_parse_nonce, help="What the relying party chose.")
    ] = None,
    jwk: Annotated[bool, typer.Option("--jwk", help="Print the key that verifies tokens instead.")] = False,  # noqa: FBT002 - a flag
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print what the verifier thinks of a node as a signed EAT attestation result, for relying parties."""
    with connect(client) as verifier:
        found = verifier.get_token(node_of(verifier, node, Use.TRUST), nonce or b"")
    plain = {"token": found.token, "public_jwk": json.loads(found.public_jwk)}
    output.show(plain, f"{found.public_jwk if jwk else found.token}\n", as_json=as_json)


def _show_node(node: pb.Node, *, as_json: bool) -> None:
    output.show(lambda: plain_message(node), FactList(_node_facts(node)), _finding_parts(node), as_json=as_json)


def _finding_parts(node: pb.Node) -> Iterator[Text | FactList]:
    for finding in node.findings:
        yield Text.assemble("\n", (finding.id, "bold"), " ", finding.where, no_wrap=False)
        event = (("  event", finding.event),) if finding.event else ()
        yield FactList((("  expected", finding.expected), ("  seen", finding.seen), *event, ("  do", finding.remedy)))


def _node_facts(node: pb.Node) -> list[tuple[str, str]]:
    facts = [
        ("node", node.node_id),
        ("state", state_from_proto(node.state)),
        ("trusted until", show_time(node.trusted_until)),
        ("host", node.hostname),
        ("boot", node.boot_id),
        ("labels", " ".join(f"{label}={value}" for label, value in sorted(node.labels.items())) or "-"),
        ("TPM", f"{node.tpm_manufacturer} {node.tpm_firmware}"),
        ("certified maker", node.certified_manufacturer or "-"),
        ("endorsement key", node.ek_name),
        ("attestation key", node.ak_name),
        ("enrolled", show_time(node.enrolled)),
        ("last seen", show_time(node.last_seen)),
        ("certificate until", show_time(node.certificate_expires)),
        ("goldens", ", ".join(node.goldens) or "-"),
        ("leases", ", ".join(node.leases) or "-"),
    ]
    held = (("in force, not recorded yet", sentence) for sentence in node.unrecorded)
    return [*facts, *_boot_facts(node), *([("reason", node.reason)] if node.reason else []), *held]


def _boot_facts(node: pb.Node) -> Iterator[tuple[str, str]]:
    """Yield a summary of what the logs proved."""
    if node.HasField("boot"):
        yield "secure boot", node.boot.secure_boot
        yield from (("firmware says", word) for word in node.boot.firmware_words)
        yield from (("boot image", image) for image in node.boot.images)
        yield from (("command line", line) for line in node.boot.command_lines)
        yield "firmware", node.boot.firmware_version or "-"
    if node.ima_judged_bytes:
        yield "IMA log", f"{node.ima_judged_bytes} bytes judged"
