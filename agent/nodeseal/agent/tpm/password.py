"""The password of the TPM's endorsement hierarchy, in a file that settings name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.files import read_file, read_private

_SETTING: Final = "endorsement_auth_file"
_LONGEST: Final = 64
"""Bytes of the largest digest (TPM2B_AUTH, TPM 2.0 Part 2)."""


def is_credential(path: Path) -> bool:
    """Tell whether systemd made a file: readable by an access control list, whose mask looks like a group's right."""
    return str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY")


def read_endorsement_password(path: Path | None) -> bytes:
    """Return what the file holds, without a line end behind it; nothing where there is no file.

    Raises:
        MalformedInput: it cannot be read, others may read it, or it holds more than a TPM takes.
    """
    if path is None:
        return b""
    content = read_file(path, _SETTING) if is_credential(path) else read_private(path, _SETTING)
    password = content.removesuffix(b"\n")
    if len(password) > _LONGEST:
        remedy = "let it hold the password as tpm2_changeauth -c endorsement took it, and nothing else"
        raise MalformedInput(
            f"{_SETTING}: {path}: {len(password)} bytes, and no password of a TPM has more than {_LONGEST}",
            remedy=remedy,
        )
    return password
