"""TPM 2.0 structures (TPM Library Part 2): bytes to values and back. Pure: no I/O, no policy, no signatures.

- ``algorithms``, ``handles``: numbers of the specification, and tables of hashes.
- ``buffer``: bounds-checked reading and writing.
- ``attest``, ``signature``, ``public``: what a TPM signs, its signature, and keys with their names.
- ``pcr``, ``pcr_usage``: selections of PCRs, and which PCR holds what.
- ``policy``, ``ek_template``, ``node_keys``: policies and keys that nodeseal uses.
- ``pcr_text``, ``tools``: PCR values in files that other tools write.

Only the agent's room ``tpm`` talks to a TPM.
"""
