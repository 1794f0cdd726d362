"""Cryptography by purpose. Only this room imports the library ``cryptography``.

- ``algorithms``, ``keys``: what is accepted, and keys between their TPM form and the library's.
- ``signatures``, ``ima_signatures``: signatures by TPM keys, and of files.
- ``endorsement``, ``issuance``, ``weak_keys``: chains of endorsement certificates.
- ``credential``: TPM2_MakeCredential.
- ``hpke``, ``hpke_receiver``, ``kdf``: data keys on their way.
- ``floe``, ``keywrap``, ``secret``: content files, private keys at rest, and memory that holds secrets.
- ``authority``, ``tls_identity``, ``tls_key``: TLS certificates, the identities in them, and their keys.
- ``ssh_key``, ``ssh_signature``: keys and signatures of people, as OpenSSH makes them.
- ``ed25519``: checkpoints of the log and cosignatures of witnesses.
- ``synthetic``, ``tpm_vendor``: keys and certificates of software TPMs; never trusted.

A function that verifies raises, or returns the problem as text; none returns a bool. Times are arguments.
"""
