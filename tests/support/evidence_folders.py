"""Folders of evidence, made from rounds of synthetic TPMs."""

from __future__ import annotations

from pathlib import Path

from nodeseal.evidence.folder import EvidenceFolder
from support.rounds import Round


def folder_of(machine: Round) -> EvidenceFolder:
    """Return the whole evidence of a machine's round."""
    challenge = machine.challenge
    return EvidenceFolder(
        evidence=machine.evidence(),
        nonce=challenge.nonce,
        purpose=challenge.purpose,
        selection=challenge.selection,
        channel=challenge.channel,
        issued=challenge.issued,
        received=machine.now,
        ak_public=machine.key.public.encode(),
        labels=machine.labels,
        manufacturer=machine.tpm.manufacturer,
        ek_algorithm=machine.tpm.ek_algorithm,
    )


def write_folder(machine: Round, folder: Path) -> Path:
    """Write the evidence of a machine's round below ``folder``, as nodeseal node evidence does."""
    folder.mkdir()
    for name, content in folder_of(machine).encode().items():
        (folder / name).write_bytes(content)
    return folder
