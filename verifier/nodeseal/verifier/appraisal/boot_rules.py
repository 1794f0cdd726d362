"""Hold what a boot log proves against a golden's boot rules; what is absent never satisfies a rule."""

from __future__ import annotations

from nodeseal.boot.claims import BootClaims
from nodeseal.findings import Finding
from nodeseal.golden.rules import BootRules


def judge_boot(claims: BootClaims, rules: BootRules) -> tuple[Finding, ...]:
    """Return every way in which ``claims`` fall short of ``rules``."""
    raise NotImplementedError
