"""Verifiers, nodes and machines that many of these tests start from; a module may put its own in their place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.vendor import TpmVendor
from support.fake_node import FakeNode, a_node
from support.machines import a_machine, a_vendor
from support.real_machines import Observed, an_observed_machine
from support.verifier import RunningVerifier, a_verifier


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    """A verifier that challenges every second."""
    with a_verifier(tmp_path_factory.mktemp("verifier")) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningVerifier]:
    """A verifier for one test alone."""
    with a_verifier(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def node(verifier: RunningVerifier) -> FakeNode:
    """A node that has enrolled and that nobody has admitted."""
    made = a_node(verifier)
    asyncio.run(made.enrol())
    return made


@pytest.fixture(scope="module")
def vendor() -> Iterator[TpmVendor]:
    """A vendor of software TPMs."""
    with a_vendor() as made:
        yield made


@pytest.fixture
def machine(vendor: TpmVendor) -> Iterator[Machine]:
    """A machine that was never on."""
    with a_machine(vendor) as made:
        yield made


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A machine with every SHA-2 bank, and its agent."""
    with an_observed_machine(tmp_path_factory.mktemp("agent")) as made:
        yield made
