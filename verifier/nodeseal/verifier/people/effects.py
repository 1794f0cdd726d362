"""What a change would do, in plain words, by what the verifier knows now: for how many nodes, keys and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from nodeseal.errors import NodesealError
from nodeseal.governance.changes import Change, ChangeKind
from nodeseal.governance.quorum import hazards
from nodeseal.governance.rules import decode_rules
from nodeseal.ids import Digest, KeyId, NodeId, PersonId
from nodeseal.sealed.content import parse_content
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.store.governance import list_person_keys, members
from nodeseal.verifier.store.leases import running_leases
from nodeseal.verifier.store.policy import find_key_with_grants, find_model
from nodeseal.verifier.trust.goldens import Goldens

_SHOWN: Final = 8
"""Nodes of one kind that are named."""


class Effects:
    """Says what changes would do."""

    def __init__(self, fleet: Fleet, goldens: Goldens) -> None:
        self.fleet: Final = fleet
        self.goldens: Final = goldens

    async def describe(self, change: Change, attachment: bytes) -> tuple[str, ...]:
        """Return a line for each thing that would change; nothing is changed.

        Args:
            change: what would change.
            attachment: what travels beside it; empty: it has not arrived yet.
        """
        try:
            return (change.words, *await _EFFECTS[change.kind](self, change, attachment))
        except NodesealError as error:
            return change.words, f"It could not take effect now: {error}"


async def _node(seen: Effects, change: Change, _: bytes) -> Sequence[str]:
    node = seen.fleet.get(NodeId(change.text("node")))
    facts = node.record
    labels = ", ".join(f"{name}={value}" for name, value in sorted(facts.labels.items())) or "none"
    return (
        f"Concerns 1 node: it says that its name is {facts.facts.hostname}, and is {node.state.value}.",
        f"Its reason: {node.reason or 'none'}. Its labels: {labels}.",
        f"Its TPM: {facts.tpm.manufacturer or 'not certified'}, enrolled on {facts.enrolled:%Y-%m-%d}.",
    )


async def _golden(seen: Effects, _change: Change, attachment: bytes) -> Sequence[str]:
    if not attachment:
        return ()
    found = await seen.goldens.foresee(attachment)
    counts = Counter(outlook.foreseen.value for _, outlook in found)
    told = [
        f"Concerns {len(found)} nodes: "
        + (", ".join(f"{n} {what}" for what, n in sorted(counts.items())) or "none")
        + "."
    ]
    for what in sorted(counts):
        named = [node.record.node_id for node, outlook in found if outlook.foreseen.value == what]
        told.append(f"{what}: {_names(named)}")
    active = [golden.name for golden in seen.fleet.policy.goldens]
    told.append(f"Active beside it: {_names(active) or 'no golden'}. nodeseal proposal diff shows what differs.")
    return told


async def _key(seen: Effects, change: Change, _: bytes) -> Sequence[str]:
    key_id = KeyId(change.text("key"))
    key = await seen.fleet.store.read(lambda connection: find_key_with_grants(connection, key_id))
    if key is None:
        return ("Concerns 1 key that does not exist.",)
    leases = await seen.fleet.store.read(lambda connection: running_leases(connection, None, key_id))
    suspended = f", suspended since {key.suspended.isoformat(timespec='seconds')}" if key.suspended else ""
    told = [f"Concerns 1 key, granted to {len(key.grants)} nodes, with {len(leases)} leases running{suspended}."]
    told += [f"Its leases survive {key.silence_seconds} seconds of silence now."]
    if change.kind is ChangeKind.KEY_REVOKE:
        told.append(f"{len(leases)} leases end, of {len({lease.model_digest for lease in leases})} models.")
    return told


async def _grant(seen: Effects, change: Change, attachment: bytes) -> Sequence[str]:
    return *await _key(seen, change, attachment), *await _node(seen, change, attachment)


async def _new_key(_seen: Effects, _change: Change, _: bytes) -> Sequence[str]:
    return ("Concerns 1 key. No node may hold it before it is granted.",)


async def _register(_seen: Effects, _change: Change, attachment: bytes) -> Sequence[str]:
    if not attachment:
        return ()
    content = parse_content(attachment)
    size = f"{content.size} bytes in {len(content.files)} files"
    return (f"Concerns 1 model: {content.model_id} version {content.version}, {size}.",)


async def _reslot(seen: Effects, change: Change, _: bytes) -> Sequence[str]:
    digest = Digest(change.text("model"))
    model = await seen.fleet.store.read(lambda connection: find_model(connection, digest))
    name = f"{model.model_id} version {model.version}" if model else "one that is not registered"
    return (f"Concerns 1 model: {name}. Whoever may open with these keys can open it then.",)


async def _person(seen: Effects, change: Change, _: bytes) -> Sequence[str]:
    name = PersonId(change.text("person"))
    keys = await seen.fleet.store.read(list_person_keys)
    people = await seen.fleet.store.read(members)
    own = [key.fingerprint for key in keys if key.name == name]
    known = people.get(name)
    words = "nobody of that name" if known is None else "an approver" if known.approves else "not an approver"
    return (f"{name} is {words}, with {len(own)} SSH keys: {_names(own) or 'none'}.",)


async def _rules(seen: Effects, _change: Change, attachment: bytes) -> Sequence[str]:
    now = seen.fleet.memory.rules
    if not attachment:
        return (f"In force now: {now.words}.",)
    rules, people = decode_rules(attachment, "rules"), await seen.fleet.store.read(members)
    governed = ", ".join(sorted(kind.value for kind in rules.governed)) or "nothing"
    warnings = [f"Warning: {hazard}." for hazard in hazards(rules, people)]
    return (f"In force now: {now.words}.", f"Then: {rules.words}.", f"Needs a proposal then: {governed}.", *warnings)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_Describe: TypeAlias = Callable[[Effects, Change, bytes], Awaitable[Sequence[str]]]
_EFFECTS: Final[Mapping[ChangeKind, _Describe]] = {
    ChangeKind.NODE_ADMIT: _node,
    ChangeKind.NODE_LABEL: _node,
    ChangeKind.GOLDEN_ACTIVATE: _golden,
    ChangeKind.KEY_CREATE: _new_key,
    ChangeKind.KEY_POLICY: _key,
    ChangeKind.KEY_GRANT: _grant,
    ChangeKind.KEY_RESUME: _key,
    ChangeKind.KEY_REVOKE: _key,
    ChangeKind.MODEL_REGISTER: _register,
    ChangeKind.MODEL_RESLOT: _reslot,
    ChangeKind.PERSON_INVITE: _person,
    ChangeKind.PERSON_REMOVE: _person,
    ChangeKind.PERSON_KEY_ADD: _person,
    ChangeKind.PERSON_KEY_REMOVE: _person,
    ChangeKind.PERSON_RESUME: _person,
    ChangeKind.RULES_SET: _rules,
}
