"""Extend PCRs of a machine that another process runs, through its socket, like an operating system."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeseal.errors import Unavailable
from nodeseal.swtpm import commands
from nodeseal.swtpm.ima import Extend
from nodeseal.swtpm.process import read_response
from nodeseal.tpm.algorithms import HashAlg

_ANSWER_SECONDS: Final = 10


@contextmanager
def extending(path: Path) -> Iterator[Extend]:
    """Connect to a machine's TPM until the block ends.

    Args:
        path: the machine's socket.

    Raises:
        Unavailable: nobody answers at the socket, or the TPM refuses.
    """
    with socket.socket(socket.AF_UNIX) as tpm:
        tpm.settimeout(_ANSWER_SECONDS)

        def extend(pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
            tpm.sendall(commands.pcr_extend(pcr, digests))
            commands.body(read_response(tpm), f"TPM2_PCR_Extend of PCR {pcr}")

        try:
            tpm.connect(str(path))
            yield extend
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}", remedy="is the machine running?") from error
