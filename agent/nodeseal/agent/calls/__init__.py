"""Calls to the verifier: channels, messages as values, and what refusals mean."""
