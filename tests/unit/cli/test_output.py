"""What commands print is whole: in a pipe as wide as it is, on a terminal folded, in any encoding of the stream."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from nodeseal.cli.output import FactList, Rows, show_parts

DIGEST = "0123456789abcdef" * 4
SENTENCE = "measured buffers (keys, kexec command lines): there is no list, so any may be measured; allow them by name"
PARTS = (
    Rows(("left open",), ((SENTENCE,),), empty="nothing"),
    Rows(("golden", "digest"), (("rack-a", DIGEST), ("rack-b", DIGEST[::-1])), empty="no goldens"),
    FactList((("attestation key", DIGEST), ("reason", SENTENCE))),
)


def printed(console: Console) -> str:
    show_parts(PARTS, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_whole_lines_without_spaces_at_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = printed(Console(file=io.StringIO())).splitlines()
    assert SENTENCE in lines
    assert f"rack-a  {DIGEST}" in lines
    assert f"attestation key  {DIGEST}" in lines
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize("columns", [12, 20, 40, 80])
def test_a_narrow_terminal_folds_and_crops_nothing(columns: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=columns)
    shown = Text.from_ansi(printed(console)).plain

    assert "…" not in shown
    for letter in "xkmq;":
        assert shown.count(letter) == "".join(_everything()).count(letter), letter


def _everything() -> list[str]:
    texts: list[str] = []
    for part in PARTS:
        if isinstance(part, Rows):
            texts += [*part.columns, *(cell for row in part.rows for cell in row)]
        else:
            texts += [text for fact in part.facts for text in fact]
    return texts
