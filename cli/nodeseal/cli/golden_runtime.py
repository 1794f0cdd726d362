"""``nodeseal golden runtime``: the files that may run, from images, packages and logs of good machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from rich.progress import Progress

from nodeseal.cli import output
from nodeseal.cli.contents import Found, named
from nodeseal.cli.contents_deb import deb_files
from nodeseal.cli.contents_ima import ima_files
from nodeseal.cli.contents_rpm import rpm_files
from nodeseal.cli.contents_tree import tree_files
from nodeseal.cli.golden_source import read_golden
from nodeseal.errors import MalformedInput
from nodeseal.golden.canonical import runtime_plain
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.parts import parse_moment
from nodeseal.golden.paths import path_bytes, path_text
from nodeseal.golden.rules import RuntimeRules, Window
from nodeseal.golden.runtime_list import Rollout, merge_lists, runtime_list
from nodeseal.golden.yaml_text import render
from nodeseal.ima.template import measured_path
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME, HashAlg

_TIME: Final = "TIME"


def _parse_prefix(text: str) -> bytes:
    prefix = path_bytes(text)
    if not prefix.startswith(b"/"):
        raise MalformedInput(f"not an absolute path: {text[:80]!a}")
    return prefix.rstrip(b"/")


def _parse_bank(text: str) -> HashAlg:
    if text not in STRONG_HASHES_BY_NAME:
        raise MalformedInput(f"unknown hash {text[:32]!a}: use one of {', '.join(STRONG_HASHES_BY_NAME)}")
    return STRONG_HASHES_BY_NAME[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """Sources of files. ``bank`` and ``prefix`` do not apply to logs, which name both themselves."""

    trees: tuple[Path, ...]
    debs: tuple[Path, ...]
    rpms: tuple[Path, ...]
    logs: tuple[Path, ...]
    bank: HashAlg
    prefix: bytes

    def found(self, done: Callable[[int], None]) -> Iterator[tuple[str, bytes]]:
        """Yield path, as IMA spells it, and digest of every file of every source."""
        for path, digest in self._hashed(done):
            yield path_text(measured_path(self.prefix + path)), digest
        for log in self.logs:
            yield from ((path_text(path), digest) for path, digest in ima_files(log))

    def _hashed(self, done: Callable[[int], None]) -> Found:
        for tree in self.trees:
            yield from tree_files(tree, self.bank, done)
        for packages, read in ((self.debs, deb_files), (self.rpms, rpm_files)):
            for package in packages:
                with named(str(package)), package.open("rb") as file:
                    yield from _told(read, file, package, self.bank, done)


def _told(
    read: Callable[[IO[bytes], str, HashAlg], Found],
    file: IO[bytes],
    package: Path,
    bank: HashAlg,
    done: Callable[[int], None],
) -> Found:
    for found in read(file, str(package), bank):
        yield found
        done(1)


TreesOption = Annotated[
    list[Path] | None, typer.Option("--from-tree", exists=True, file_okay=False, help="Folder that stands for /.")
]
DebsOption = Annotated[list[Path] | None, typer.Option("--deb", exists=True, help="Debian package.")]
RpmsOption = Annotated[list[Path] | None, typer.Option("--rpm", exists=True, help="RPM package.")]
LogsOption = Annotated[list[Path] | None, typer.Option("--ima-log", exists=True, help="IMA log of a good machine.")]
PrefixOption = Annotated[
    str, typer.Option("--path-prefix", metavar="PATH", help="Folder in which trees and packages are installed.")
]
HashOption = Annotated[str, typer.Option("--hash", metavar="NAME", help="Hash that the nodes' IMA uses for files.")]
FromOption = Annotated[str, typer.Option(metavar=_TIME, help="Time from which the files are valid.")]
UntilOption = Annotated[str, typer.Option(metavar=_TIME, help="Time until which the files are valid.")]
OldOption = Annotated[
    str, typer.Option(metavar=_TIME, help="With --merge: time until which replaced contents stay valid.")
]
MergeOption = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Golden to add the files to.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")]


def build_runtime(  # noqa: PLR0913 - a command's options
    *,
    trees: TreesOption = None,
    debs: DebsOption = None,
    rpms: RpmsOption = None,
    logs: LogsOption = None,
    prefix: PrefixOption = "/",
    bank: HashOption = "sha256",
    valid_from: FromOption = "",
    valid_until: UntilOption = "",
    old_until: OldOption = "",
    merge: MergeOption = None,
    out: OutOption = None,
) -> None:
    """Write the runtime list of a golden: each file that may run, and its digests."""
    sources = _Sources(
        trees=tuple(trees or ()),
        debs=tuple(debs or ()),
        rpms=tuple(rpms or ()),
        logs=tuple(logs or ()),
        bank=output.argument(_parse_bank)(bank),
        prefix=output.argument(_parse_prefix)(prefix),
    )
    if not (sources.trees or sources.debs or sources.rpms or sources.logs):
        raise typer.BadParameter("name a source: --from-tree, --deb, --rpm or --ima-log")
    rollout = Rollout(new=_window(valid_from, valid_until), old_until=_moment(old_until))
    with Progress(console=output.errors, transient=True) as progress:
        task = progress.add_task("hashing files", total=None)
        found = list(sources.found(lambda count: progress.advance(task, count)))
    _write(_document(found, rollout, merge), out)
    output.errors.print(f"files: {len({path for path, _ in found})}", highlight=False)


def _document(found: list[tuple[str, bytes]], rollout: Rollout, merge: Path | None) -> bytes:
    if not found:
        raise MalformedInput("there is no file to list")
    if merge is None:
        rules = RuntimeRules(files=runtime_list(found, rollout.new))
        return render({"runtime": runtime_plain(rules)}).encode()
    return dump_golden(merged(read_golden(merge), found, rollout))


def merged(golden: Golden, found: list[tuple[str, bytes]], rollout: Rollout) -> Golden:
    """Return ``golden`` with the found files added to its runtime list, which is made if there is none."""
    runtime = golden.runtime or RuntimeRules(files={})
    files = merge_lists(runtime.files, runtime_list(found), rollout)
    return replace(golden, runtime=replace(runtime, files=files))


def _write(text: bytes, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    output.write_file(out, text)


def _moment(text: str) -> datetime | None:
    return output.argument(parse_moment)(text) if text else None


def _window(start_text: str, end_text: str) -> Window:
    start, end = _moment(start_text), _moment(end_text)
    if start is not None and end is not None and end < start:
        raise typer.BadParameter("--valid-until is before --valid-from")
    return Window(start=start, end=end)
