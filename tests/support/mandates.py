"""Mandates of tests that are not about who may do what."""

from __future__ import annotations

from nodeseal.verifier.fleet.mandate import Mandate, Sanction

KIM = Mandate(actor="person/kim", allow=lambda _rows, _result: Sanction())
"""Kim may do anything alone."""
