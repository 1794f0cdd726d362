"""EFI_GUIDs as text, and those of boot logs (UEFI Specification 2.10, appendix A)."""

from __future__ import annotations

import struct
from typing import Final

_GUID: Final = struct.Struct("<IHH2s6s")
GUID_SIZE: Final = _GUID.size

GLOBAL_VARIABLE: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""EFI_GLOBAL_VARIABLE: vendor of SecureBoot, PK, KEK, BootOrder, Boot#### (UEFI 2.10, "Globally Defined
Variables")."""
IMAGE_SECURITY_DATABASE: Final = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
"""EFI_IMAGE_SECURITY_DATABASE_GUID: vendor of db, dbx, dbt and dbr (UEFI 2.10, "UEFI Image Variable GUID
& Variable Name")."""
X509_SIGNATURE: Final = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
"""EFI_CERT_X509_GUID: signatures that are certificates (UEFI 2.10, "Signature Database")."""
SHA256_SIGNATURE: Final = "c1c41626-504c-4092-aca9-41f936934328"
"""EFI_CERT_SHA256_GUID: signatures that are SHA-256 digests (UEFI 2.10, "Signature Database")."""
SHIM_LOCK: Final = "605dab50-e046-4300-abb6-3dd810dd8b23"
"""SHIM_LOCK_GUID: vendor of MokList, MokListX, MokListTrusted, SbatLevel and Shim (shim: shim.h)."""


def guid_text(raw: bytes) -> str:
    """Return the text of the EFI_GUID in the first 16 bytes.

    Raises:
        struct.error: fewer bytes.
    """
    first, second, third, clock, node = _GUID.unpack_from(raw)
    return f"{first:08x}-{second:04x}-{third:04x}-{clock.hex()}-{node.hex()}"
