"""A ciphertext that AES-GCM opens under two keys (Dodis, Grubbs, Ristenpart, Woodage, "Fast message franking", 2018).

GHASH is a polynomial over GF(2**128) in the hash key H. For two keys, one free block of ciphertext gives one unknown in
one linear equation: both tags must be equal. Three blocks here: two chosen, one solved for.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_REDUCTION = 0xE1 << 120


def opens_under_both(key: bytes, other: bytes, nonce: bytes, aad: bytes) -> bytes:
    """Return ciphertext and tag that are valid under both keys for this 12-byte nonce and this AAD."""
    blocks = [int.from_bytes(aad + bytes(-len(aad) % 16), "big"), 1, 2]
    lengths = (8 * len(aad)) << 64 | 8 * 48
    totals, weights = 0, 0
    for k in (key, other):
        h = _block(k, bytes(16))
        power, total = _multiply(h, h), _block(k, nonce + b"\0\0\0\1") ^ _multiply(lengths, h)
        weights ^= power  # of the last block, the one to solve for
        for block in reversed(blocks):
            power = _multiply(power, h)
            total ^= _multiply(block, power)
        totals ^= total
    free = _multiply(totals, _inverse(weights))
    h = _block(key, bytes(16))
    tag = 0
    for block in (*blocks, free, lengths):
        tag = _multiply(tag ^ block, h)
    tag ^= _block(key, nonce + b"\0\0\0\1")
    return b"".join(value.to_bytes(16, "big") for value in (*blocks[1:], free, tag))


def _block(key: bytes, block: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block, to find GCM's hash key
    return int.from_bytes(encryptor.update(block), "big")


def _multiply(x: int, y: int) -> int:
    """NIST SP 800-38D §6.3, most significant bit first."""
    product = 0
    for index in range(127, -1, -1):
        if x >> index & 1:
            product ^= y
        y = y >> 1 ^ (_REDUCTION if y & 1 else 0)
    return product


def _inverse(x: int) -> int:
    """By Fermat: x to the power of 2**128 - 2."""
    result, square = 1 << 127, x
    for _ in range(127):
        square = _multiply(square, square)
        result = _multiply(result, square)
    return result
