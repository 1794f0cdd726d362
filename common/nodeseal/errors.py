"""Errors that nodeseal raises on purpose, as one tree.

::

    NodesealError                 message, remedy
    ├── MalformedInput            bytes or text that do not parse
    ├── ProofFailed               findings: a signature, certificate, nonce or digest that does not hold
    ├── PolicyRefused             findings: proved, but not allowed
    ├── NotFound                  no such node, key, golden, model
    ├── OutOfOrder                a call that does not fit the state: late answers, repeated messages
    ├── TooManyRequests           a limit was reached; try again later
    └── Unavailable               TPM, store, verifier or agent cannot be reached now
        └── NotRecorded           a restriction is in force, and its record waits for the store

There is a class for each way in which a caller reacts. Messages start in lower case, end without a period and never
quote a secret. A module wraps exceptions of libraries with ``from`` and lets none out.
"""

from __future__ import annotations

from nodeseal.findings import Finding


class NodesealError(Exception):
    """Base of all errors that nodeseal raises on purpose. A traceback ends with the remedy.

    Attributes:
        remedy: advice for the reader, or an empty string.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        if remedy:
            self.add_note(f"do: {remedy}")


class MalformedInput(NodesealError):
    """Bytes or text that do not parse. The message names the file or structure, and the field."""


class _Found(NodesealError):
    """An error made of findings.

    Attributes:
        findings: all of them; at least one.
    """

    def __init__(self, *findings: Finding) -> None:
        if not findings:
            raise ValueError("a refusal needs at least one finding")
        remedies = list(dict.fromkeys(finding.remedy for finding in findings))
        super().__init__("; ".join(map(str, findings)), remedy=remedies[0])
        for remedy in remedies[1:]:
            self.add_note(f"do: {remedy}")
        self.findings = findings

    def __reduce__(self) -> tuple[type[_Found], tuple[Finding, ...]]:
        """Pickle as class and findings: a loading process sends errors to the process that waits for it."""
        return type(self), self.findings


class ProofFailed(_Found):
    """A signature, certificate, nonce or digest that does not hold, so nothing that rests on it counts."""


class PolicyRefused(_Found):
    """Something that is proved, but that policy does not allow. Carries all findings, not only the first."""


class NotFound(NodesealError):
    """No node, key, golden or model of that name."""


class OutOfOrder(NodesealError):
    """A message that does not fit the state of the exchange: late, repeated or out of turn."""


class TooManyRequests(NodesealError):
    """A limit that is reached now; the same request may succeed later."""


class Unavailable(NodesealError):
    """A TPM, store, verifier or agent that cannot be reached now."""


class NotRecorded(Unavailable):
    """A restriction that is in force, and whose record waits for the store."""
