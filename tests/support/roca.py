"""Moduli of the shape that the ROCA library made; not of primes, which the fingerprint does not look at."""

from __future__ import annotations

from math import prod

_PRIMES = [n for n in range(2, 168) if all(n % divisor for divisor in range(2, n))]
_M = prod(_PRIMES)


def roca_modulus(bits: int) -> int:
    """Return the product of two numbers ``k·M + 65537^a mod M``, with exactly ``bits`` bits."""
    p, q = (_factor(bits // 2, exponent) for exponent in (1234, 98765))
    return p * q


def _factor(bits: int, exponent: int) -> int:
    top = (1 << bits) - 1
    residue = pow(65537, exponent, _M)
    return (top - residue) // _M * _M + residue
