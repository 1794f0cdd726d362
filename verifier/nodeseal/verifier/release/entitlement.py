"""Who may have which data key: one decision, pure, on what people decided so far.

:func:`entitle` is asked whenever the answer counts: when a node asks, so that a hopeless request costs no TPM time;
when its proof holds; in the transaction that records the lease, because people may have changed their minds by then;
and, with a rule of its own, for rotation. The facts come from :func:`nodeseal.verifier.store.policy.read_facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from nodeseal.errors import PolicyRefused
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, KeyId, NodeId
from nodeseal.sealed.slots import Slot
from nodeseal.verifier.store.policy import KeyRecord, ModelRecord, ReleaseFacts


class Rule(NamedTuple):
    """Which keys of this verifier may open a slot, and for whom.

    Attributes:
        expected: text for people: the slot that a model must have.
        counts: tells whether slots of a key are considered at all.
        refusal: returns why a slot of a key must not be opened, or None.
    """

    expected: str
    counts: Callable[[KeyRecord], bool]
    refusal: Callable[[KeyRecord], Finding | None]


def lease_rule(node_id: NodeId, running: Mapping[KeyId, int] = MappingProxyType({})) -> Rule:
    """Return the rule for leases: a node may hold as many leases of a key as its grant allows.

    Args:
        node_id: the node.
        running: how many leases of each key it holds; left out while no lease is about to start.
    """

    def refusal(key: KeyRecord) -> Finding | None:
        if key.suspended is not None:
            return _suspended(key)
        limit = 0 if key.revoked is not None else dict(key.grants).get(node_id, 0)
        if limit == 0:
            seen = "the key was revoked" if key.revoked is not None else f"no grant for {node_id}"
            return _finding(FindingId.RELEASE_GRANT, "a grant of the model key", seen, key.key_id)
        held = running.get(key.key_id, 0)
        if held >= limit:
            return _finding(FindingId.RELEASE_LIMIT, f"at most {limit} leases", f"{held} running", key.key_id)
        return None

    return Rule(expected="a slot of a key held here", counts=lambda _: True, refusal=refusal)


def _suspended(key: KeyRecord) -> Finding | None:
    if key.suspended is None:
        return None
    since = f"suspended since {key.suspended.isoformat(timespec='seconds')}"
    return _finding(FindingId.RELEASE_GRANT, "a model key that is not suspended", since, key.key_id)


ROTATION: Final = Rule(
    expected="a slot of a key held here and in force", counts=lambda key: key.revoked is None, refusal=_suspended
)
"""The rule for rotation: any key that is not revoked may open, because roles decide who may rotate.

Opening a slot with a revoked key would undo its revocation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request for a data key.

    Attributes:
        model_digest: the model.
        slots: its slots: the data key, sealed to one model key in each.
    """

    model_digest: Digest
    slots: tuple[Slot, ...]

    @property
    def key_ids(self) -> tuple[KeyId, ...]:
        """The keys that the slots name, each once."""
        return tuple(dict.fromkeys(slot.key_id for slot in self.slots))


class Choice(NamedTuple):
    """The slot to open and the key that opens it."""

    slot: Slot
    key: KeyRecord


class Entitlement(NamedTuple):
    """The decision.

    Attributes:
        choice: the first slot that may be opened; None if there are findings.
        findings: every reason why not.
    """

    choice: Choice | None
    findings: tuple[Finding, ...]

    def require(self) -> Choice:
        """Return the choice.

        Raises:
            PolicyRefused: there is none; carries every finding.
        """
        if self.choice is None:
            raise PolicyRefused(*self.findings)
        return self.choice


def entitle(facts: ReleaseFacts, wanted: Wanted, rule: Rule) -> Entitlement:
    """Choose the slot to open: the first of a key held here that ``rule`` lets pass, if the model is registered."""
    held = [
        Choice(slot, key)
        for slot in wanted.slots
        if (key := facts.keys.get(slot.key_id)) is not None
        and (key.version, key.suite) == (slot.key_version, slot.suite.value)
        and rule.counts(key)
    ]
    refusals = [rule.refusal(each.key) for each in held]
    usable = [each for each, refusal in zip(held, refusals, strict=True) if refusal is None]
    findings = [*_model_findings(facts.model, wanted.model_digest)]
    if not held:
        seen = ", ".join(f"{slot.key_id} version {slot.key_version}" for slot in wanted.slots) or "no slots"
        findings.append(_finding(FindingId.RELEASE_SLOT, rule.expected, seen))
    if not usable:
        findings += [refusal for refusal in refusals if refusal is not None]
    return Entitlement(usable[0] if not findings else None, tuple(findings))


def _model_findings(model: ModelRecord | None, digest: Digest) -> tuple[Finding, ...]:
    if model is None:
        return (_finding(FindingId.RELEASE_MODEL, "a registered model", "an unknown one", digest),)
    if model.retired is not None:
        since = model.retired.isoformat(timespec="seconds")
        return (_finding(FindingId.RELEASE_RETIRED, "a registered model", f"retired since {since}", digest),)
    return ()


def _finding(which: FindingId, expected: str, seen: str, where: str = "") -> Finding:
    return Finding(id=which, expected=expected, seen=seen, where=where)
