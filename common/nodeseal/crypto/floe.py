"""FLOE: random-access authenticated encryption of large files (c2sp.org/FLOE; ePrint 2025/2275).

Parameters are the specification's fixed ones (AES-256-GCM, HKDF-Expand-SHA-384, 32-byte IV), except the segment length.
Names in capitals are the specification's. The header commits to key and AAD: its tag is verified in constant time
before any segment, so no ciphertext opens under two keys.

These are the "semi-public" functions for random access: :mod:`nodeseal.loader` knows the number of segments and the
final one from the content file. Several threads may encrypt and decrypt segments at once; each position is encrypted
once.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodeseal.crypto.kdf import expand_key_sha384
from nodeseal.crypto.secret import wipe
from nodeseal.errors import ProofFailed
from nodeseal.findings import Finding, FindingId

if int(cryptography.__version__.partition(".")[0]) < 50:  # noqa: PLR2004 - the release whose *_into let go of the GIL
    raise ImportError(f"nodeseal needs cryptography 50 or newer, found {cryptography.__version__}")

KEY_SIZE = 32
"""AEAD_KEY_LEN of "Derived Parameters"."""
HEADER_SIZE = 10 + 32 + 32
"""Parameter information, FLOE IV and header tag ("FLOE Ciphertext Layout")."""
HEADER_TAG_SIZE = 32
SEGMENT_OVERHEAD = 4 + 12 + 16
"""Length, AEAD IV and AEAD tag of a segment."""
TAG_SIZE = 16

_IV_SIZE, _PARAMS_SIZE, _LENGTH_SIZE, _AEAD_IV_SIZE, _KDF_KEY_SIZE = 32, 10, 4, 12, 48
_NOT_FINAL = b"\xff\xff\xff\xff"
_MAX_SEGMENTS = 1 << 40


@dataclass(frozen=True, slots=True)
class Parameters:
    """Variable parameters.

    Attributes:
        segment_size: ENC_SEG_LEN, bytes of a full segment with its overhead.
        rotation_bits: AEAD_ROTATION_MASK: 2**20 segments share an AEAD key. Other values are for test vectors.
    """

    segment_size: int
    rotation_bits: int = 20

    @property
    def capacity(self) -> int:
        """Bytes of plaintext in a full segment."""
        return self.segment_size - SEGMENT_OVERHEAD

    def encode(self) -> bytes:
        """PARAM_ENCODE of "Internal Functions": AEAD_ID, KDF_ID, ENC_SEG_LEN, FLOE_IV_LEN."""
        return b"\0\0" + self.segment_size.to_bytes(4, "big") + _IV_SIZE.to_bytes(4, "big")


class _Forgotten(ValueError):
    """Use of keys after they were wiped."""


class _State:
    """State of "Semi-Public Functions (Random Access)": message key, IV, AAD and the derived keys."""

    def __init__(self, key: bytes | bytearray, aad: bytes, params: Parameters, iv: bytes) -> None:
        self._prefix: Final = params.encode() + iv
        self._aad: Final = aad
        self._rotation_bits: Final = params.rotation_bits
        self._ciphers: dict[int, AESGCM] = {}
        self.header_tag: Final = bytes(self._floe_kdf(key, b"HEADER_TAG:", HEADER_TAG_SIZE))
        self._message_key = self._floe_kdf(key, b"MESSAGE_KEY:", _KDF_KEY_SIZE)
        self._closed = False

    def _floe_kdf(self, key: bytes | bytearray, purpose: bytes, size: int) -> bytearray:
        """FLOE_KDF of "Internal Functions": KDF(key, PARAM_ENCODE(params) || iv || purpose || aad, len)."""
        return expand_key_sha384(key, self._prefix + purpose + self._aad, size)

    def cipher(self, position: int) -> AESGCM:
        """DERIVE_KEY of "Internal Functions", cached. Two threads may derive the same key twice, which is harmless."""
        rotation = position >> self._rotation_bits << self._rotation_bits
        cipher = self._ciphers.get(rotation)
        if cipher is None:
            purpose = b"DEK:" + rotation.to_bytes(8, "big")
            key = self._floe_kdf(self._message_key, purpose, KEY_SIZE)
            cipher = AESGCM(key)
            wipe(key)  # the cipher has its own
            if self._closed:
                raise _Forgotten("keys of this file were wiped: everybody knows what zeros derive")
            self._ciphers[rotation] = cipher
        return cipher

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys of a file are neither pickled nor copied: nobody would wipe that")

    def close(self) -> None:
        """Forget the keys."""
        self._closed = True
        wipe(self._message_key)
        self._ciphers.clear()


class Encryptor:
    """startEncryption and encryptSegment.

    Attributes:
        header: the 74 bytes that start the ciphertext.
    """

    def __init__(
        self,
        key: bytes | bytearray,
        aad: bytes,
        params: Parameters,
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Start a ciphertext with a fresh IV.

        Args:
            key: 32 bytes.
            aad: data to which the whole ciphertext is bound.
            params: segment size.
            random: RND of "External Functions"; other values than the default are for test vectors.
        """
        if len(key) != KEY_SIZE or params.capacity <= 0:
            raise ValueError("a FLOE key has 32 bytes and a segment more than its overhead")
        iv = random(_IV_SIZE)
        self._state = _State(key, aad, params, iv)
        self._params = params
        self._random = random
        self.header: Final = params.encode() + iv + self._state.header_tag

    def encrypt_into(self, position: int, plaintext: memoryview, out: memoryview, *, final: bool) -> None:
        """Encrypt one segment (encryptSegment).

        Args:
            position: number of the segment from 0; never used twice.
            plaintext: exactly a segment's capacity, or at most that if ``final``.
            out: memory for the segment, exactly as long as plaintext and overhead.
            final: whether this is the last segment.
        """
        capacity = self._params.capacity
        if not 0 <= position < _MAX_SEGMENTS or len(plaintext) > capacity or (len(plaintext) < capacity and not final):
            raise ValueError("position or length of a FLOE segment out of range")
        iv = self._random(_AEAD_IV_SIZE)
        out[:_LENGTH_SIZE] = len(out).to_bytes(4, "big") if final else _NOT_FINAL
        out[_LENGTH_SIZE : _LENGTH_SIZE + _AEAD_IV_SIZE] = iv
        body = out[_LENGTH_SIZE + _AEAD_IV_SIZE :]
        self._state.cipher(position).encrypt_into(iv, plaintext, _aead_aad(position, final=final), body)

    def close(self) -> None:
        """Forget the keys."""
        self._state.close()


class Decryptor:
    """startDecryption and decryptSegment."""

    def __init__(
        self, key: bytes | bytearray, aad: bytes, header: bytes, params: Parameters, *, name: str = ""
    ) -> None:
        """Verify the header (startDecryption).

        Args:
            key: 32 bytes.
            aad: data to which the ciphertext is bound.
            header: first 74 bytes of the ciphertext.
            params: expected parameters.
            name: name of the file, for findings.

        Raises:
            ProofFailed: ``sealed.header``: the header is not of these parameters, this key and this AAD.
        """
        self._name = name
        self._params = params
        if len(header) != HEADER_SIZE or header[:_PARAMS_SIZE] != params.encode():
            expected = f"FLOE with segments of {params.segment_size} bytes"
            raise self._failed(FindingId.SEALED_HEADER, expected, "another header")
        iv, tag = header[_PARAMS_SIZE:-HEADER_TAG_SIZE], header[-HEADER_TAG_SIZE:]
        self._state = _State(key, aad, params, iv)
        if not hmac.compare_digest(self._state.header_tag, tag):  # ctEq
            self._state.close()
            raise self._failed(FindingId.SEALED_HEADER, "a header of this data key", "a tag that does not hold")

    def decrypt_into(self, position: int, segment: memoryview, out: memoryview, *, final: bool) -> None:
        """Decrypt one segment (decryptSegment) into ``out``, which holds zeros after a failure.

        Args:
            position: number of the segment from 0.
            segment: whole encrypted segment, in memory that no one else can write.
            out: memory for the plaintext, exactly as long.
            final: whether the receiver expects the last segment here.

        Raises:
            ProofFailed: ``sealed.segment``: changed, moved, cut, or final in the wrong place.
        """
        self._check_length(position, segment, final=final)
        iv = segment[_LENGTH_SIZE : _LENGTH_SIZE + _AEAD_IV_SIZE]
        body = segment[_LENGTH_SIZE + _AEAD_IV_SIZE :]
        try:
            self._state.cipher(position).decrypt_into(iv, body, _aead_aad(position, final=final), out)
        except (InvalidTag, _Forgotten) as error:
            wipe(out)  # the library leaves unauthenticated plaintext behind
            raise self._segment_failed(position, "a tag that does not hold") from error

    def _check_length(self, position: int, segment: memoryview, *, final: bool) -> None:
        size = self._params.segment_size
        if final and not SEGMENT_OVERHEAD <= len(segment) <= size:
            raise self._segment_failed(position, f"a last segment of {len(segment)} bytes")
        if not final and len(segment) != size:
            raise self._segment_failed(position, f"a segment of {len(segment)} bytes")
        if segment[:_LENGTH_SIZE] != (len(segment).to_bytes(4, "big") if final else _NOT_FINAL):
            raise self._segment_failed(position, "a length field that says otherwise")

    def close(self) -> None:
        """Forget the keys."""
        self._state.close()

    def _segment_failed(self, position: int, seen: str) -> ProofFailed:
        return self._failed(FindingId.SEALED_SEGMENT, f"segment {position} as it was sealed", seen)

    def _failed(self, finding: FindingId, expected: str, seen: str) -> ProofFailed:
        return ProofFailed(Finding(id=finding, expected=expected, seen=seen, where=self._name))


def _aead_aad(position: int, *, final: bool) -> bytes:
    """``I2BE(position, 8) || aad_tail`` of encryptSegment."""
    return position.to_bytes(8, "big") + (b"\1" if final else b"\0")
