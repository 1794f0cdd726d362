"""NV indices of a software TPM, defined and written as a test wants them."""

from __future__ import annotations

from tpm2_pytss.constants import TPM2_ALG, TPMA_NV
from tpm2_pytss.types import TPM2B_NV_PUBLIC, TPMS_NV_PUBLIC

from nodeseal.agent.tpm.connection import NV_CHUNK, Connection

_READABLE = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA


def define_nv(connection: Connection, index: int, size: int) -> object:
    """Define an index that everybody may read and nobody has written; return its handle."""
    public = TPMS_NV_PUBLIC(nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=_READABLE, dataSize=size)
    handle: object = connection.esys.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))
    return handle


def write_nv(connection: Connection, index: int, content: bytes) -> None:
    """Define an index and write it."""
    handle = define_nv(connection, index, len(content))
    for at in range(0, len(content), NV_CHUNK):
        connection.esys.nv_write(handle, content[at : at + NV_CHUNK], at)
