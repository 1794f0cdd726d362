"""A node with real traffic, shared by the tests of a module; each test begins without a table."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from nodeseal.agent.egress.limits import EgressLimits
from support.namespaces import World, inside, world

LIMITS = b"""\
enclave: ["10.77.0.0/24", "fd77::/64"]
uplinks: ["up0", "up0.7"]
normal: {rate: 400000, burst: 65536, volume: 600000}
tight: {rate: 100000, burst: 65536, volume: 100000}
"""


@pytest.fixture(scope="module")
def cable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node and what is outside of it."""
    with world(tmp_path_factory.mktemp("egress")) as made:
        yield made


@pytest.fixture
def limits(cable: World) -> Iterator[EgressLimits]:
    """Limits in force on the node, with nothing counted yet; the test runs in its namespace."""
    with inside(cable.node):
        subprocess.run(["nft", "delete", "table", "netdev", "nodeseal"], check=False, capture_output=True)
        with closing(cable.limits(LIMITS)) as found:
            found.install()
            yield found
