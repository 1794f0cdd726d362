"""Files of the agent: the seed of its attestation key, and its identity as the verifier certified it.

Two files in a directory of mode 0700, each written whole or not at all: ``ak-unique`` (random bytes that make the
attestation key again, of no use without the TPM) and ``identity.json`` (node id, trust domain, TLS key and
certificates in one file, so that key and certificate always belong together). Nothing else outlives the process.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nodeseal import documents
from nodeseal.crypto.tls_identity import PeerIdentity, PeerKind, peer_identity, to_pem
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.binding import Channel
from nodeseal.files import MAX_PEM, claim_folder, naming, replace_file
from nodeseal.ids import NodeId, parse_node_id

AK_UNIQUE_SIZE: Final = 64
_FORMAT: Final = "nodeseal/identity/1"
_MAX_CHAIN: Final = 8
_UNIQUE: Final = "ak-unique"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate of the verifier and the key it is for.

    Attributes:
        private_key: of TLS, PEM.
        certificates: DER, leaf first.
        peer: what the leaf says: node id, trust domain, digest, end.
    """

    private_key: bytes = field(repr=False)
    certificates: tuple[bytes, ...]
    peer: PeerIdentity

    @classmethod
    def of(cls, private_key: bytes, certificates: tuple[bytes, ...]) -> Identity:
        """Return the identity for a key and its certificates.

        Raises:
            MalformedInput: no certificates, or the leaf does not belong to a node.
            ProofFailed: the leaf's names or usage are wrong.
        """
        if not 1 <= len(certificates) <= _MAX_CHAIN:
            raise MalformedInput(f"certificate chain: {len(certificates)} certificates, 1 to {_MAX_CHAIN} accepted")
        peer = peer_identity(certificates[0])
        if peer.kind is not PeerKind.NODE:
            raise MalformedInput(f"certificate chain: made for a {peer.kind.value}, not for a node")
        return cls(private_key=private_key, certificates=certificates, peer=peer)

    @property
    def node_id(self) -> NodeId:
        """Who this node is."""
        return parse_node_id(self.peer.name)

    @property
    def channel(self) -> Channel:
        """The channel that quotes over this identity's connection are bound to."""
        return Channel(
            trust_domain=self.peer.trust_domain,
            node_id=self.node_id,
            certificate_sha256=self.peer.certificate_sha256,
        )

    @property
    def leaf_pem(self) -> bytes:
        """The certificate for TLS without its issuer: the verifier has that and would keep a copy per connection."""
        return to_pem(self.certificates[0])


class StateDirectory:
    """The agent's files.

    Raises:
        Unavailable: from every method, where the file system refuses.
        MalformedInput: from every method, where a file is not what the agent wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        with naming(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise MalformedInput(f"{path}: open to other users (mode {mode:o})", remedy=f"chmod 700 {path}")
        self._claim: int | None = None

    def claim(self) -> None:
        """Keep other agents away until :meth:`release`; two of them would replace each other's identity.

        Raises:
            Unavailable: another agent uses the directory.
        """
        remedy = "stop the agent that runs, or give this one a state_directory of its own"
        self._claim = claim_folder(self._path, remedy)

    def release(self) -> None:
        """Let other agents use the directory."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def peek(self) -> None:
        """Make sure that what is there parses, and change nothing."""
        self.identity()
        found = self._read(_UNIQUE)
        if found is not None:
            self._require_whole(found)

    def ak_unique(self) -> bytes:
        """Return the random bytes that make this node's attestation key. New bytes mean a new identity."""
        found = self._read(_UNIQUE)
        if found is None:
            self.forget_identity()
            found = secrets.token_bytes(AK_UNIQUE_SIZE)
            self._write(_UNIQUE, found)
        self._require_whole(found)
        return found

    def _require_whole(self, unique: bytes) -> None:
        if len(unique) != AK_UNIQUE_SIZE:
            remedy = "delete it: the node enrols again with a new attestation key"
            raise MalformedInput(f"{self._path / _UNIQUE}: {len(unique)} bytes, not {AK_UNIQUE_SIZE}", remedy=remedy)

    def identity(self) -> Identity | None:
        """Return who this node is, or None before enrolment."""
        raw = self._read("identity.json")
        if raw is None:
            return None
        source = str(self._path / "identity.json")
        try:
            return _parse(raw, source)
        except (MalformedInput, ProofFailed) as error:
            remedy = f"delete {source}: the node enrols again under the same id"
            raise MalformedInput(f"{source}: {str(error).removeprefix(source)}", remedy=remedy) from error

    def save_identity(self, identity: Identity) -> None:
        """Replace the identity; durable when this returns."""
        document = {
            "certificates": [{"der": documents.encode_base64(der)} for der in identity.certificates],
            "format": _FORMAT,
            "private_key": documents.encode_base64(identity.private_key),
        }
        self._write("identity.json", documents.encode_json(document))

    def forget_identity(self) -> None:
        """Remove the identity, so that the next start enrols."""
        with naming(self._path):
            (self._path / "identity.json").unlink(missing_ok=True)

    def _read(self, name: str) -> bytes | None:
        path = self._path / name
        with naming(path):
            try:
                with path.open("rb") as file:
                    return file.read(MAX_PEM)
            except FileNotFoundError:
                return None

    def _write(self, name: str, content: bytes) -> None:
        replace_file(self._path / name, content, self._path / f"{name}.new")


def _parse(raw: bytes, source: str) -> Identity:
    fields = documents.Fields(documents.decode_json(raw, source), source)
    fields.constant("format", _FORMAT)
    key = fields.base64("private_key", max_size=MAX_PEM)
    certificates = fields.items("certificates", max_items=_MAX_CHAIN)
    fields.done()
    return Identity.of(key, tuple(_certificate(item, source) for item in certificates))


def _certificate(item: object, source: str) -> bytes:
    fields = documents.Fields(item, f"{source}: certificates")
    der = fields.base64("der", max_size=MAX_PEM)
    fields.done()
    return der
