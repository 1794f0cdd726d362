"""One connection to a TPM: keys, sessions and commands whose handles cannot outlive their ``with`` block.

Between uses, keys are saved outside the TPM (Part 1, "Context Management"; :mod:`nodeseal.agent.tpm.context`), so that
only the keys of one command are loaded. Sessions are salted to the endorsement key and encrypt the first parameter of
command and response with AES-128 in CFB mode (Part 1, "Session-Based Encryption"), so that what crosses the bus is
of no use to someone who listens. Nothing here is thread-safe or asynchronous: see :mod:`nodeseal.agent.tpm.owner`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CAP, TPM2_SE, TPMA_SESSION
from tpm2_pytss.ESAPI import ESAPI
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMT_PUBLIC,
    TPMT_SYM_DEF,
)

from nodeseal.agent.tpm.context import SavedContext
from nodeseal.agent.tpm.failures import wrapped
from nodeseal.tpm.pcr import PcrSelection

Handle = Any
"""ESYS_TR: a number that the stack understands and the TPM does not."""
MAX_HANDLES: Final = 254
"""The most handles that one TPM2_GetCapability answers (TPML_HANDLE; MAX_CAP_HANDLES, Part 2)."""

_CIPHER: Final = TPMT_SYM_DEF.parse("aes128cfb")
NV_CHUNK: Final = 512
"""Bytes that every TPM lets one TPM2_NV_Read return (the smallest TPM_PT_NV_BUFFER_MAX in use)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedKey:
    """A key outside the TPM: useless without this TPM, after its next reset, and once its context is wiped.

    Attributes:
        public: TPMT_PUBLIC.
        context: the saved key, or None for a persistent key.
        handle: the ESAPI handle of a persistent key, or None.
    """

    public: bytes
    context: SavedContext | None = field(repr=False)
    handle: Handle = field(default=None, repr=False)

    def wipe(self) -> None:
        """Forget the key for good, unless it is persistent."""
        if self.context is not None:
            self.context.wipe()

    @property
    def wiped(self) -> bool:
        """Whether the key was forgotten."""
        return self.context is not None and self.context.wiped


class Connection:
    """An open connection. Every method raises :class:`~nodeseal.agent.tpm.failures.TpmFailed` or a kind of it.

    Args:
        tcti: the TPM, as tpm2-tools write it.
        endorsement_password: of the endorsement hierarchy; empty: it has none.
    """

    def __init__(self, tcti: str, endorsement_password: bytes = b"") -> None:
        with wrapped(f"connect to {tcti}"):
            self.esys: Final = ESAPI(tcti)
        if endorsement_password:
            with wrapped("Esys_TR_SetAuth"):
                self.esys.tr_set_auth(ESYS_TR.ENDORSEMENT, endorsement_password)

    def close(self) -> None:
        """Close the connection; the TPM keeps its state."""
        self.esys.close()

    def handles(self, first: int) -> tuple[int, ...]:
        """Return the TPM's handles of the kind of ``first``, from ``first`` on (TPM2_GetCapability)."""
        with wrapped("TPM2_GetCapability(handles)"):
            _, found = self.esys.get_capability(TPM2_CAP.HANDLES, first, MAX_HANDLES)
        return tuple(int(handle) for handle in found.data.handles if handle >> 24 == first >> 24)

    def create_primary(self, hierarchy: Handle, template: bytes) -> SavedKey:
        """Create a primary key from a TPMT_PUBLIC template and return it saved (TPM2_CreatePrimary)."""
        area = TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(template)[0])
        with wrapped("TPM2_CreatePrimary"):
            handle, public, *_ = self.esys.create_primary(TPM2B_SENSITIVE_CREATE(), area, hierarchy)
        context = SavedContext()
        with self._flushed(handle):
            context.save(self.esys.tcti, int(self.esys.tr_get_tpm_handle(handle)))
        return SavedKey(public=public.publicArea.marshal(), context=context)

    def persistent(self, handle: int) -> SavedKey:
        """Return the persistent key under a TPM handle (TPM2_ReadPublic)."""
        with wrapped("TPM2_ReadPublic"):
            known = self.esys.tr_from_tpmpublic(handle)
            public, *_ = self.esys.read_public(known)
        return SavedKey(public=public.publicArea.marshal(), context=None, handle=known)

    def read_nv(self, index: int) -> bytes:
        """Return the whole content of an NV index that an empty password lets us read (TPM2_NV_Read)."""
        with wrapped(f"TPM2_NV_ReadPublic(0x{index:08x})"):
            known = self.esys.tr_from_tpmpublic(index)
        try:
            with wrapped(f"TPM2_NV_Read(0x{index:08x})"):
                size = int(self.esys.nv_read_public(known)[0].nvPublic.dataSize)
                parts = (
                    bytes(self.esys.nv_read(known, min(NV_CHUNK, size - at), at)) for at in range(0, size, NV_CHUNK)
                )
                return b"".join(parts)
        finally:
            self.esys.tr_close(known)

    @contextmanager
    def loaded(self, key: SavedKey) -> Iterator[Handle]:
        """Load a saved key for as long as the block runs."""
        if key.context is None:
            yield key.handle
            return
        loaded = key.context.load(self.esys.tcti)
        with wrapped("TPM2_ReadPublic"):
            handle = self.esys.tr_from_tpmpublic(loaded)
        with self._flushed(handle):
            yield handle

    @contextmanager
    def session(self, salt: SavedKey, *, policy: bool, hash_alg: int) -> Iterator[Handle]:
        """Run a salted HMAC or policy session that encrypts parameters both ways (TPM2_StartAuthSession)."""
        kind = TPM2_SE.POLICY if policy else TPM2_SE.HMAC
        with self.loaded(salt) as salt_key, wrapped("TPM2_StartAuthSession"):
            session = self.esys.start_auth_session(salt_key, ESYS_TR.NONE, kind, _CIPHER, TPM2_ALG(hash_alg))
        with self._flushed(session):
            attributes = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
            with wrapped("session attributes"):
                self.esys.trsess_set_attributes(session, attributes)
            yield session

    @contextmanager
    def _flushed(self, handle: Handle) -> Iterator[None]:
        try:
            yield
        finally:
            with wrapped("TPM2_FlushContext"):
                self.esys.flush_context(handle)


def tss_selection(selection: PcrSelection) -> TPML_PCR_SELECTION:
    """Return the stack's form of a PCR selection."""
    return TPML_PCR_SELECTION.unmarshal(selection.encode())[0]
