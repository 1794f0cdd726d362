"""Every error nodeseal raises on purpose, as one tree.

::

    NodesealError                 message, remedy
    ├── MalformedInput            bytes or text that do not parse
    ├── ProofFailed               a signature, certificate, nonce or digest that does not hold
    ├── PolicyRefused             proved, but not allowed: carries every finding
    ├── NotFound                  no such node, key, golden, model
    ├── OutOfOrder                a call that does not fit the state: late answers, repeated messages
    ├── TooManyRequests           a limit was reached; try again later
    └── Unavailable               TPM, store, verifier or agent cannot be reached now

A class exists where a caller acts differently. Messages start in lower case, end without a period and never
quote a secret. Exceptions of libraries do not cross a module's border: they are wrapped with ``from``.
"""

from __future__ import annotations

from nodeseal.findings import Finding


class NodesealError(Exception):
    """Base of all errors that nodeseal raises on purpose. Tracebacks end with what to do.

    Attributes:
        remedy: what the reader can do about it, or an empty string.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        if remedy:
            self.add_note(f"do: {remedy}")


class MalformedInput(NodesealError):
    """Bytes or text that do not parse; the message names the file or structure and the field."""


class _Found(NodesealError):
    """An error that consists of findings."""

    def __init__(self, *findings: Finding) -> None:
        if not findings:
            raise ValueError("a refusal needs at least one finding")
        remedies = list(dict.fromkeys(finding.remedy for finding in findings))
        super().__init__("; ".join(map(str, findings)), remedy=remedies[0])
        for remedy in remedies[1:]:
            self.add_note(f"do: {remedy}")
        self.findings = findings

    def __reduce__(self) -> tuple[type[_Found], tuple[Finding, ...]]:
        """Let it cross from a process that loads to the one that waits for it."""
        return type(self), self.findings


class ProofFailed(_Found):
    """A signature, certificate, nonce or digest does not hold, so nothing behind it means anything."""


class PolicyRefused(_Found):
    """What was proved is not what policy allows. Carries all findings, not only the first."""


class NotFound(NodesealError):
    """There is no node, key, golden or model of that name."""


class OutOfOrder(NodesealError):
    """A message that does not fit the state of the exchange: late, repeated or skipped."""


class TooManyRequests(NodesealError):
    """A limit was reached; the same request may succeed later."""


class Unavailable(NodesealError):
    """Something this needs (TPM, store, verifier, agent) cannot be reached now."""
