"""Goldens for commands: from files, by digest from the verifier, or all that are active there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.boot.quirks import MAX_BYTES, Quirk, parse_added_quirks
from nodeseal.cli.naming import golden_of
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_regular, read_small
from nodeseal.golden.document import MAX_GOLDEN, parse_golden
from nodeseal.golden.model import Golden

QuirksOption = Annotated[
    Path | None,
    typer.Option("--quirks", metavar="FILE", help="Quirks of your own, as attestation.quirks of the verifier names."),
]
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_CALLED: Final = re.compile(r"(?!.*\.ya?ml$)[a-z0-9][a-z0-9._-]*")
"""What may be a golden's name or the beginning of its digest, and is no file that somebody mistyped."""


def load_golden(source: str, client: Path) -> Golden:
    """Return the golden of a file, or of the verifier.

    Args:
        source: a file, or what people call a golden of the verifier: its digest, the beginning of that, or its name.
        client: folder of the client settings; not used for a file.

    Raises:
        MalformedInput: the golden cannot be read or does not parse.
    """
    if not _DIGEST.fullmatch(source) and (Path(source).exists() or not _CALLED.fullmatch(source)):
        return read_golden(Path(source))
    with connect(client) as verifier:
        digest = golden_of(verifier, source, Use.LOOK)
        return parse_golden(verifier.get_golden(digest).document, digest)


def active_goldens(client: Path) -> list[Golden]:
    """Return the active goldens of the verifier, ordered by name."""
    with connect(client) as verifier:
        digests = [golden.digest for golden in verifier.list_goldens()]
        goldens = [parse_golden(verifier.get_golden(digest).document, digest) for digest in digests]
    return sorted(goldens, key=lambda golden: golden.name)


def read_golden(file: Path) -> Golden:
    """Read a golden.

    Raises:
        MalformedInput: the file cannot be read or does not parse.
    """
    try:
        return parse_golden(read_regular(file, MAX_GOLDEN + 1), str(file))
    except Unavailable as error:
        raise MalformedInput(str(error)) from error


def quirks_of(path: Path | None) -> tuple[Quirk, ...]:
    """Return the rows of an operator's table of quirks, if one is named.

    Raises:
        MalformedInput: naming file, line and key.
        Unavailable: it cannot be read.
    """
    return () if path is None else parse_added_quirks(read_small(path, MAX_BYTES), str(path))
