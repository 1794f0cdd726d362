"""Row g05: whom a quorum binds, does not get around it: not alone, not by other rules, not over the host's commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

from nodeseal.crypto.hpke import Suite
from nodeseal.errors import OutOfOrder
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.ids import Digest
from nodeseal.sealed.slots import Slots
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import admin_pb2, people_pb2
from nodeseal.v1 import governance_pb2 as pb
from nodeseal.verifier.ledger.log import load_mac_key
from nodeseal.verifier.people.roles import WIDENING
from nodeseal.verifier.people.rulebook import recover_rules
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import opened_engine
from support.acts import AT
from support.admin import content_of
from support.sealed import model_key
from support.ssh import ed25519_signer
from support.together import quorum_rules, rules_change, several, somebody
from support.verifier import RunningVerifier, Stubs, a_verifier, refused

MODEL = Digest("ab" * 32)
KEY = model_key(key_id="llama")[1]
NODE = "n-" + "a" * 26


def direct_calls(calls: Stubs) -> dict[str, Awaitable[object]]:
    """Return a call of every method that widens trust, as one person would make it."""
    golden = admin_pb2.ActivateGoldenRequest(
        document=dump_golden(Golden(name="rack", pcrs={HashAlg.SHA256: {4: frozenset({bytes(32)})}}))
    )
    grant = admin_pb2.Grant(node_id=NODE, max_leases=1)
    slots = Slots(MODEL, (KEY.slot(MODEL, bytes(32)),)).encode()
    fingerprint, line = "SHA256:x", ed25519_signer().line
    return {
        "AdmitNode": calls.nodes.AdmitNode(admin_pb2.AdmitNodeRequest(node_id=NODE)),
        "LabelNode": calls.nodes.LabelNode(admin_pb2.LabelNodeRequest(node_id=NODE, labels={"rack": "a"})),
        "ActivateGolden": calls.goldens.ActivateGolden(iter([golden])),
        "CreateKey": calls.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="new")),
        "SetKeyPolicy": calls.keys.SetKeyPolicy(admin_pb2.SetKeyPolicyRequest(key_id="llama", silence_seconds=9)),
        "GrantKey": calls.keys.GrantKey(admin_pb2.GrantKeyRequest(key_id="llama", grant=grant)),
        "RevokeKey": calls.keys.RevokeKey(admin_pb2.RevokeKeyRequest(key_id="llama", reason="mine")),
        "ResumeKey": calls.keys.ResumeKey(admin_pb2.ResumeKeyRequest(key_id="llama")),
        "RewrapSlots": calls.keys.RewrapSlots(admin_pb2.RewrapSlotsRequest(slots=slots, keys=[KEY.encode()])),
        "RegisterModel": calls.models.RegisterModel(admin_pb2.RegisterModelRequest(content=content_of("llama", 1))),
        "InvitePerson": calls.people.InvitePerson(people_pb2.InvitePersonRequest(person="eve", roles=["approver"])),
        "RemovePerson": calls.people.RemovePerson(people_pb2.RemovePersonRequest(person="lee")),
        "AddPersonKey": calls.people.AddPersonKey(people_pb2.AddPersonKeyRequest(person="kim", key=line)),
        "RemovePersonKey": calls.people.RemovePersonKey(
            people_pb2.RemovePersonKeyRequest(person="lee", fingerprint=fingerprint)
        ),
        "ResumePerson": calls.people.ResumePerson(people_pb2.ResumePersonRequest(person="lee")),
    }


def test_g05_one_person_alone_is_refused_with_the_words_of_the_proposal(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with verifier.person() as admin:
            await admin.keys.CreateKey(admin_pb2.CreateKeyRequest(key_id="llama"))
        async with several(verifier, quorum_rules()) as people:
            kim = people["kim"]
            before = verifier.records()
            calls = direct_calls(kim.calls)
            assert calls.keys() == {method.rpartition("/")[2] for method in WIDENING}
            for name, call in calls.items():
                refusal = await refused(call)
                assert (refusal.code, refusal.findings) == (grpc.StatusCode.PERMISSION_DENIED, ("person.quorum",)), name
                assert "nodeseal propose " in refusal.details, name
            assert verifier.records() == before
            key = await kim.calls.keys.GetKey(admin_pb2.GetKeyRequest(key_id="llama"))
            assert (key.revoked, key.silence_seconds) == (False, 0)
            with pytest.raises(OutOfOrder, match="quorum"):
                verifier.add_person("eve", Role.APPROVER)
            suspended = await kim.calls.keys.SuspendKey(admin_pb2.SuspendKeyRequest(key_id="llama", reason="leak?"))
            assert suspended.HasField("suspended_until")  # restricting needs nobody else

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case(verifier))


def test_g05_rules_change_by_the_old_and_the_new_quorum_only(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with several(verifier) as people:
            kim, lee, ann = people.values()
            unmet = await refused(kim.propose(*rules_change(quorum_rules(approvals=3))))
            assert "nobody could meet these rules" in unmet.details
            verified = await refused(kim.propose(*rules_change(quorum_rules(verified=True))))
            assert verified.code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION}
            unsigned = await kim.draft(rules_change(quorum_rules())[0])
            refusal = await refused(kim.make(unsigned, rules_change(quorum_rules())[1], b""))
            assert refusal.findings == ("person.approval",)

            two = await kim.propose(*rules_change(quorum_rules(approvals=2)))
            assert (await lee.approve(two)).outcome == "open"  # the rule is solo still, and the new one asks for two
            assert (await ann.approve(two)).outcome == "executed"
            skipped = await refused(kim.propose(*rules_change(quorum_rules(version=4))))
            assert "version 3" in skipped.details
            lower = await kim.propose(*rules_change(quorum_rules(version=3, approvals=1)))
            assert (await lee.approve(lower)).outcome == "open"  # the old one asks for two
            in_force = await kim.calls.rules.GetRules(pb.GetRulesRequest())
            assert "quorum (version 2): 2 other people" in in_force.words
            assert len(in_force.warnings) == 3
            assert (await ann.approve(lower)).outcome == "executed"
            assert "1 other person" in (await kim.calls.rules.GetRules(pb.GetRulesRequest())).words

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case(verifier))


def test_g05_under_solo_an_operator_does_not_get_around_the_roles_by_a_proposal(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with somebody(verifier, "olga", Role.OPERATOR) as olga, several(verifier, names=("kim",)) as people:
            change = {
                "kind": "key.create",
                "key": "llama",
                "suite": Suite.MLKEM768_X25519.value,
                "store": "file",
                "silence_seconds": 0,
            }
            proposal = await olga.make(await olga.draft(change), b"", b"")
            assert proposal.outcome == "open"
            assert not (await olga.calls.keys.ListKeys(admin_pb2.ListKeysRequest())).keys
            assert (await people["kim"].approve(proposal)).outcome == "executed"
            alone = await people["kim"].make(await people["kim"].draft({**change, "key": "two"}), b"", b"")
            assert alone.outcome == "executed"

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case(verifier))


def test_g05_recovery_on_the_stopped_host_is_told_by_the_log(tmp_path: Path) -> None:
    async def prepare(verifier: RunningVerifier) -> str:
        async with several(verifier, quorum_rules()) as people:
            return (await people["kim"].propose({"kind": "person.resume", "person": "lee"})).proposal

    async def after(verifier: RunningVerifier, proposal: str) -> None:
        async with somebody(verifier, "kim") as kim:
            rules = await kim.calls.rules.GetRules(pb.GetRulesRequest())
            assert rules.words.startswith("solo (version 3)")
            state = await kim.settled(proposal)
            assert (state.outcome, "rules have changed" in state.why) == ("stale", True)

    with a_verifier(tmp_path) as verifier:
        proposal = asyncio.run(prepare(verifier))
        verifier.stop()
        with opened_engine(verifier.folder / "verifier.sqlite") as engine:
            recover_rules(engine, load_mac_key(verifier.folder / "acts.key"), "local/root", AT)
        verifier.start()
        asyncio.run(after(verifier, proposal))
        set_rules = [record for record in verifier.records() if record["action"] == "rules.set"]
        assert [record["details"]["recovery"] for record in set_rules] == [False, False, True]
        assert set_rules[-1]["actor"] == "local/root"
        assert any("solo" in str(line.get("rules", "")) for line in verifier.log())
