"""The published JSON Schema (draft 2020-12) of goldens, for editors and other programs.

The parser decides: it also refuses errors that a schema cannot express. Tests compare the two.
"""

from __future__ import annotations

from importlib import resources


def golden_schema() -> str:
    """Return the schema as JSON text."""
    return resources.files("nodeseal.golden").joinpath("golden.schema.json").read_text(encoding="utf-8")
