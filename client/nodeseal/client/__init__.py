"""Typed client of the verifier for people: one connection, its settings, and its refusals as errors."""
