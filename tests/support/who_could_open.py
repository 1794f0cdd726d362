"""From an export alone: who could have opened what, and when. Uses nothing of nodeseal.

Reads ``acts.jsonl`` and nothing else, and returns intervals of time in which a node could have been given the data key
of a model by a key: the node was admitted and neither quarantined nor retired, the key was granted to it and not
revoked, and the model was registered and not retired. That is an upper bound: whether a round was good at that time, a
slot for the key existed, or a golden was active is not asked, since steady trust is no act.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Opening = tuple[str, str, str, str, str]
"""Node, key, model, since, until; until is empty while it lasts."""


@dataclass
class _Now:
    admitted: set[str] = field(default_factory=set)
    granted: set[tuple[str, str]] = field(default_factory=set)
    registered: set[str] = field(default_factory=set)
    suspended: set[str] = field(default_factory=set)
    since: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def possible(self) -> set[tuple[str, str, str]]:
        open_now = [(key, node) for key, node in self.granted if node in self.admitted and key not in self.suspended]
        return {(node, key, model) for key, node in open_now for model in self.registered}


def openings(folder: Path) -> list[Opening]:
    """Return every interval, in the order of its end."""
    now, found = _Now(), list[Opening]()
    for kind, at, fields in _acts(folder):
        _take(now, kind, fields)
        possible = now.possible()
        for gone in sorted(now.since.keys() - possible):
            found.append((*gone, now.since.pop(gone), at))
        for new in possible - now.since.keys():
            now.since[new] = at
    return [*found, *sorted((*still, since, "") for still, since in now.since.items())]


def releases(folder: Path) -> list[tuple[str, str, str, str]]:
    """Return every lease that began: node, key, model and time."""
    return [
        (fields["node_id"], fields["key_id"], fields["model_digest"], at)
        for kind, at, fields in _acts(folder)
        if kind == "lease.issued"
    ]


def _acts(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for line in (folder / "acts.jsonl").read_text().splitlines():
        act = json.loads(line)
        envelope = json.loads(act["envelope"])
        yield envelope["kind"], envelope["at"], json.loads(act["body"])["fields"]


def _take(now: _Now, kind: str, fields: dict[str, Any]) -> None:
    node, key, state = fields.get("node_id", ""), fields.get("key_id", ""), fields.get("state", "")
    if kind == "node.admitted":
        now.admitted.add(node)
    elif kind in {"node.quarantined", "node.retired"} or state in {"quarantined", "retired", "pending"}:
        now.admitted.discard(node)
    elif kind == "key.granted":
        now.granted.add((key, node))
    elif kind == "key.withdrawn":
        now.granted.discard((key, node))
    elif kind == "key.revoked":
        now.granted = {each for each in now.granted if each[0] != key}
    elif kind in {"key.suspended", "key.resumed"}:
        (now.suspended.add if kind == "key.suspended" else now.suspended.discard)(key)
    elif kind == "model.registered":
        now.registered.add(fields["digest"])
    elif kind == "model.retired":
        now.registered.discard(fields["digest"])
