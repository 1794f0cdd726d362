"""What ``nodeseal seal`` says of a model's files before it seals them: what stays readable, and what will not open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from nodeseal.cli import output
from nodeseal.cli.output import BLANK_LINE, Block, FactList, Rows
from nodeseal.errors import MalformedInput
from nodeseal.loader.precheck import Trouble
from nodeseal.loader.source import SourceFile, why_readable


def show_check(files: Sequence[SourceFile], troubles: Sequence[Trouble], *, as_json: bool) -> None:
    """Show what sealing would do, and every trouble."""
    sealed, paths = [file for file in files if file.sealed], [file.path for file in files if not file.sealed]
    facts = (
        ("would seal", f"{len(sealed)} files, {sum(file.size for file in sealed):,} bytes"),
        ("would open", "no: see below" if troubles else "yes, as far as headers and indexes tell"),
    )
    plain = {
        "files_sealed": [file.path for file in sealed],
        "readable": plain_readable(paths),
        "troubles": plain_troubles(troubles),
    }
    parts: list[Block] = [FactList(facts), BLANK_LINE, readable_rows(paths)]
    if troubles:
        parts += [BLANK_LINE, _trouble_rows(troubles)]
    output.show(plain, *parts, as_json=as_json)


def plain_readable(paths: Sequence[str]) -> list[dict[str, str]]:
    """Return the files that stay readable, each with the reason, as plain values."""
    return [{"path": path, "reason": why_readable(path)} for path in paths]


def plain_troubles(troubles: Sequence[Trouble]) -> list[dict[str, Any]]:
    """Return troubles as plain values."""
    return [{"path": one.path, "problem": one.problem, "remedy": one.remedy} for one in troubles]


def refuse(troubles: Sequence[Trouble]) -> None:
    """Refuse to seal what would not open or would stay readable, after naming all of it.

    Raises:
        MalformedInput: there is a trouble.
    """
    if not troubles:
        return
    for one in troubles[1:]:
        output.show_note(f"{one.path}: {one.problem}; {one.remedy}")
    first, more = troubles[0], f" (and {len(troubles) - 1} more, see above)" if len(troubles) > 1 else ""
    raise MalformedInput(
        f"{first.path}: {first.problem}{more}", remedy=f"{first.remedy}; --force seals it all the same"
    )


def sealed_anyway(files: Sequence[SourceFile], troubles: Sequence[Trouble]) -> tuple[SourceFile, ...]:
    """Say what will not open, and seal what looks like weights: --force leaves no weights readable."""
    secret: Collection[str] = {one.path for one in troubles if one.readable}
    for one in troubles:
        said = "looks like weights, so it is sealed" if one.readable else f"will not open: {one.problem}"
        output.show_note(f"{one.path}: {said}")
    return tuple(replace(file, sealed=file.sealed or file.path in secret) for file in files)


def readable_rows(paths: Sequence[str]) -> Rows:
    """Return the list of what stays readable, for people."""
    rows = [(path, why_readable(path)) for path in paths]
    return Rows(("stays readable", "since it is"), rows, "nothing stays readable")


def _trouble_rows(troubles: Sequence[Trouble]) -> Rows:
    rows = [(one.path, one.problem, one.remedy) for one in troubles]
    return Rows(("trouble", "what is wrong", "do"), rows, "")
