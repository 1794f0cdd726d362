r"""Private keys at rest, wrapped under a key-encryption key.

AES-256-GCM with a random 96-bit nonce (SP 800-38D §8.2.2; a key-encryption key wraps far fewer than 2**32 keys). The
AAD names the key, so that files cannot be swapped. Layout: ``"nodeseal wrap 1\\0"`` (16), nonce (12),
ciphertext and tag.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodeseal.errors import MalformedInput

KEK_SIZE: Final = 32
_MARK: Final = b"nodeseal wrap 1\0"
_NONCE: Final = 12
_TAG: Final = 16


def new_kek() -> bytes:
    """Return a new key-encryption key from the operating system's randomness."""
    return os.urandom(KEK_SIZE)


def wrap_private_key(kek: bytes, secret: bytes | bytearray, context: bytes) -> bytes:
    """Return ``secret`` wrapped under ``kek``. It opens with the same ``context`` only."""
    nonce = os.urandom(_NONCE)
    return _MARK + nonce + AESGCM(kek).encrypt(nonce, secret, _MARK + context)


def unwrap_private_key(kek: bytes, wrapped: bytes, context: bytes) -> bytearray:
    """Return the secret that :func:`wrap_private_key` wrapped. The caller wipes it.

    Raises:
        MalformedInput: not a wrapped key, altered, or wrapped under another key or context.
    """
    body = wrapped.removeprefix(_MARK)
    if len(body) != len(wrapped) - len(_MARK) or len(body) < _NONCE + _TAG:
        raise MalformedInput("wrapped key: not in nodeseal's format")
    try:
        return bytearray(AESGCM(kek).decrypt(body[:_NONCE], body[_NONCE:], _MARK + context))
    except InvalidTag as error:
        raise MalformedInput(
            "wrapped key: it was altered, or belongs to another key-encryption key or key id"
        ) from error
