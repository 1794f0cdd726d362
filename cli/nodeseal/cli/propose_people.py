"""``nodeseal propose person``: who operates the verifier, and with which SSH keys they approve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli.output import CLIENT, ClientOption, JsonOption
from nodeseal.cli.wishes import (
    HoursOption,
    PersonArgument,
    ReasonOption,
    RequestArgument,
    RoleOption,
    SshKeyOption,
    Wish,
    submit,
)
from nodeseal.client.connection import connect
from nodeseal.client.invitation import MAX_REQUEST
from nodeseal.crypto.ssh_key import MAX_KEY_LINE, parse_ssh_key
from nodeseal.files import read_small
from nodeseal.ids import digest_of

app = typer.Typer(
    no_args_is_help=True,
    help="Propose to invite or remove a person, to change their SSH keys, or to let them in again.",
)


@app.command("invite", epilog="Example: nodeseal propose person invite kim person.csr --role viewer --reason 'joins'")
def propose_invite(  # noqa: PLR0913, PLR0917 - a command's options
    person: PersonArgument,
    request: RequestArgument,
    role: RoleOption,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that a person operate the verifier. Once approved: nodeseal proposal invitation ID -o FILE."""
    content = read_small(request, MAX_REQUEST)
    change = {
        "kind": "person.invite",
        "person": person,
        "roles": sorted(set(role)),
        "request": digest_of(content),
    }
    wish = Wish(change=change, attachment=content, reason=reason, hours=hours, ssh_key=ssh_key)
    with connect(client) as verifier:
        submit(verifier, wish, as_json=as_json)


@app.command("remove", epilog="Example: nodeseal propose person remove kim --reason 'has left'")
def propose_remove(  # noqa: PLR0913 - a command's options
    person: PersonArgument,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose to remove a person. To lock them out at once and for a while: nodeseal person suspend."""
    change = {"kind": "person.remove", "person": person}
    with connect(client) as verifier:
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@app.command("key-add", epilog="Example: nodeseal propose person key-add kim kim.pub --reason 'new token'")
def propose_add_key(  # noqa: PLR0913, PLR0917 - a command's options
    person: PersonArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Their .pub file.")],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that a person may approve with an SSH key."""
    change = {"kind": "person.key-add", "person": person, "key": read_key_line(file)}
    with connect(client) as verifier:
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@app.command("key-remove", epilog="Example: nodeseal propose person key-remove kim SHA256:… --reason 'token lost'")
def propose_remove_key(  # noqa: PLR0913, PLR0917 - a command's options
    person: PersonArgument,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As nodeseal person list shows it.")],
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose that a person may approve with an SSH key no more."""
    change = {"kind": "person.key-remove", "person": person, "fingerprint": fingerprint}
    with connect(client) as verifier:
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


@app.command("resume", epilog="Example: nodeseal propose person resume kim --reason 'laptop found'")
def propose_resume_person(  # noqa: PLR0913 - a command's options
    person: PersonArgument,
    reason: ReasonOption,
    ssh_key: SshKeyOption = None,
    hours: HoursOption = 72,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Propose to let a suspended person in again."""
    with connect(client) as verifier:
        change = {"kind": "person.resume", "person": person}
        submit(verifier, Wish(change=change, reason=reason, hours=hours, ssh_key=ssh_key), as_json=as_json)


def read_key_line(file: Path) -> str:
    """Return the SSH key of a ``.pub`` file, without its comment.

    Raises:
        MalformedInput: the file cannot be read, or is not the public half of one accepted key.
    """
    return parse_ssh_key(read_small(file, MAX_KEY_LINE).decode("utf-8", "replace")).line
