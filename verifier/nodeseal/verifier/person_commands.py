"""``nodeseal-verifier person`` and ``rules``: people and rules on the verifier's host.

They are for the first people, while one person decides alone, and for recovery. All but ``rules recover`` work beside a
running verifier, which reads people from the database at each call. A command imports what it needs when it is called.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from nodeseal.errors import NodesealError
from nodeseal.ids import parse_person_id

if TYPE_CHECKING:
    from nodeseal.crypto.authority import CertificateAuthority
    from nodeseal.verifier.config import Config
    from nodeseal.verifier.people.persons import Newcomer, People
    from nodeseal.verifier.states import Role

T = TypeVar("T")
person_app = typer.Typer(no_args_is_help=True, help="Manage the people who may operate the verifier, and their roles.")

rules_app = typer.Typer(
    no_args_is_help=True, help="Show the rules for people, and recover from rules that nobody can meet."
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="verifier.yaml")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Turn a parser of nodeseal's into one whose refusal is a usage error (exit 2)."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except NodesealError as error:
            raise typer.BadParameter(str(error)) from error

    return convert


NameArgument = Annotated[str, typer.Argument(parser=parsed(parse_person_id), metavar="NAME", help="Who.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to make for their client.")]
VerifierOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Address their client calls; if left out, by the server certificate's first name."
    ),
]


@person_app.command(
    "add",
    epilog="Example: nodeseal-verifier person add kim --role operator --role viewer -o ./kim --config verifier.yaml",
)
def person_add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option(metavar="ROLE", help="viewer, operator, approver or auditor; repeatable.")],
    output: OutputOption,
    config: ConfigOption,
    verifier: VerifierOption = None,
) -> None:
    """Make a client certificate for a person: folder and person are both there afterwards, or neither is."""
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.people.persons import parse_roles

    settings = load_config(config)
    newcomer = _newcomer(settings, name, parse_roles(role), verifier)
    with _people(settings) as people:
        people.add(_authority(settings), newcomer, output)
    _tell_client(output, newcomer)


@person_app.command("renew", epilog="Example: nodeseal-verifier person renew kim -o ./kim-2027 --config verifier.yaml")
def person_renew(
    name: NameArgument, output: OutputOption, config: ConfigOption, verifier: VerifierOption = None
) -> None:
    """Make a new client for a person, whose certificate has expired or whose key is lost; it ends the one before.

    While their certificate is valid, people renew it themselves: nodeseal person renew.
    """
    from nodeseal.verifier.config import load_config

    settings = load_config(config)
    newcomer = _newcomer(settings, name, frozenset(), verifier)
    with _people(settings) as people:
        people.renew(_authority(settings), newcomer, output)
    _tell_client(output, newcomer)


@person_app.command(
    "key-add", epilog="Example: nodeseal-verifier person key-add kim ./id_ed25519.pub --config verifier.yaml"
)
def person_key_add(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Their .pub file.")],
    config: ConfigOption,
) -> None:
    """Let a person approve proposals with an SSH key, while one person decides alone."""
    from nodeseal.crypto.ssh_key import MAX_KEY_LINE
    from nodeseal.files import read_small
    from nodeseal.verifier.config import load_config

    line = read_small(file, MAX_KEY_LINE).decode("utf-8", "replace")
    with _people(load_config(config)) as people:
        fingerprint = people.add_key(parse_person_id(name), line, _local_actor())
    typer.echo(f"{name}: approves with SSH key {fingerprint}")


@person_app.command("remove", epilog="Example: nodeseal-verifier person remove kim --config verifier.yaml")
def person_remove(
    name: NameArgument,
    config: ConfigOption,
    last: Annotated[bool, typer.Option("--last", help="Even if nobody can approve any more.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Remove a person: their next call is refused."""
    from nodeseal.verifier.config import load_config

    with _people(load_config(config)) as people:
        people.remove(parse_person_id(name), _local_actor(), even_last=last)
    typer.echo(f"{name}: removed; every call is refused from now on")


@person_app.command("list", epilog="Example: nodeseal-verifier person list --json --config verifier.yaml")
def person_list(
    config: ConfigOption,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show who may operate the verifier, and when their certificates end."""
    from nodeseal.files import read_file
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.people.persons import certificates_end
    from nodeseal.verifier.store.database import run
    from nodeseal.verifier.store.governance import current_rules
    from nodeseal.verifier.store.migrate import current_database
    from nodeseal.verifier.store.persons import list_persons

    settings = load_config(config)
    with current_database(settings.database) as engine:
        ends = certificates_end(run(engine, list_persons), read_file(settings.tls.ca, "tls.ca"))
        rules = run(engine, current_rules)
    typer.echo(f"rules: {rules.words}", err=True)
    rows = [
        {"name": person.name, "roles": sorted(role.value for role in person.roles), "expires": end.isoformat()}
        for person, end in ends
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for person, end in ends:
        roles = " ".join(sorted(role.value for role in person.roles))
        typer.echo(f"{person.name:<24}{roles:<36}{_ending(end, datetime.now(UTC))}")


@rules_app.command("show", epilog="Example: nodeseal-verifier rules show --config verifier.yaml")
def rules_show(config: ConfigOption) -> None:
    """Show the rules in force, and whose absence would leave nobody who can meet them."""
    from nodeseal.governance.quorum import hazards
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.store.database import run
    from nodeseal.verifier.store.governance import current_rules, members
    from nodeseal.verifier.store.migrate import current_database

    with current_database(load_config(config).database) as engine:
        rules, people = run(engine, current_rules), run(engine, members)
    typer.echo(f"rules: {rules.words}")
    for hazard in hazards(rules, people):
        typer.echo(f"warning: {hazard}")


@rules_app.command("recover", epilog="Example: nodeseal-verifier rules recover --config verifier.yaml")
def rules_recover(config: ConfigOption) -> None:
    """Put the rule solo in force, past every quorum. Stop the verifier first. It is recorded, and ends all leases.

    For when nobody is left who can meet the rules. Whoever reads the log sees who did it and when.
    """
    from nodeseal.verifier.checks.start import claimed
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.ledger.log import load_mac_key
    from nodeseal.verifier.people.rulebook import recover_rules
    from nodeseal.verifier.store.migrate import current_database

    settings = load_config(config)
    with claimed(settings), current_database(settings.database) as engine:
        mac_key = load_mac_key(settings.acts_key)
        rules, ended = recover_rules(engine, mac_key, _local_actor(), datetime.now(UTC))
    typer.echo("WARNING: the rules were replaced without the people whom they asked.", err=True)
    typer.echo("WARNING: the log tells it for good. Tell everybody who relied on two people.", err=True)
    typer.echo(f"rules:  {rules.words}")
    typer.echo(f"leases: {ended} ended; open proposals are void")


def _ending(end: datetime, now: datetime) -> str:
    from nodeseal.crypto.tls_files import EXPIRES_SOON

    if now >= end:
        return f"expired {end:%Y-%m-%d}"
    soon = f", in less than {EXPIRES_SOON.days // 7} weeks" if now >= end - EXPIRES_SOON else ""
    return f"until {end:%Y-%m-%d}{soon}"


def _newcomer(settings: Config, name: str, roles: frozenset[Role], verifier: str | None) -> Newcomer:
    from nodeseal.verifier.people.persons import Newcomer

    return Newcomer(
        name=parse_person_id(name),
        roles=roles,
        trust_domain=settings.trust_domain,
        verifier=verifier or _own_address(settings),
        actor=_local_actor(),
    )


def _own_address(settings: Config) -> str:
    """Return where clients find this verifier, by a name that its certificate has."""
    from nodeseal.crypto.tls_files import certificates_in
    from nodeseal.files import read_file
    from nodeseal.verifier.config import join_address, split_address

    served = certificates_in(read_file(settings.tls.certificate, "tls.certificate"))[0]
    host = next((name for name in served.hosts if "*" not in name), "localhost")
    return join_address(host, split_address(settings.listen)[1])


def _tell_client(folder: Path, newcomer: Newcomer) -> None:
    typer.echo(f"client:   {folder}, for {newcomer.name}: move it to their machine, they set NODESEAL_CLIENT to it")
    typer.echo(f"verifier: {newcomer.verifier}")


def _authority(settings: Config) -> CertificateAuthority:
    from nodeseal.crypto.authority import CertificateAuthority
    from nodeseal.files import read_file, read_private

    return CertificateAuthority.load(
        read_file(settings.tls.ca, "tls.ca"), read_private(settings.tls.ca_key, "tls.ca_key")
    )


@contextmanager
def _people(config: Config) -> Iterator[People]:
    from nodeseal.verifier.ledger.log import load_mac_key
    from nodeseal.verifier.people.persons import People
    from nodeseal.verifier.store.migrate import current_database

    with current_database(config.database) as engine:
        yield People(engine=engine, mac_key=load_mac_key(config.acts_key), at=datetime.now(UTC))


def _local_actor() -> str:
    """Name who uses the command on the verifier's machine, for the audit log."""
    return f"local/{getpass.getuser()}"
