"""Public keys that are too weak, whoever certifies them.

ROCA fingerprint (CVE-2017-15361; Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, §2.2): the affected
library makes primes ``k·M + 65537^a mod M``, where M is a product of small primes. So modulo each of these, a modulus
lies in the subgroup that 65537 generates. Any other modulus has this property with a probability below 2^-27.
"""

from __future__ import annotations

from typing import Final

from nodeseal.crypto.algorithms import ACCEPTED_CURVES, MAX_RSA_BITS, MIN_RSA_BITS
from nodeseal.x509.certificate import EcKey, RsaKey

_ROCA_GENERATOR = 65537
_ROCA_LARGEST_PRIME = 167
"""Largest factor of M for the shortest keys; M of longer keys has these factors, too."""
_SMALL_PRIMES: Final = tuple(
    n for n in range(3, _ROCA_LARGEST_PRIME + 1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1))
)
_SUBGROUPS: Final = {
    prime: frozenset(pow(_ROCA_GENERATOR, exponent, prime) for exponent in range(prime)) for prime in _SMALL_PRIMES
}


def weakness(key: RsaKey | EcKey) -> str:
    """Return the reason why a key is too weak, or an empty text."""
    if isinstance(key, EcKey):
        return "" if key.curve in ACCEPTED_CURVES else f"a key on {key.curve.name}"
    bits = key.modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"RSA with {bits} bits"
    if key.exponent < _ROCA_GENERATOR or key.exponent % 2 == 0:
        return f"RSA with exponent {key.exponent}"
    return "RSA with a modulus of the ROCA kind" if has_roca_fingerprint(key.modulus) else ""


def has_roca_fingerprint(modulus: int) -> bool:
    """Tell whether a modulus has the fingerprint of the library that ROCA breaks."""
    return all(modulus % prime in subgroup for prime, subgroup in _SUBGROUPS.items())
