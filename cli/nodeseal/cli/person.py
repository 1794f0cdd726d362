"""``nodeseal person``: who operates the verifier, and what people do about themselves and each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, show_time
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.cli.propose import PersonArgument, read_key_line
from nodeseal.client.connection import connect
from nodeseal.client.renewal import renew
from nodeseal.v1 import people_pb2 as pb

app = typer.Typer(
    no_args_is_help=True, help="Show who operates the verifier, and look after your certificate and keys."
)


@app.callback()
def _group() -> None:
    """Show who operates the verifier, and look after your certificate and keys."""


@app.command("renew", epilog="Example: nodeseal person renew")
def renew_person(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Get a new certificate with a new key, with the same roles, while yours is valid; the old one ends."""
    renewed = renew(client.expanduser())
    value = {"name": renewed.name, "expires": renewed.not_after.isoformat()}
    facts = FactList((("person", renewed.name), ("valid until", f"{renewed.not_after:%Y-%m-%d}")))
    output.show(value, facts, as_json=as_json)


@app.command("list", epilog="Example: nodeseal person list")
def list_people(client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """List people with their roles and SSH keys, and say which rules are in force."""
    with connect(client) as verifier:
        found = verifier.list_people()
    rows = Rows(("person", "roles", "status", "valid until", "SSH keys"), map(_row, found.people), empty="nobody")
    output.show(lambda: plain_message(found), FactList((("rules", found.rules),)), rows, as_json=as_json)


@app.command("suspend", epilog="Example: nodeseal person suspend kim --reason 'laptop stolen'")
def suspend_person(
    person: PersonArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Lock a person out at once, for 72 hours: no call of theirs is answered, and no approval of theirs counts.

    One person is enough. If a second person says the same within that time, it lasts until people end it together.
    """
    with connect(client) as verifier:
        found = verifier.suspend_person(person, reason)
    output.show(lambda: plain_message(found), _facts(found), as_json=as_json)


@app.command("resume", epilog="Example: nodeseal person resume kim")
def resume_person(person: PersonArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Let a suspended person in again."""
    with connect(client) as verifier:
        found = verifier.resume_person(person)
    output.show(lambda: plain_message(found), _facts(found), as_json=as_json)


@app.command("key-add", epilog="Example: nodeseal person key-add kim ~/.ssh/id_ed25519.pub")
def add_key(
    person: PersonArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Their .pub file.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a person approve with an SSH key."""
    with connect(client) as verifier:
        found = verifier.add_person_key(person, read_key_line(file))
    output.show(lambda: plain_message(found), _facts(found), as_json=as_json)


@app.command("key-remove", epilog="Example: nodeseal person key-remove kim SHA256:…")
def remove_key(
    person: PersonArgument,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As nodeseal person list shows it.")],
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a person approve with an SSH key no more."""
    with connect(client) as verifier:
        found = verifier.remove_person_key(person, fingerprint)
    output.show(lambda: plain_message(found), _facts(found), as_json=as_json)


def _status(person: pb.PersonFacts) -> str:
    if not person.HasField("suspended"):
        return "active"
    lapses = f"until {show_time(person.suspended_until)}" if person.HasField("suspended_until") else "confirmed"
    return f"suspended {lapses} by {person.suspended_by}"


def _row(person: pb.PersonFacts) -> tuple[str, ...]:
    keys = "\n".join(map(_key, person.keys)) or "-"
    return person.name, " ".join(person.roles), _status(person), show_time(person.expires), keys


def _key(key: pb.PersonSshKey) -> str:
    return f"{key.fingerprint}{' (FIDO2)' if key.in_token else ''}"


def _facts(person: pb.PersonFacts) -> FactList:
    return FactList(
        (
            ("person", person.name),
            ("roles", " ".join(person.roles)),
            ("status", _status(person)),
            ("valid until", show_time(person.expires)),
            *(("SSH key", _key(key)) for key in person.keys),
        )
    )
