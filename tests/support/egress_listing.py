"""What nft 1.0.6 listed for the document of :mod:`support.egress`, with ``up0`` as uplink and ``up1`` as slave."""

from __future__ import annotations

from pathlib import Path

LISTING = Path(__file__).resolve().parents[1] / "vectors" / "egress" / "nft-1.0.6.json"
