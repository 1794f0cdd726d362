"""Calls to the verifier: channels, and messages as values."""
