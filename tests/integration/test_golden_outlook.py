"""``golden activate --dry-run`` over the API: what a golden would say of each node, with nothing changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.cli.main import app
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image
from nodeseal.swtpm.synthetic import SyntheticTpm
from nodeseal.v1 import admin_pb2
from nodeseal.v1.attestation_pb2 import NODE_STATE_TRUSTED
from nodeseal.verifier.states import Role
from support.attackers import record_contents
from support.boot_logs import claims_of, rules_from
from support.fake_node import FakeNode, golden_of
from support.forged_rounds import Scene, a_scene, granted_node
from support.suspects import LOG, Suspect
from support.verifier import Stubs


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with a_scene(tmp_path_factory.mktemp("outlook")) as made:
        yield made


async def foreseen(admin: Stubs, document: bytes, node: FakeNode) -> tuple[str, list[str]]:
    """Ask what a golden would say of a node; nothing may be recorded, and no state may change."""
    before = await record_contents(admin), await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())
    call = admin.goldens.ForeseeGolden(iter([admin_pb2.ActivateGoldenRequest(document=document)]))
    found = [each async for each in call if each.node_id == node.node_id]
    after = await record_contents(admin), await admin.goldens.ListGoldens(admin_pb2.ListGoldensRequest())
    assert before == after
    return found[0].foreseen, [finding.id for finding in found[0].findings]


def test_a_golden_that_matches_and_one_that_does_not_are_told_with_the_reason(scene: Scene) -> None:
    async def case() -> None:
        node = await granted_node(scene)
        async with node.attesting() as stream, scene.verifier.person() as admin:
            unknown = await foreseen(admin, golden_of(node, name="before"), node)
            await stream.round_until(NODE_STATE_TRUSTED)
            good = golden_of(node, name="candidate")
            other = parse_golden(good, "g")
            bank, rows = next(iter(other.pcrs.items()))
            other = Golden(name="other", pcrs={bank: {**rows, 4: frozenset({bytes([7]) * 32})}})
            labelled = Golden(name="labelled", pcrs=other.pcrs, nodes={"rack": "z"})
            assert unknown == ("unknown", [])
            assert await foreseen(admin, good, node) == ("matches", [])
            assert await foreseen(admin, dump_golden(other), node) == ("differs", ["pcr.mismatch"])
            assert await foreseen(admin, dump_golden(labelled), node) == ("not-for-it", [])
            assert (await stream.round()).state == NODE_STATE_TRUSTED

    asyncio.run(case())


def test_rules_over_a_log_that_was_not_kept_are_open(scene: Scene, tmp_path: Path) -> None:
    async def case() -> None:
        node = Suspect(scene.verifier, SyntheticTpm(scene.verifier.vendor), tmp_path)
        node.reboot_by(LOG)
        await node.enrol()
        async with node.attesting() as stream, scene.verifier.person() as admin:
            await stream.round()
            images = rules_from(claims_of(LOG)).images or ()
            named = tuple(replace(each, name=f"image {number}") for number, each in enumerate(images))
            rules = Golden(name="rules", pcrs={}, boot=BootRules(images=named))
            evil = Golden(
                name="evil", pcrs={}, boot=BootRules(images=(Image(name="x", digests=frozenset({bytes(32)})),))
            )
            assert await foreseen(admin, dump_golden(rules), node) == ("open", [])
            assert await foreseen(admin, dump_golden(evil), node) == ("open", [])

    asyncio.run(case())


def test_the_command_says_who_would_not_be_trusted_and_fails_then(scene: Scene, tmp_path: Path) -> None:
    async def case() -> None:
        node = await granted_node(scene)
        async with node.attesting() as stream:
            await stream.round_until(NODE_STATE_TRUSTED)
            good, other = golden_of(node, name="candidate"), golden_of(node, 0, 4, name="other")
            approver = await asyncio.to_thread(scene.verifier.add_person, "eve", Role.APPROVER)
            (tmp_path / "good.yaml").write_bytes(good)
            client = ["--client", str(approver)]
            dry = ["golden", "activate", "--dry-run", *client]
            done = await asyncio.to_thread(CliRunner().invoke, app, [*dry, str(tmp_path / "good.yaml")])
            assert "nothing was changed" in done.output, done.output
            assert node.node_id in done.output
            broken = parse_golden(other, "g")
            bank, rows = next(iter(broken.pcrs.items()))
            document = dump_golden(Golden(name="other", pcrs={bank: {**rows, 4: frozenset({bytes([7]) * 32})}}))
            (tmp_path / "other.yaml").write_bytes(document)
            failed = await asyncio.to_thread(CliRunner().invoke, app, [*dry, str(tmp_path / "other.yaml")])
            assert failed.exit_code == 1, failed.output
            assert "pcr.mismatch" in failed.output
            told = await asyncio.to_thread(CliRunner().invoke, app, [*dry, str(tmp_path / "other.yaml"), "--json"])
            assert told.exit_code == 1, told.output
            (found,) = (each for each in json.loads(told.stdout) if each["node_id"] == node.node_id)
            assert (found["state"], found["foreseen"]) == ("trusted", "differs")

    asyncio.run(case())
