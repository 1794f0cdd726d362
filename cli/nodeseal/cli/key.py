"""``nodeseal key``: model keys, whose private halves never leave the verifier's key store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.client.connection import CALL_SECONDS, connect
from nodeseal.ids import parse_key_id, parse_node_id
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Create model keys and say which nodes may open with them.")

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", parser=output.argument(parse_key_id), help="Name of the model key.")
]
PublicOption = Annotated[Path | None, typer.Option("--public", "-o", help="Write the public key to this file.")]


@app.command("create", epilog="Example: nodeseal key create llama-70b --public llama-70b.pub")
def create_key(  # noqa: PLR0913 - a command's options
    key: KeyArgument,
    public: PublicOption = None,
    suite: Annotated[
        str, typer.Option(help="HPKE suite; empty: what the store prefers, in files safe against quantum computers.")
    ] = "",
    store: Annotated[
        str, typer.Option(metavar="STORE", help="file, or 'pkcs11:token=…;object=…' for the verifier's hardware token.")
    ] = "file",
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Create a model key; whoever has its public half can seal."""
    with connect(client) as verifier:
        created = verifier.keys.CreateKey(
            pb.CreateKeyRequest(key_id=key, suite=suite, store=store), timeout=CALL_SECONDS
        )
    _finish(created, public, as_json=as_json)


@app.command("list", epilog="Example: nodeseal key list")
def list_keys(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List all model keys."""
    with connect(client) as verifier:
        keys = verifier.keys.ListKeys(pb.ListKeysRequest(), timeout=CALL_SECONDS).keys
    if as_json:
        output.print_json([output.message_json(key) for key in keys])
        return
    rows = (
        (k.key_id, str(k.version), k.suite, _status(k), str(len(k.grants)), output.show_time(k.created)) for k in keys
    )
    output.print_table(("key", "version", "suite", "status", "grants", "created"), rows, empty="no keys")


@app.command("show", epilog="Example: nodeseal key show llama-70b --public llama-70b.pub")
def show_key(
    key: KeyArgument, public: PublicOption = None, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Show a model key and its grants; --public writes the file that `nodeseal seal` needs."""
    with connect(client) as verifier:
        found = verifier.keys.GetKey(pb.GetKeyRequest(key_id=key), timeout=CALL_SECONDS)
    _finish(found, public, as_json=as_json)


@app.command("grant", epilog="Example: nodeseal key grant llama-70b --node n-4xk2… --max-leases 1")
def grant_key(
    key: KeyArgument,
    node: Annotated[
        str, typer.Option(metavar="NODE", parser=output.argument(parse_node_id), help="Who may open: its id, n-….")
    ],
    max_leases: Annotated[int, typer.Option(min=1, max=1024, help="Leases the node may hold at once.")] = 1,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Allow a node to open models that are sealed to a key."""
    request = pb.GrantKeyRequest(key_id=key, grant=pb.Grant(node_id=node, max_leases=max_leases))
    with connect(client) as verifier:
        found = verifier.keys.GrantKey(request, timeout=CALL_SECONDS)
    _finish(found, None, as_json=as_json)


@app.command("revoke", epilog="Example: nodeseal key revoke llama-70b --node n-4xk2… --reason 'job ended'")
def revoke_key(
    key: KeyArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded and told to the loaders.")],
    node: Annotated[
        str,
        typer.Option(metavar="NODE", help="Take only this node's grant; without it nobody opens with the key again."),
    ] = "",
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a key away from one node or from all; running leases end at once.

    By force: a node that had one needs a reboot before it opens any model again.
    """
    holder = output.argument(parse_node_id)(node) if node else ""
    request = pb.RevokeKeyRequest(key_id=key, node_id=holder, reason=reason)
    with connect(client) as verifier:
        found = verifier.keys.RevokeKey(request, timeout=CALL_SECONDS)
    _finish(found, None, as_json=as_json)


def _status(key: pb.Key) -> str:
    return "revoked" if key.revoked else "active"


def _finish(key: pb.Key, public: Path | None, *, as_json: bool) -> None:
    if public is not None:
        output.write_file(public, key.public)
    if as_json:
        output.print_message(key)
        return
    output.print_facts(
        [
            ("key", key.key_id),
            ("version", str(key.version)),
            ("suite", key.suite),
            ("store", key.store),
            ("status", _status(key)),
            ("created", output.show_time(key.created)),
            *(("granted to", f"{g.node_id}, leases at once: {g.max_leases}") for g in key.grants),
            *([("public key", str(public))] if public else []),
        ]
    )
