"""``nodeseal propose``: proposes what one person may not do alone, in the words of the command that would do it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.cli.key import KeyArgument, SilenceOption, node_option
from nodeseal.cli.labels import parse_label_changes
from nodeseal.cli.naming import NodeIdArgument, complete_node_id, node_of
from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.cli.propose_people import app as people_app
from nodeseal.cli.wishes import HoursOption, ReasonOption, SshKeyOption, Wish, submit
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.crypto.hpke import Suite
from nodeseal.files import read_regular, read_small
from nodeseal.golden.document import MAX_GOLDEN, parse_golden
from nodeseal.governance.reslot import encode_reslot, named
from nodeseal.governance.rules import MAX_RULES, parse_rules
from nodeseal.ids import digest_of
from nodeseal.loader.folders import LocalFolder, read_document
from nodeseal.loader.reslot import rotating
from nodeseal.sealed.content import MAX_CONTENT
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, parse_model_key
from nodeseal.sealed.paths import CONTENT_NAME

app = typer.Typer(no_args_is_help=True, help="Propose what the rules leave to several people.")
_node = typer.Typer(no_args_is_help=True, help="Propose to admit or label a node.")
_golden = typer.Typer(no_args_is_help=True, help="Propose a golden.")
_key = typer.Typer(no_args_is_help=True, help="Propose to create, grant, resume or revoke a model key.")
_model = typer.Typer(no_args_is_help=True, help="Propose to register a model.")
for _name, _group in (("node", _node), ("golden", _golden), ("key", _key), ("model", _model), ("person", people_app)):
    app.add_typer(_group, name=_name)

_FILE_SUITE: Final = Suite.MLKEM768_X25519.value
_TOKEN_SUITE: Final = Suite.P384.value


@_node.command("admit", epilog="Example: nodeseal propose node admit n-4xk2… --reason 'new in rack a'")
def propose_admit(  # noqa: PLR0913 - a command's options
    node: NodeIdArgument,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose to let a pending node be judged, or to lift a quarantine."""
    with connect(client) as verifier:
        change = {"kind": "node.admit", "node": node_of(verifier, node, Use.TRUST)}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_node.command("label", epilog="Example: nodeseal propose node label n-4xk2… rack=a --reason 'moved'")
def propose_label(  # noqa: PLR0913, PLR0917 - a command's options
    node: NodeIdArgument,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL=VALUE…", help="LABEL= takes a label away.")],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose other labels of a node."""
    changes = parse_label_changes(labels)
    with connect(client) as verifier:
        change = {"kind": "node.label", "node": node_of(verifier, node, Use.TRUST), "labels": changes}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_golden.command("activate", epilog="Example: nodeseal propose golden activate rack-a.yaml --reason 'new kernel'")
def propose_activate(  # noqa: PLR0913 - a command's options
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A golden in YAML.")],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that nodes which match a golden be trusted."""
    document = read_regular(file, MAX_GOLDEN + 1)
    golden = parse_golden(document, str(file))
    change = {
        "kind": "golden.activate",
        "golden": golden.digest,
        "name": golden.name,
        "document": digest_of(document),
    }
    wish = Wish(change=change, attachment=document, reason=reason, hours=hours, ssh_key=ssh_key)
    with connect(client) as verifier:
        submit(verifier, wish, as_json=as_json)


@_key.command("create", epilog="Example: nodeseal propose key create llama-70b --reason 'for the 70b models'")
def propose_create_key(  # noqa: PLR0913, PLR0917 - a command's options
    key: KeyArgument,
    reason: ReasonOption,
    suite: Annotated[str, typer.Option(help="HPKE suite; empty: what the store prefers.")] = "",
    store: Annotated[str, typer.Option(metavar="STORE", help="file, or 'pkcs11:token=…;object=…'.")] = "file",
    silence_seconds: SilenceOption = 0,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose a model key."""
    change = {
        "kind": "key.create",
        "key": key,
        "suite": suite or (_FILE_SUITE if store == "file" else _TOKEN_SUITE),
        "store": store,
        "silence_seconds": silence_seconds,
    }
    with connect(client) as verifier:
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_key.command("grant", epilog="Example: nodeseal propose key grant llama-70b --node n-4xk2… --reason 'serves it'")
def propose_grant(  # noqa: PLR0913, PLR0917 - a command's options
    key: KeyArgument,
    node: Annotated[str, node_option("Who may open: its id, or six letters of it.", complete_node_id)],
    reason: ReasonOption,
    max_leases: Annotated[int, typer.Option(min=1, max=1024, help="Leases the node may hold at once.")] = 1,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that a node may open models that are sealed to a key."""
    with connect(client) as verifier:
        node_id = node_of(verifier, node, Use.TRUST)
        change = {"kind": "key.grant", "key": key, "node": node_id, "max_leases": max_leases}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_key.command(
    "policy", epilog="Example: nodeseal propose key policy llama-70b --silence-seconds 3600 --reason 'site b'"
)
def propose_policy(  # noqa: PLR0913, PLR0917 - a command's options
    key: KeyArgument,
    reason: ReasonOption,
    silence_seconds: SilenceOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose what holds for leases of a key that start from then on."""
    change = {"kind": "key.policy", "key": key, "silence_seconds": silence_seconds}
    with connect(client) as verifier:
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_key.command("resume", epilog="Example: nodeseal propose key resume llama-70b --reason 'it was no leak'")
def propose_resume_key(  # noqa: PLR0913 - a command's options
    key: KeyArgument,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose to end the suspension of a key."""
    with connect(client) as verifier:
        change = {"kind": "key.resume", "key": key}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_key.command("revoke", epilog="Example: nodeseal propose key revoke llama-70b --reason 'leaked'")
def propose_revoke(  # noqa: PLR0913 - a command's options
    key: KeyArgument,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose to take a key from all nodes for good. To take it at once and for a while: nodeseal key suspend."""
    with connect(client) as verifier:
        change = {"kind": "key.revoke", "key": key}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@_model.command("register", epilog="Example: nodeseal propose model register ./llama --reason 'evaluated'")
def propose_register(  # noqa: PLR0913, PLR0917 - a command's options
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    reason: ReasonOption,
    again: Annotated[bool, typer.Option("--again", help="Also if it was retired.")] = False,  # noqa: FBT002 - a flag
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that keys may be released for a sealed model."""
    content = read_document(LocalFolder(directory), CONTENT_NAME, MAX_CONTENT)
    change = {"kind": "model.register", "model": digest_of(content), "again": again}
    wish = Wish(change=change, attachment=content, reason=reason, hours=hours, ssh_key=ssh_key)
    with connect(client) as verifier:
        submit(verifier, wish, as_json=as_json)


@app.command("reslot", epilog="Example: nodeseal propose reslot ./llama --key llama-2027.pub --reason 'rotation'")
def propose_reslot(  # noqa: PLR0913, PLR0917 - a command's options
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A sealed model.")],
    keys: Annotated[
        list[Path], typer.Option("--key", metavar="PUBLIC", exists=True, help="Public file of a key. Repeatable.")
    ],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that other model keys open a sealed model.

    Once it is approved, take the slots: nodeseal reslot DIR --proposal ID.
    """
    recipients = [parse_model_key(read_small(path, MAX_MODEL_KEY_FILE), str(path)) for path in keys]
    with rotating(directory) as slots:
        attachment = encode_reslot(slots, recipients)
        change = {
            "kind": "model.reslot",
            "model": slots.model_digest,
            "keys": [named(key) for key in recipients],
            "document": digest_of(attachment),
        }
    wish = Wish(change=change, attachment=attachment, reason=reason, hours=hours, ssh_key=ssh_key)
    with connect(client) as verifier:
        submit(verifier, wish, as_json=as_json)


@app.command("rules", epilog="Example: nodeseal propose rules rules.yaml --reason 'two of us from now on'")
def propose_rules(  # noqa: PLR0913 - a command's options
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Rules in YAML.")],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose other rules. They need the approvals of the rules in force and of those that follow."""
    document = parse_rules(read_small(file, MAX_RULES), str(file)).encode()
    change = {"kind": "rules.set", "document": digest_of(document)}
    wish = Wish(change=change, attachment=document, reason=reason, hours=hours, ssh_key=ssh_key)
    with connect(client) as verifier:
        submit(verifier, wish, as_json=as_json)
