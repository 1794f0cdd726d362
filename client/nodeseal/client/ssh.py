"""Signatures by a person's own ``ssh-keygen``: with a private key, an SSH agent, or a FIDO2 token.

A file with a private key signs itself; a ``.pub`` file names a key that an agent holds. ``ssh-keygen`` asks on the
terminal for a passphrase or a touch.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from nodeseal.crypto.ssh_signature import MAX_SIGNATURE
from nodeseal.errors import Unavailable
from nodeseal.governance.proposal import NAMESPACE

_SECONDS: Final = 300
"""For a person who must find their token."""


def sign_with_ssh(key: Path, document: bytes) -> bytes:
    """Return the signature of a proposal's document.

    Raises:
        Unavailable: ``ssh-keygen`` is not installed, or it does not sign.
    """
    command: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key.expanduser()]
    try:
        done = subprocess.run(command, input=document, stdout=subprocess.PIPE, timeout=_SECONDS, check=False)  # noqa: S603 - the key's name is one argument
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"ssh-keygen: {error}", remedy="install OpenSSH's client") from error
    if done.returncode or not 0 < len(done.stdout) <= MAX_SIGNATURE:
        remedy = "name a private key, or the .pub file of a key that your SSH agent holds: --ssh-key FILE"
        raise Unavailable(f"ssh-keygen did not sign with {key}", remedy=remedy)
    return done.stdout
