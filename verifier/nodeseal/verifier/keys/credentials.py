"""Secrets that systemd hands to the service (systemd.exec(5), ``LoadCredential=``)."""

from __future__ import annotations

import os
from pathlib import Path


def read_credential(name: str) -> bytes | None:
    """Return a credential, or None if systemd gave none of that name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder or "") / name
    return path.read_bytes() if folder and path.exists() else None
