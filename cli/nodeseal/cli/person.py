"""``nodeseal person``: who operates the verifier, and what people do about themselves and each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeseal.cli import output
from nodeseal.cli.messages import plain_message, show_time
from nodeseal.cli.output import CLIENT, ClientOption, FactList, JsonOption, Rows
from nodeseal.cli.proposal import InvitationOption
from nodeseal.cli.propose_people import read_key_line
from nodeseal.cli.wishes import PersonArgument, RequestArgument, RoleOption
from nodeseal.client.connection import connect
from nodeseal.client.invitation import (
    MAX_INVITATION,
    MAX_REQUEST,
    REQUEST,
    begin_enrolment,
    encode_invitation,
    finish_enrolment,
)
from nodeseal.client.renewal import renew
from nodeseal.files import read_regular, read_small
from nodeseal.ids import PersonId
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


@app.command("enrol", epilog="Example: nodeseal person enrol kim -o ./kim --invitation kim.invitation")
def enrol_person(
    person: PersonArgument,
    folder: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of your client.")],
    invitation: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, help="What you got back for your request.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Become somebody who operates a verifier: first without --invitation, then with it.

    The first call makes a key and a request, which you send to somebody who may invite you. The second makes a client
    of the folder, for NODESEAL_CLIENT.
    """
    name = PersonId(person)
    if invitation is None:
        request = begin_enrolment(folder, name)
        facts = {"request": str(request), "next": f"send it to an approver: nodeseal person invite {name} {REQUEST}"}
    else:
        finish_enrolment(folder, name, read_regular(invitation, MAX_INVITATION))
        facts = {"client": str(folder), "next": f"NODESEAL_CLIENT={folder} nodeseal doctor"}
    output.show(facts, FactList(facts.items()), as_json=as_json)


@app.command("invite", epilog="Example: nodeseal person invite kim person.csr --role operator -o kim.invitation")
def invite_person(  # noqa: PLR0913 - a command's options
    person: PersonArgument,
    request: RequestArgument,
    role: RoleOption,
    out: InvitationOption,
    client: ClientOption = CLIENT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a person operate the verifier, with the key of their request; the invitation goes back to them."""
    with connect(client) as verifier:
        certificate = verifier.invite_person(person, sorted(set(role)), read_small(request, MAX_REQUEST))
    output.write_file(out, encode_invitation(certificate, client))
    facts = {
        "person": person,
        "invitation": str(out),
        "next": f"nodeseal person enrol {person} -o DIR --invitation {out}",
    }
    output.show(facts, FactList(facts.items()), as_json=as_json)


@app.command("remove", epilog="Example: nodeseal person remove kim")
def remove_person(person: PersonArgument, client: ClientOption = CLIENT, *, as_json: JsonOption = False) -> None:
    """Remove a person: every call of theirs is refused from now on, and no approval of theirs counts."""
    with connect(client) as verifier:
        verifier.remove_person(person)
    output.show({"removed": person}, FactList((("removed", person),)), as_json=as_json)


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
