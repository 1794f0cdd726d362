"""A node chooses its host name; no trust is given to a name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodeseal.verifier.states import PEOPLE
from support.fake_node import FakeNode, a_node
from support.terminal import Terminal
from support.verifier import RunningVerifier


@pytest.fixture
def admin(verifier: RunningVerifier, tmp_path: Path) -> Terminal:
    return Terminal(verifier.add_person(f"p{tmp_path.name}".lower().replace("_", "-")[:40], *PEOPLE), tmp_path)


def enrolled(verifier: RunningVerifier) -> FakeNode:
    node = a_node(verifier)
    asyncio.run(node.enrol())
    return node


def test_e15_no_trust_is_given_to_a_host_name(verifier: RunningVerifier, admin: Terminal) -> None:
    node = enrolled(verifier)
    host = admin.json("node", "show", node.node_id)["hostname"]
    admin.type("key", "create", "for-one")
    for command in (
        ("node", "admit", host),
        ("node", "label", host, "rack=a"),
        ("node", "token", host),
        ("node", "evidence", host, "-o", "evidence"),
        ("golden", "capture", host, "--name", "g"),
        ("key", "grant", "for-one", "--node", host),
    ):
        refused = admin.type(*command, exit_code=1).stderr
        assert "a node chooses its own" in refused, command
        assert node.node_id in refused
    assert admin.json("node", "show", node.node_id)["state"] == "pending"
    assert admin.json("key", "show", "for-one")["grants"] == []
    start = node.node_id[:16]
    assert admin.json("node", "admit", start)["state"] != "pending"
    assert admin.json("key", "grant", "for-one", "--node", start)["grants"][0]["node_id"] == node.node_id
