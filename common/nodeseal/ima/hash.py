"""Hash algorithms as the kernel names and numbers them (include/uapi/linux/hash_info.h, crypto/hash_info.c).

IMA writes the name before a file's digest, and the number into signatures. Policy accepts far fewer than are here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class KernelHash(NamedTuple):
    """One row of the kernel's tables: ``enum hash_algo``, ``hash_algo_name`` and ``hash_digest_size``.

    Attributes:
        number: number in signatures.
        name: name in template data.
        size: size of a digest in bytes.
    """

    number: int
    name: str
    size: int


_ROWS: Final = (
    ("md4", 16),
    ("md5", 16),
    ("sha1", 20),
    ("rmd160", 20),
    ("sha256", 32),
    ("sha384", 48),
    ("sha512", 64),
    ("sha224", 28),
    ("rmd128", 16),
    ("rmd256", 32),
    ("rmd320", 40),
    ("wp256", 32),
    ("wp384", 48),
    ("wp512", 64),
    ("tgr128", 16),
    ("tgr160", 20),
    ("tgr192", 24),
    ("sm3", 32),
    ("streebog256", 32),
    ("streebog512", 64),
    ("sha3-256", 32),
    ("sha3-384", 48),
    ("sha3-512", 64),
)
KERNEL_HASHES: Final = tuple(KernelHash(number, name, size) for number, (name, size) in enumerate(_ROWS))
"""All rows, by number."""
KERNEL_HASHES_BY_NAME: Final = {each.name: each for each in KERNEL_HASHES}
