"""The transparency log as values: trees, tiles, proofs, checkpoints, cosignatures (RFC 6962, RFC 9162, C2SP).

Nothing here is about acts: leaves are hashes. No I/O, clock or randomness.
"""
