"""Where private model keys are: files under a key-encryption key, or a PKCS#11 token."""
