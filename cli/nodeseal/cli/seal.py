"""``nodeseal seal``: from a model's folder to a directory that opens on attested nodes only."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nodeseal.cli import output
from nodeseal.cli.output import BLANK_LINE, FactList, JsonOption
from nodeseal.cli.progress import progress_bar, speed
from nodeseal.cli.seal_check import plain_readable, readable_rows, refuse, sealed_anyway, show_check
from nodeseal.errors import MalformedInput
from nodeseal.files import read_small
from nodeseal.ids import ModelId, parse_model_id
from nodeseal.loader.precheck import Trouble, check_files
from nodeseal.loader.seal import Label, seal_model
from nodeseal.loader.source import Selection, SourceFile, survey
from nodeseal.loader.staging import leftovers
from nodeseal.sealed.content import Content, PlainFile
from nodeseal.sealed.model_key import MAX_MODEL_KEY_FILE, ModelKey, parse_model_key


def seal(  # noqa: PLR0913, PLR0917 - a command's options
    source: Annotated[
        Path, typer.Argument(metavar="MODEL", exists=True, help="The readable model: a folder or a file.")
    ],
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="PUBLIC", exists=True, help="A model key's public file. Repeatable."),
    ] = None,
    destination: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="The folder to make.")
    ] = None,
    model_id: Annotated[
        str, typer.Option("--id", metavar="NAME", help="Name of the model; the name of OUT if left out.")
    ] = "",
    version: Annotated[int, typer.Option(min=1, help="Version of the model; count up.")] = 1,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Take these files alone, such as '*.json'. Repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave these files out, such as '*.bin'. Repeatable.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--seal", metavar="PATTERN", help="Seal these files, too, such as 'tokenizer*'. Repeatable."),
    ] = None,
    *,
    seal_all: Annotated[bool, typer.Option("--all", help="Seal configuration and tokenizer, too.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Accept files that run code on loading.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check what loaders would say. Exit code 1: they would not open all.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Seal what loaders will not open, and name it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal a model. Needs no secret and no network: only the public half of a model key."""
    selection = Selection(include=tuple(include or ()), exclude=tuple(exclude or ()), seal=tuple(secret or ()))
    files = survey(source, seal_all=seal_all, allow_pickle=allow_pickle, selection=selection)
    troubles = check_files(files)
    if check:
        show_check(files, troubles, as_json=as_json)
        raise typer.Exit(int(bool(troubles)))
    if not keys or destination is None:
        raise typer.BadParameter("--key and --output are needed, or --check alone")
    files = sealed_anyway(files, troubles) if force else _untroubled(files, troubles)
    job = _Sealing(files, destination, tuple(keys), as_json=as_json)
    job.run(source, _model_id(model_id, destination), version)


def _untroubled(files: tuple[SourceFile, ...], troubles: Sequence[Trouble]) -> tuple[SourceFile, ...]:
    refuse(troubles)
    return files


@dataclass(frozen=True, slots=True)
class _Sealing:
    """One run of the command."""

    files: tuple[SourceFile, ...]
    destination: Path
    keys: tuple[Path, ...]
    as_json: bool

    def run(self, source: Path, model_id: ModelId, version: int) -> None:
        """Seal the files and show the result."""
        label = Label(model_id=model_id, version=version, created=datetime.now(UTC))
        recipients = [parse_model_key(read_small(path, MAX_MODEL_KEY_FILE), str(path)) for path in self.keys]
        check_apart(source, self.destination)
        say_leftovers(self.destination)
        started = time.monotonic()
        content = _seal(self.files, self.destination, recipients, label)
        show_sealed(content, self.destination, time.monotonic() - started, as_json=self.as_json)


def _model_id(given: str, destination: Path) -> ModelId:
    try:
        return parse_model_id(given or destination.resolve().name.lower())
    except MalformedInput as error:
        raise MalformedInput(str(error), remedy="name the model with --id") from error


def check_apart(source: Path, destination: Path) -> None:
    """Refuse to write into the model that is read; the next seal would include the sealed copy.

    Raises:
        MalformedInput: ``destination`` lies in ``source``.
    """
    if source.resolve() in destination.resolve().parents:
        raise MalformedInput(f"{destination}: lies in {source}", remedy="name a folder outside of the model")


def say_leftovers(destination: Path) -> None:
    """Name what earlier runs left beside ``destination``, which may be as large as the model.

    Raises:
        Unavailable: the folder cannot be read.
    """
    for path in leftovers(destination):
        output.show_note(f"{path} was left by a run that was killed, unless one is still writing it: delete it")


@contextmanager
def ending_cleanly(destination: Path) -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on Ctrl-C: leave nothing behind, and say so."""
    ends = [signum for signum in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in ends:
        signal.signal(signum, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        what = f"{destination} is whole" if destination.exists() else f"nothing is left of {destination}"
        output.errors.print(f"[bold red]nodeseal:[/] stopped; {escape(what)}", highlight=False, soft_wrap=True)
        raise
    finally:
        for signum in ends:
            signal.signal(signum, signal.SIG_DFL)


def _seal(files: Sequence[SourceFile], destination: Path, keys: Sequence[ModelKey], label: Label) -> Content:
    with ending_cleanly(destination), progress_bar("sealing", sum(file.size for file in files)) as done:
        return seal_model(files, destination, keys, label, progress=done)


def show_sealed(content: Content, destination: Path, seconds: float, *, as_json: bool) -> None:
    """Show the model that was made, and the next step."""
    sealed = len(list(content.sealed()))
    readable = [file.path for file in content.files if isinstance(file, PlainFile)]
    plain = {
        "directory": str(destination),
        "model_id": content.model_id,
        "version": content.version,
        "model_digest": content.digest,
        "files_sealed": sealed,
        "files_plain": len(readable),
        "readable": plain_readable(readable),
        "bytes": content.size,
        "seconds": round(seconds, 3),
    }
    facts = (
        ("directory", str(destination)),
        ("model", f"{content.model_id}, version {content.version}"),
        ("digest", content.digest),
        ("files", f"{sealed} sealed, {len(readable)} readable but covered"),
        ("bytes", speed(content.size, seconds)),
        ("next", f"nodeseal model register {destination}"),
    )
    output.show(plain, FactList(facts), BLANK_LINE, readable_rows(readable), as_json=as_json)
