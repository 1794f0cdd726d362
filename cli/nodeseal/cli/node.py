"""``nodeseal node``: who is enrolled, in which state, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.client import CALL_SECONDS, connect
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.ids import parse_node_id
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Show nodes and decide about them.")
_PAGE = 500

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", parser=output.argument(parse_node_id))]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list", epilog="Example: nodeseal node list --json")
def list_nodes(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List all nodes with their states."""
    nodes: list[pb.Node] = []
    with connect(client) as verifier:
        while True:
            request = pb.ListNodesRequest(after=nodes[-1].node_id if nodes else "", limit=_PAGE)
            page = verifier.nodes.ListNodes(request, timeout=CALL_SECONDS).nodes
            nodes += page
            if len(page) < _PAGE:
                break
    if as_json:
        output.print_json([output.message_json(node) for node in nodes])
        return
    output.print_table(
        ("node", "state", "trusted until", "host", "leases", "findings"), map(_row, nodes), empty="no nodes"
    )


def _row(node: pb.Node) -> tuple[str, ...]:
    findings = ", ".join(f"{finding.id} {finding.where}".strip() for finding in node.findings)
    return (
        node.node_id,
        output.state_name(node.state),
        output.show_time(node.trusted_until),
        node.hostname,
        str(len(node.leases)),
        findings,
    )


@app.command("show", epilog="Example: nodeseal node show n-4xk2…")
def show_node(node: NodeArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Show one node: state, findings with remedies, keys, leases."""
    with connect(client) as verifier:
        found = verifier.nodes.GetNode(pb.GetNodeRequest(node_id=node), timeout=CALL_SECONDS)
    _print(found, as_json=as_json)


@app.command("admit", epilog="Example: nodeseal node admit n-4xk2…")
def admit_node(node: NodeArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Let a pending node be judged, or lift a quarantine."""
    with connect(client) as verifier:
        found = verifier.nodes.AdmitNode(pb.AdmitNodeRequest(node_id=node), timeout=CALL_SECONDS)
    _print(found, as_json=as_json)


@app.command("quarantine", epilog="Example: nodeseal node quarantine n-4xk2… --reason 'chassis opened'")
def quarantine_node(
    node: NodeArgument, reason: ReasonOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Take a node's trust and leases away until a person admits it again."""
    with connect(client) as verifier:
        request = pb.QuarantineNodeRequest(node_id=node, reason=reason)
        found = verifier.nodes.QuarantineNode(request, timeout=CALL_SECONDS)
    _print(found, as_json=as_json)


@app.command("retire", epilog="Example: nodeseal node retire n-4xk2… --reason 'returned to vendor'")
def retire_node(
    node: NodeArgument, reason: ReasonOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Take a node out of service for good; it cannot enrol again."""
    with connect(client) as verifier:
        found = verifier.nodes.RetireNode(pb.RetireNodeRequest(node_id=node, reason=reason), timeout=CALL_SECONDS)
    _print(found, as_json=as_json)


def _print(node: pb.Node, *, as_json: bool) -> None:
    if as_json:
        output.print_message(node)
        return
    output.print_facts(_facts(node))
    for finding in node.findings:
        output.console.print(f"\n[bold]{finding.id}[/] {finding.where}", highlight=False)
        event = (("  event", finding.event),) if finding.event else ()
        output.print_facts(
            (("  expected", finding.expected), ("  seen", finding.seen), *event, ("  do", finding.remedy))
        )


def _facts(node: pb.Node) -> list[tuple[str, str]]:
    facts = [
        ("node", node.node_id),
        ("state", output.state_name(node.state)),
        ("trusted until", output.show_time(node.trusted_until)),
        ("host", node.hostname),
        ("boot", node.boot_id),
        ("TPM", f"{node.tpm_manufacturer} {node.tpm_firmware}"),
        ("endorsement key", node.ek_name),
        ("attestation key", node.ak_name),
        ("enrolled", output.show_time(node.enrolled)),
        ("last seen", output.show_time(node.last_seen)),
        ("goldens", ", ".join(node.goldens) or "-"),
        ("leases", ", ".join(node.leases) or "-"),
    ]
    return facts + ([("reason", node.reason)] if node.reason else [])
