"""What a proposal does once it is approved: the same calls as those of one person, under another mandate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from nodeseal.governance.changes import Change, ChangeKind
from nodeseal.governance.reslot import decode_reslot
from nodeseal.ids import KeyId, NodeId, PersonId
from nodeseal.sealed.slots import parse_suite
from nodeseal.verifier.fleet.admin import NodeAdmin
from nodeseal.verifier.fleet.mandate import Mandate
from nodeseal.verifier.people.membership import Membership
from nodeseal.verifier.people.rulebook import Rulebook
from nodeseal.verifier.people.ssh_keys import SshKeys
from nodeseal.verifier.people.suspensions import Suspensions
from nodeseal.verifier.release.rotation import Rewrap, Rotation
from nodeseal.verifier.trust.goldens import Goldens
from nodeseal.verifier.trust.keys import ModelKeys, NewKey
from nodeseal.verifier.trust.models import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Executors:
    """Whoever does what a proposal may do."""

    nodes: NodeAdmin
    goldens: Goldens
    keys: ModelKeys
    models: Models
    rotation: Rotation
    suspensions: Suspensions
    ssh_keys: SshKeys
    rulebook: Rulebook
    membership: Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done.

    Attributes:
        change: what was proposed.
        attachment: what travels beside it.
        reason: why, as the proposer said.
        by: the mandate of the proposal.
    """

    change: Change
    attachment: bytes
    reason: str
    by: Mandate


async def execute(executors: Executors, order: Order) -> None:
    """Do what an order says.

    Raises:
        NodesealError: it cannot be done; nothing has changed.
    """
    await _EXECUTIONS[order.change.kind](executors, order)


async def _admit(executors: Executors, order: Order) -> None:
    await executors.nodes.admit(NodeId(order.change.text("node")), order.by)


async def _label(executors: Executors, order: Order) -> None:
    await executors.nodes.label(NodeId(order.change.text("node")), order.change.labels(), order.by)


async def _activate(executors: Executors, order: Order) -> None:
    await executors.goldens.activate(order.attachment, order.by)


async def _create_key(executors: Executors, order: Order) -> None:
    change = order.change
    new = NewKey(
        key_id=KeyId(change.text("key")),
        suite=parse_suite(change.text("suite")),
        place=change.text("store"),
        silence_seconds=change.number("silence_seconds"),
    )
    await executors.keys.create(new, order.by)


async def _set_policy(executors: Executors, order: Order) -> None:
    change = order.change
    await executors.keys.set_silence(KeyId(change.text("key")), change.number("silence_seconds"), order.by)


async def _grant(executors: Executors, order: Order) -> None:
    change = order.change
    key_id, node_id = KeyId(change.text("key")), NodeId(change.text("node"))
    await executors.keys.grant(key_id, node_id, change.number("max_leases"), order.by)


async def _resume_key(executors: Executors, order: Order) -> None:
    await executors.suspensions.resume_key(KeyId(order.change.text("key")), order.by)


async def _revoke(executors: Executors, order: Order) -> None:
    await executors.keys.revoke_together(KeyId(order.change.text("key")), order.reason, order.by)


async def _register(executors: Executors, order: Order) -> None:
    again = bool(order.change.facts["again"])
    await executors.models.register(order.attachment, order.by, again=again)


async def _reslot(executors: Executors, order: Order) -> None:
    slots, keys = decode_reslot(order.attachment)
    await executors.rotation.rewrap(Rewrap(model_digest=slots.model_digest, slots=slots.slots, keys=keys, by=order.by))


async def _invite(executors: Executors, order: Order) -> None:
    name, roles = PersonId(order.change.text("person")), order.change.texts("roles")
    await executors.membership.invite(name, roles, order.attachment, order.by)


async def _remove(executors: Executors, order: Order) -> None:
    await executors.membership.remove(PersonId(order.change.text("person")), order.by)


async def _add_key(executors: Executors, order: Order) -> None:
    await executors.ssh_keys.add(PersonId(order.change.text("person")), order.change.text("key"), order.by)


async def _remove_key(executors: Executors, order: Order) -> None:
    change = order.change
    await executors.ssh_keys.remove(PersonId(change.text("person")), change.text("fingerprint"), order.by)


async def _resume_person(executors: Executors, order: Order) -> None:
    await executors.suspensions.resume_person(PersonId(order.change.text("person")), order.by)


async def _set_rules(executors: Executors, order: Order) -> None:
    await executors.rulebook.replace(order.attachment, order.by)


_Execute: TypeAlias = Callable[[Executors, Order], Awaitable[None]]
_EXECUTIONS: Final[Mapping[ChangeKind, _Execute]] = {
    ChangeKind.NODE_ADMIT: _admit,
    ChangeKind.NODE_LABEL: _label,
    ChangeKind.GOLDEN_ACTIVATE: _activate,
    ChangeKind.KEY_CREATE: _create_key,
    ChangeKind.KEY_POLICY: _set_policy,
    ChangeKind.KEY_GRANT: _grant,
    ChangeKind.KEY_RESUME: _resume_key,
    ChangeKind.KEY_REVOKE: _revoke,
    ChangeKind.MODEL_REGISTER: _register,
    ChangeKind.MODEL_RESLOT: _reslot,
    ChangeKind.PERSON_INVITE: _invite,
    ChangeKind.PERSON_REMOVE: _remove,
    ChangeKind.PERSON_KEY_ADD: _add_key,
    ChangeKind.PERSON_KEY_REMOVE: _remove_key,
    ChangeKind.PERSON_RESUME: _resume_person,
    ChangeKind.RULES_SET: _set_rules,
}
