"""Folders of evidence on disk: what ``nodeseal node evidence`` writes and the offline commands read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodeseal.errors import MalformedInput
from nodeseal.evidence_folder import SIZES, EvidenceFolder, decode_evidence_folder


def read_evidence(folder: Path) -> EvidenceFolder:
    """Read a folder of evidence; nothing in it is proved.

    Raises:
        MalformedInput: no folder, a file that cannot be read, or one that does not say what it should; names it.
    """
    try:
        return decode_evidence_folder(_files(folder))
    except MalformedInput as error:
        raise MalformedInput(f"{folder}: {error}", remedy=error.remedy) from error


def _files(folder: Path) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for name, size in SIZES.items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found[name] = file.read(size + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MalformedInput(f"{name}: {error.strerror}") from error
    return found
