"""``nodeseal-verifier person``: adds, renews, removes and lists people on the verifier's host.

All of it works beside a running verifier, which reads people from the database at each call.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import sqlalchemy as sa
import typer

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_files import EXPIRES_SOON
from nodeseal.errors import NodesealError
from nodeseal.files import read_file, read_private
from nodeseal.ids import parse_person_id
from nodeseal.verifier.config import Config, load_config, split_address
from nodeseal.verifier.ledger.log import load_mac_key
from nodeseal.verifier.people.persons import Newcomer, People, certificates_end, parse_roles
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import open_engine, require_database, run
from nodeseal.verifier.store.migrate import check_schema
from nodeseal.verifier.store.persons import list_persons

T = TypeVar("T")
person_app = typer.Typer(no_args_is_help=True, help="Manage the people who may operate the verifier, and their roles.")

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
    str | None, typer.Option(metavar="HOST:PORT", help="Address their client calls; localhost if left out.")
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
    settings = load_config(config)
    with _people(settings) as people:
        people.add(_authority(settings), _newcomer(settings, name, parse_roles(role), verifier), output)


@person_app.command("renew", epilog="Example: nodeseal-verifier person renew kim -o ./kim-2027 --config verifier.yaml")
def person_renew(
    name: NameArgument, output: OutputOption, config: ConfigOption, verifier: VerifierOption = None
) -> None:
    """Make a new client for a person, whose certificate has expired or whose key is lost; it ends the one before.

    While their certificate is valid, people renew it themselves: nodeseal person renew.
    """
    settings = load_config(config)
    with _people(settings) as people:
        people.renew(_authority(settings), _newcomer(settings, name, frozenset(), verifier), output)


@person_app.command("remove", epilog="Example: nodeseal-verifier person remove kim --config verifier.yaml")
def person_remove(
    name: NameArgument,
    config: ConfigOption,
    last: Annotated[bool, typer.Option("--last", help="Even if nobody can approve any more.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Remove a person: their next call is refused."""
    with _people(load_config(config)) as people:
        people.remove(parse_person_id(name), _local_actor(), even_last=last)


@person_app.command("list", epilog="Example: nodeseal-verifier person list --json --config verifier.yaml")
def person_list(
    config: ConfigOption,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show who may operate the verifier, and when their certificates end."""
    settings = load_config(config)
    with _engine(settings) as engine:
        ends = certificates_end(run(engine, list_persons), read_file(settings.tls.ca, "tls.ca"))
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


def _ending(end: datetime, now: datetime) -> str:
    if now >= end:
        return f"expired {end:%Y-%m-%d}"
    soon = f", in less than {EXPIRES_SOON.days // 7} weeks" if now >= end - EXPIRES_SOON else ""
    return f"until {end:%Y-%m-%d}{soon}"


def _newcomer(settings: Config, name: str, roles: frozenset[Role], verifier: str | None) -> Newcomer:
    return Newcomer(
        name=parse_person_id(name),
        roles=roles,
        trust_domain=settings.trust_domain,
        verifier=verifier or f"localhost:{split_address(settings.listen)[1]}",
        actor=_local_actor(),
    )


def _authority(settings: Config) -> CertificateAuthority:
    return CertificateAuthority.load(
        read_file(settings.tls.ca, "tls.ca"), read_private(settings.tls.ca_key, "tls.ca_key")
    )


@contextmanager
def _people(config: Config) -> Iterator[People]:
    with _engine(config) as engine:
        yield People(engine=engine, mac_key=load_mac_key(config.acts_key), at=datetime.now(UTC))


@contextmanager
def _engine(config: Config) -> Iterator[sa.Engine]:
    require_database(config.database)
    engine = open_engine(config.database)
    try:
        check_schema(engine)
        yield engine
    finally:
        engine.dispose()


def _local_actor() -> str:
    """Name who uses the command on the verifier's machine, for the audit log."""
    return f"local/{getpass.getuser()}"
