"""``nodeseal key``: model keys, whose private halves never leave the verifier's key store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, plain_messages, show_time
from nodeseal.cli.naming import complete_key, complete_node, complete_node_id, node_of, parse_called
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.ids import parse_key_id
from nodeseal.v1 import admin_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Create model keys and grant them to nodes.")

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", parser=output.argument(parse_key_id), help="Name of the model key.", autocompletion=complete_key
    ),
]
PublicOption = Annotated[Path | None, typer.Option("--public", "-o", help="Write the public key to this file.")]
SilenceOption = Annotated[
    int,
    typer.Option(min=0, max=86_400, help="How long leases of this key survive when the verifier cannot be reached."),
]


def node_option(says: str, complete: Any) -> Any:
    """Return the option that names a node."""
    return typer.Option(metavar="NODE", parser=output.argument(parse_called), help=says, autocompletion=complete)


@app.command("create", epilog="Example: nodeseal key create llama-70b --public llama-70b.pub")
def create_key(  # noqa: PLR0913, PLR0917 - a command's options
    key: KeyArgument,
    public: PublicOption = None,
    suite: Annotated[
        str, typer.Option(help="HPKE suite; empty: what the store prefers, in files safe against quantum computers.")
    ] = "",
    store: Annotated[
        str, typer.Option(metavar="STORE", help="file, or 'pkcs11:token=…;object=…' for the verifier's hardware token.")
    ] = "file",
    silence_seconds: SilenceOption = 0,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Create a model key. Its public half is enough to seal."""
    with connect(client) as verifier:
        created = verifier.create_key(key, suite, store, silence_seconds)
    _write_and_show(created, public, as_json=as_json)


@app.command("list", epilog="Example: nodeseal key list")
def list_keys(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List all model keys."""
    with connect(client) as verifier:
        keys = verifier.list_keys()
    columns = ("key", "version", "suite", "status", "grants", "created")
    output.show(lambda: plain_messages(keys), Rows(columns, map(_key_row, keys), empty="no keys"), as_json=as_json)


@app.command("show", epilog="Example: nodeseal key show llama-70b --public llama-70b.pub")
def show_key(
    key: KeyArgument, public: PublicOption = None, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Show a model key and its grants; --public writes the file that `nodeseal seal` needs."""
    with connect(client) as verifier:
        found = verifier.get_key(key)
    _write_and_show(found, public, as_json=as_json)


@app.command("grant", epilog="Example: nodeseal key grant llama-70b --node n-4xk2… --max-leases 1")
def grant_key(
    key: KeyArgument,
    node: Annotated[str, node_option("Who may open: its id, or six letters of it.", complete_node_id)],
    max_leases: Annotated[int, typer.Option(min=1, max=1024, help="Leases the node may hold at once.")] = 1,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Allow a node to open models that are sealed to a key."""
    with connect(client) as verifier:
        found = verifier.grant_key(key, node_of(verifier, node, Use.TRUST), max_leases)
    output.show(lambda: plain_message(found), _key_facts(found), as_json=as_json)


@app.command("policy", epilog="Example: nodeseal key policy llama-70b --silence-seconds 3600")
def set_policy(
    key: KeyArgument, silence_seconds: SilenceOption, client: ClientOption = CLIENT, *, as_json: JsonOption = False
) -> None:
    """Set what holds for leases of a key that start from now on.

    Silence of the verifier ends a lease so many seconds after the node's trust. Distrust and revocation end it at once.
    """
    with connect(client) as verifier:
        found = verifier.set_key_policy(key, silence_seconds)
    output.show(lambda: plain_message(found), _key_facts(found), as_json=as_json)


@app.command("revoke", epilog="Example: nodeseal key revoke llama-70b --node n-4xk2… --reason 'job ended'")
def revoke_key(
    key: KeyArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded and told to the loaders.")],
    node: Annotated[
        str | None, node_option("Take only its grant; without it nobody opens with the key again.", complete_node)
    ] = None,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a key away from one node or from all; running leases end at once.

    By force: the loaders are told why. The node needs no reboot: it opens again with another key, or with a new grant.
    """
    with connect(client) as verifier:
        holder = node_of(verifier, node, Use.TAKE_AWAY) if node else ""
        found = verifier.revoke_key(key, holder, reason)
    output.show(lambda: plain_message(found), _key_facts(found), as_json=as_json)


@app.command("suspend", epilog="Example: nodeseal key suspend llama-70b --reason 'perhaps leaked'")
def suspend_key(
    key: KeyArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded and told to the loaders.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a key from all nodes at once, for 72 hours; running leases end.

    One person is enough. If a second person says the same within that time, it lasts until people end it together.
    """
    with connect(client) as verifier:
        found = verifier.suspend_key(key, reason)
    output.show(lambda: plain_message(found), _key_facts(found), as_json=as_json)


@app.command("resume", epilog="Example: nodeseal key resume llama-70b")
def resume_key(key: KeyArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """End the suspension of a key."""
    with connect(client) as verifier:
        found = verifier.resume_key(key)
    output.show(lambda: plain_message(found), _key_facts(found), as_json=as_json)


def _status(key: pb.Key) -> str:
    if key.revoked:
        return "revoked"
    return "suspended" if key.HasField("suspended") else "active"


def _suspension(key: pb.Key) -> list[tuple[str, str]]:
    if key.revoked or not key.HasField("suspended"):
        return []
    lapses = f"lapses {show_time(key.suspended_until)}" if key.HasField("suspended_until") else "confirmed by a second"
    return [("suspended", f"{show_time(key.suspended)} by {key.suspended_by}, {lapses}")]


def _key_row(key: pb.Key) -> tuple[str, ...]:
    created = show_time(key.created)
    return key.key_id, str(key.version), key.suite, _status(key), str(len(key.grants)), created


def _write_and_show(key: pb.Key, public: Path | None, *, as_json: bool) -> None:
    if public is not None:
        output.write_file(public, key.public)
    output.show(lambda: plain_message(key), _key_facts(key, public), as_json=as_json)


def _key_facts(key: pb.Key, public: Path | None = None) -> FactList:
    return FactList(
        [
            ("key", key.key_id),
            ("version", str(key.version)),
            ("suite", key.suite),
            ("store", key.store),
            ("status", _status(key)),
            *_suspension(key),
            ("created", show_time(key.created)),
            ("survives silence", f"{key.silence_seconds} seconds" if key.silence_seconds else "no"),
            *(("granted to", f"{g.node_id}, leases at once: {g.max_leases}") for g in key.grants),
            *([("public key", str(public))] if public else []),
        ]
    )
