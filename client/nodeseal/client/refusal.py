"""What a person is told when the verifier refuses a call."""

from __future__ import annotations

from nodeseal.errors import NodesealError


class Refused(NodesealError):
    """A refusal by the verifier.

    Attributes:
        findings: what it found, each with its remedy, in the words of its version; empty if it named nothing.
    """

    def __init__(self, message: str, findings: tuple[tuple[str, str], ...] = (), *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings
