"""``nodeseal-verifier backup`` and ``restore``. A command imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nodeseal.verifier.person_commands import ConfigOption

if TYPE_CHECKING:
    from nodeseal.verifier.backup import RestoredState

BACKUP_EXAMPLE: Final = (
    "Example: nodeseal-verifier backup /backup/2026-12-01 --keys-apart /safe/2026-12-01 "
    "--config /etc/nodeseal/verifier/verifier.yaml"
)
RESTORE_EXAMPLE: Final = (
    "Example: nodeseal-verifier restore /backup/2026-12-01 /etc/nodeseal/verifier --keys-apart /safe/2026-12-01"
)
_ApartOption = Annotated[
    Path | None,
    typer.Option("--keys-apart", metavar="DIR", help="Another folder for key-encryption key and key of the log."),
]


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    config: ConfigOption,
    keys_apart: _ApartOption = None,
) -> None:
    """Copy a verifier into a new folder: database, journal, keys, certificates, settings. It may run meanwhile.

    Whoever has all of it can open every model and write any history: use --keys-apart, and keep both places private.
    """
    from nodeseal.verifier.backup import back_up

    absent = back_up(config, folder, keys_apart)
    typer.echo(f"backup: {folder}")
    if keys_apart is not None:
        typer.echo(f"keys:   {keys_apart}; keep them in another place")
    for name in absent:
        typer.echo(f"not in it: {name}, which is no file here; if it is a credential, keep that safe by itself")
    apart = f" --keys-apart {keys_apart}" if keys_apart is not None else ""
    typer.echo(f"try it: nodeseal-verifier restore {folder} --verify{apart}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")],
    new: Annotated[Path | None, typer.Argument(metavar="NEWFOLDER", help="Folder to make.")] = None,
    keys_apart: _ApartOption = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Without NEWFOLDER: only check. With it, this is always done.")
    ] = False,
) -> None:
    """Check a backup as a start does (schema, every act's MAC, every model key), then copy it to a new folder.

    Nothing is written there if a check fails. What was revoked, retired or removed later is in force again.
    """
    from nodeseal.verifier.backup import restore as restored
    from nodeseal.verifier.backup import try_restore

    if new is None and not verify:
        raise typer.BadParameter("name a new folder, or only --verify", param_hint="NEWFOLDER")
    now = datetime.now(UTC)
    state = try_restore(folder, now, keys_apart) if new is None else restored(folder, new, now, keys_apart)
    for line in _lines(state, folder, new):
        typer.echo(line)


def _lines(state: RestoredState, folder: Path, new: Path | None) -> Iterator[str]:
    from nodeseal.checks.faults import report_lines

    yield f"{folder}: good; {state.acts} acts, the last of {state.last:%Y-%m-%d %H:%M:%S} UTC"
    yield from report_lines(state.warnings)
    yield f"WARNING  this {'brings' if new is None else 'brought'} back what was taken away after that. Look through:"
    yield f"  people {', '.join(state.people) or '-'}: remove again who was removed"
    yield f"  keys {', '.join(state.keys) or '-'}: revoke again what was revoked, grants too"
    yield f"  goldens {', '.join(state.goldens) or '-'}: retire again what was retired; models and nodes, too"
    yield "WARNING  never run it beside the verifier that it was copied from"
    if new is not None:
        yield f"restored: {new}; give it to the verifier's user: chown -R"
        yield f"next: nodeseal-verifier new-origin --keep NAME --reason WHY --config {new / 'verifier.yaml'}"
        yield "  the old log cannot go on: acts after the backup were signed, and are not in it"
