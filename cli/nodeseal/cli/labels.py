"""Labels as people type them: ``LABEL=VALUE``."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def parse_label_changes(texts: Iterable[str]) -> dict[str, str]:
    """Return labels to set; an empty value takes a label away.

    Raises:
        typer.BadParameter: a text is not of that form.
    """
    return dict(map(_parse_label, texts))


def _parse_label(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not label or not equals:
        raise typer.BadParameter(f"not LABEL=VALUE: {text[:80]!a}")
    return label, value
