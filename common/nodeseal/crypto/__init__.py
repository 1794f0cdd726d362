"""Cryptography by purpose, and the only importer of ``cryptography``."""
