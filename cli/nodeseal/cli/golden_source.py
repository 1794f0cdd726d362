"""Goldens for commands: from files, and from the verifier by digest or as they count now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nodeseal.cli.golden_transfer import fetch_golden
from nodeseal.client.connection import CALL_SECONDS, connect
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import parse_golden
from nodeseal.golden.model import Golden
from nodeseal.v1 import admin_pb2

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def load_golden(source: str, client: Path) -> Golden:
    """Return the golden of a file, or of the verifier.

    Args:
        source: a file, or the digest of a golden of the verifier.
        client: where the verifier is; not needed for a file.

    Raises:
        MalformedInput: as :func:`read_golden`.
    """
    if not _DIGEST.fullmatch(source):
        return read_golden(Path(source))
    with connect(client) as verifier:
        return parse_golden(fetch_golden(verifier, source).document, source)


def active_goldens(client: Path) -> list[Golden]:
    """Return the goldens that count for the verifier now, by name."""
    with connect(client) as verifier:
        found = verifier.goldens.ListGoldens(admin_pb2.ListGoldensRequest(), timeout=CALL_SECONDS).goldens
        goldens = [parse_golden(fetch_golden(verifier, each.digest).document, each.digest) for each in found]
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
