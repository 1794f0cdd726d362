"""Signed tokens about nodes: :mod:`nodeseal.verifier.results.ear` as a JSON Web Token with ES256 (RFC 7519)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from importlib.metadata import version
from typing import Final

import jwt

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import NodeId
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.fleet.node import Node
from nodeseal.verifier.results.ear import NodeView, base64url, ear_claims
from nodeseal.verifier.states import NodeState


class EarSigner:
    """Signs tokens with the verifier's EAR key.

    Args:
        key_pem: P-256 private key in PEM.

    Raises:
        MalformedInput: no such key.
    """

    def __init__(self, key_pem: bytes) -> None:
        algorithm = jwt.get_algorithm_by_name("ES256")
        try:
            self._key: Final = algorithm.prepare_key(key_pem)
            public = algorithm.to_jwk(self._key.public_key(), as_dict=True)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise MalformedInput("EAR key: not a P-256 private key in PEM") from error
        self._key_id: Final = _thumbprint(public)
        self.public_jwk: Final = encode_json({**public, "alg": "ES256", "kid": self._key_id, "use": "sig"}).decode()
        """The public key as a JSON Web Key (RFC 7517)."""

    def sign(self, claims: dict[str, object]) -> str:
        """Return the token (RFC 7519) for ``claims``."""
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})


def _thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the key's name: its JWK thumbprint with SHA-256 (RFC 7638 §3)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return base64url(sha256(encode_json(members)).digest())


class Tokens:
    """Issues tokens about nodes."""

    def __init__(self, fleet: Fleet, signer: EarSigner, trust_domain: str) -> None:
        self._fleet: Final = fleet
        self._signer: Final = signer
        self._trust_domain: Final = trust_domain
        self._build: Final = version("nodeseal")

    @property
    def public_jwk(self) -> str:
        """The key that verifies tokens, as a JSON Web Key."""
        return self._signer.public_jwk

    def token(self, node_id: NodeId, nonce: bytes) -> str:
        """Return a token about a node as it stands now.

        Raises:
            NotFound: it is not enrolled.
            MalformedInput: a nonce of fewer than 8 or more than 64 bytes.
        """
        view = self._view(self._fleet.get(node_id))
        return self._signer.sign(ear_claims(view, self._fleet.clock.wall(), nonce, self._build))

    def _view(self, node: Node) -> NodeView:
        now, wall = self._fleet.clock.steady(), self._fleet.clock.wall()
        state = node.state_at(now)
        if state is NodeState.TRUSTED and not node.trusted(now):  # a decision against it waits for the disk
            state = NodeState.UNTRUSTED
        trusted = state is NodeState.TRUSTED
        left = node.trusted_until_steady - now if trusted else self._fleet.settings.interval_seconds
        return NodeView(
            node_id=node.record.node_id,
            trust_domain=self._trust_domain,
            boot_id=node.baseline.boot_id if node.baseline else "",
            state=state,
            findings=node.findings,
            goldens=node.goldens if trusted else (),
            certified=bool(node.record.tpm.manufacturer),
            expires=wall + timedelta(seconds=left),
        )
