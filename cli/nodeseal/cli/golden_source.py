"""Goldens for commands: from files, by digest from the verifier, or all that are active there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nodeseal.client.connection import connect
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import Golden

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def load_golden(source: str, client: Path) -> Golden:
    """Return the golden of a file, or of the verifier.

    Args:
        source: a file, or the digest of a golden of the verifier.
        client: folder of the client settings; not used for a file.

    Raises:
        MalformedInput: the golden cannot be read or does not parse.
    """
    if not _DIGEST.fullmatch(source):
        return read_golden(Path(source))
    with connect(client) as verifier:
        return parse_golden(verifier.get_golden(source).document, source)


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
        return parse_golden(file.read_bytes(), str(file))
    except OSError as error:
        raise MalformedInput(f"{file}: {error.strerror}") from error
