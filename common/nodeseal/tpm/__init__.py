"""TPM 2.0 structures (TPM Library Part 2): bytes to values and back; no I/O, no policy."""
