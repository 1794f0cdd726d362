"""The credential challenge: only a TPM that holds both keys of an identity can answer it (DESIGN §4, step 3)."""

from __future__ import annotations

import hmac
from typing import Final

from nodeseal.crypto.credential import MadeCredential, make_credential
from nodeseal.errors import OutOfOrder, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.verifier.enrolment.identity import Candidate

SECRET_SIZE: Final = 32


class CredentialChallenge:
    """A secret that only a TPM with both keys can open, and one attempt at it."""

    __slots__ = ("_secret", "candidate", "credential")

    def __init__(self, candidate: Candidate, secret: bytes) -> None:
        """Wrap ``secret``, which is random and used for nothing else.

        Raises:
            MalformedInput: the endorsement key cannot encrypt.
        """
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a secret of {len(secret)} bytes")
        self._secret: bytes | None = secret
        self.candidate: Final = candidate
        self.credential: Final[MadeCredential] = make_credential(candidate.ek, candidate.ak.name(), secret)

    def activate(self, answer: bytes) -> Candidate:
        """Check, in constant time, what TPM2_ActivateCredential returned, and return what it proves.

        Raises:
            ProofFailed: ``ak.activation``: another secret.
            OutOfOrder: it was answered before, rightly or not.
        """
        secret, self._secret = self._secret, None
        if secret is None:
            raise OutOfOrder("a credential challenge has one attempt")
        if not hmac.compare_digest(secret, answer):
            raise ProofFailed(
                Finding(id=FindingId.AK_ACTIVATION, expected="the secret of this challenge", seen="another one")
            )
        return self.candidate
