"""``nodeseal-verifier log-key`` and ``new-origin``. A command imports what it needs when it is called."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nodeseal.ids import parse_person_id
from nodeseal.verifier.person_commands import ConfigOption, parsed

if TYPE_CHECKING:
    from nodeseal.verifier.ledger.tree.new_origin import Begun

LOG_KEY_EXAMPLE: Final = "Example: nodeseal-verifier log-key --config verifier.yaml > log.vkey"
NEW_ORIGIN_EXAMPLE: Final = (
    'Example: nodeseal-verifier new-origin --keep kim --keep lee --reason "a disk failed" --config verifier.yaml'
)
_MAX_REASON: Final = 500


def log_key(config: ConfigOption) -> None:
    """Print the public key of the log, as `nodeseal audit verify` and witnesses are given it.

    Its name is the log's origin: after new-origin it is another one.
    """
    from nodeseal.tlog.checkpoint import log_key as key_of
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.ledger.tree.log_tree import load_log_key, read_head
    from nodeseal.verifier.store.database import run
    from nodeseal.verifier.store.migrate import current_database

    settings = load_config(config)
    public = load_log_key(settings.log_key).public
    with current_database(settings.database) as engine:
        head = run(engine, lambda connection: read_head(connection, public))
    typer.echo(key_of(head.signed.checkpoint.origin, public).text)


def new_origin(
    config: ConfigOption,
    keep: Annotated[
        list[str], typer.Option(parser=parsed(parse_person_id), metavar="NAME", help="Who stays; repeat for more.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes into the log.")],
) -> None:
    """Begin a new log on a database that was restored; stop the verifier first.

    All grants are withdrawn, goldens and models retired, nodes quarantined, and people removed, except those named.
    What was revoked or removed after the backup is in force again in it, and nobody can know what that was.
    """
    from nodeseal.verifier.checks.start import claimed
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.ledger.log import load_mac_key
    from nodeseal.verifier.ledger.tree.log_tree import LogTree, load_log_key
    from nodeseal.verifier.ledger.tree.new_origin import NewOrigin, begin_anew
    from nodeseal.verifier.store.database import opened_engine, require_database

    if not reason or len(reason) > _MAX_REASON or not reason.isprintable():
        raise typer.BadParameter(f"1 to {_MAX_REASON} printable characters", param_hint="--reason")
    settings = load_config(config)
    require_database(settings.database)
    plan = NewOrigin(
        actor=f"local/{getpass.getuser()}",
        at=datetime.now(UTC),
        reason=reason,
        keep=tuple(map(parse_person_id, keep)),
    )
    tree = LogTree(load_log_key(settings.log_key), settings.trust_domain, settings.checkpoint)
    with claimed(settings), opened_engine(settings.database) as engine:
        begun = begin_anew(engine, load_mac_key(settings.acts_key), tree, settings.checkpoint, plan)
    _tell(begun, settings.checkpoint)


def _tell(begun: Begun, file: Path) -> None:
    before = begun.before
    typer.echo(f"WARNING  the log {before.origin} has ended: {before.size} acts were signed, {begun.kept} are here")
    for line in begun.taken:
        typer.echo(f"  {line}")
    typer.echo(f"new log: {begun.signed.checkpoint.origin}; its first checkpoint is in {file}")
    typer.echo("next: tell auditors and witnesses the new key: nodeseal-verifier log-key")
    typer.echo("next: admit nodes, activate goldens, register models and grant keys again")
