"""The node's TPM: the only importer of ``tpm2_pytss``."""
