"""A TPM vendor on disk: the certificate authority that issues the endorsement certificates of software TPMs.

A vendor's directory holds ``roots/root.pem`` (which a verifier trusts), ``intermediate.pem`` and the intermediate's
signing key (mode 0600). The root's key is forgotten after it signs the intermediate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nodeseal.crypto.tpm_vendor import VendorKeys, create_vendor, issue_ek_certificate, pem_to_der
from nodeseal.tpm.public import TpmPublic


@dataclass(frozen=True, slots=True)
class TpmVendor:
    """A vendor and its directory; see :meth:`create` and :meth:`load`."""

    directory: Path
    keys: VendorKeys

    @classmethod
    def create(cls, directory: Path, name: str = "nodeseal software TPM") -> TpmVendor:
        """Create a vendor with the name ``name`` in ``directory``, which must not hold one yet."""
        keys = create_vendor(name, datetime.now(UTC))
        (directory / "roots").mkdir(parents=True)
        (directory / "roots" / "root.pem").write_bytes(keys.root_pem)
        (directory / "intermediate.pem").write_bytes(keys.intermediate_pem)
        private = os.open(directory / "signing-key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "wb") as file:
            file.write(keys.signing_key_pem)
        return cls(directory, keys)

    @classmethod
    def load(cls, directory: Path) -> TpmVendor:
        """Load a vendor that :meth:`create` made in ``directory``."""
        keys = VendorKeys(
            root_pem=(directory / "roots" / "root.pem").read_bytes(),
            intermediate_pem=(directory / "intermediate.pem").read_bytes(),
            signing_key_pem=(directory / "signing-key.pem").read_bytes(),
        )
        return cls(directory, keys)

    @property
    def roots_dir(self) -> Path:
        """Directory with the root certificate in PEM and nothing else."""
        return self.directory / "roots"

    @property
    def root_pem(self) -> bytes:
        """Certificate of the root in PEM."""
        return self.keys.root_pem

    @property
    def intermediate(self) -> bytes:
        """Certificate of the intermediate in DER."""
        return pem_to_der(self.keys.intermediate_pem)

    def issue(self, ek: TpmPublic) -> bytes:
        """Return a certificate for ``ek`` in DER, valid for ten years."""
        return issue_ek_certificate(self.keys, ek, datetime.now(UTC))
