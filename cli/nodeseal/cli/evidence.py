"""Evidence for the offline commands: folders that ``nodeseal node evidence`` wrote, or fresh from a connected node."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from nodeseal.cli.naming import node_of, parse_called
from nodeseal.client.connection import connect
from nodeseal.client.naming import Use
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.evidence.folder import SIZES, EvidenceFolder, decode_evidence_folder


def load_evidence(source: str, client: Path, use: Use) -> EvidenceFolder:
    """Return fresh evidence of a node, or the evidence in a folder.

    Args:
        source: a folder, or what people call a node.
        client: folder of the client settings; not used for a folder of evidence.
        use: what the evidence is for.

    Raises:
        MalformedInput: neither a node nor a folder, or evidence that does not parse.
    """
    if Path(source).is_dir():
        return read_evidence(Path(source))
    try:
        parse_called(source)
    except MalformedInput as error:
        remedy = "nodeseal node list shows nodes; nodeseal node evidence makes folders"
        raise MalformedInput(f"{source[:80]!a} is neither a node nor a folder", remedy=remedy) from error
    with connect(client) as verifier:
        return decode_evidence_folder(verifier.get_evidence(node_of(verifier, source, use)))


def read_evidence(folder: Path) -> EvidenceFolder:
    """Read a folder of evidence; nothing in it is proved.

    Raises:
        MalformedInput: no folder, or a file that cannot be read or does not parse. The message names it.
    """
    try:
        return decode_evidence_folder(_files(folder))
    except MalformedInput as error:
        raise MalformedInput(f"{folder}: {error}", remedy=error.remedy) from error


def _files(folder: Path) -> Mapping[str, bytes]:
    """Read a folder. Of files that evidence does not have, and that decoding refuses, read only the names."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise MalformedInput(str(error.strerror)) from error
    return {name: _content(folder / name) if name in SIZES else b"" for name in sorted(names)}


def _content(path: Path) -> bytes:
    if not path.is_file():  # reading a pipe that somebody put there would never end
        raise MalformedInput(f"{path.name}: is no file")
    try:
        with path.open("rb") as file:
            return file.read(SIZES[path.name] + 1)
    except OSError as error:
        raise MalformedInput(f"{path.name}: {error.strerror}") from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` with ``files``, readable by its owner alone.

    Raises:
        Unavailable: the folder exists or cannot be written. Nothing is left behind.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        draft.mkdir(mode=0o700, parents=True)
        try:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}") from error
