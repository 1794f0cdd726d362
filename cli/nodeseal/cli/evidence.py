"""Evidence for the offline commands: folders that ``nodeseal node evidence`` wrote, or fresh from a connected node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nodeseal.cli.client import Verifier, connect
from nodeseal.cli.evidence_writer import collect_files
from nodeseal.errors import MalformedInput
from nodeseal.evidence_folder import SIZES, EvidenceFolder, decode_evidence_folder
from nodeseal.ids import NodeId, parse_node_id
from nodeseal.v1 import admin_pb2

COLLECT_SECONDS: Final = 300.0
"""A node with a long log takes its time."""


def load_evidence(source: str, client: Path) -> EvidenceFolder:
    """Return the evidence of a node, asked for now, or of a folder.

    Args:
        source: a node's id, or a folder.
        client: where the verifier is; not needed for a folder.

    Raises:
        MalformedInput: neither; or as :func:`read_evidence`.
    """
    if Path(source).is_dir():
        return read_evidence(Path(source))
    try:
        node_id = parse_node_id(source)
    except MalformedInput as error:
        remedy = "nodeseal node list shows nodes; nodeseal node evidence makes folders"
        raise MalformedInput(f"{source[:80]!a} is neither a node's id nor a folder", remedy=remedy) from error
    with connect(client) as verifier:
        return decode_evidence_folder(fetch_files(verifier, node_id))


def fetch_files(verifier: Verifier, node_id: NodeId) -> dict[str, bytes]:
    """Ask a connected node for whole evidence; return the files of the folder."""
    parts = verifier.nodes.GetEvidence(admin_pb2.GetEvidenceRequest(node_id=node_id), timeout=COLLECT_SECONDS)
    return collect_files(parts)


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
