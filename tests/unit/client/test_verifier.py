"""The typed client: every call has a deadline, lists are read to their end, and what arrives in parts is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest

from nodeseal.client.together import Together
from nodeseal.client.verifier import RecordQuery, Verifier
from nodeseal.errors import MalformedInput
from nodeseal.ids import digest_of
from nodeseal.sealed.slots import Slots
from nodeseal.v1 import admin_pb2
from nodeseal.wire.transfer import PART_SIZE
from support.sealed import model_key

KEY = model_key()[1]
SLOTS = Slots(digest_of(b"model"), (KEY.slot(digest_of(b"model"), bytes(32)),))
CALLS: dict[str, Callable[[Verifier], object]] = {
    "get_self": lambda verifier: verifier.get_self(),
    "renew_certificate": lambda verifier: verifier.renew_certificate(b""),
    "list_people": lambda verifier: verifier.list_people(),
    "invite_person": lambda verifier: verifier.invite_person("kim", ["viewer"], b""),
    "remove_person": lambda verifier: verifier.remove_person("kim"),
    "add_person_key": lambda verifier: verifier.add_person_key("kim", "ssh-ed25519 A"),
    "remove_person_key": lambda verifier: verifier.remove_person_key("kim", "SHA256:A"),
    "suspend_person": lambda verifier: verifier.suspend_person("kim", "why"),
    "resume_person": lambda verifier: verifier.resume_person("kim"),
    "suspend_key": lambda verifier: verifier.suspend_key("k", "why"),
    "resume_key": lambda verifier: verifier.resume_key("k"),
    "get_rules": lambda verifier: verifier.get_rules(),
    "draft_proposal": lambda verifier: verifier.draft_proposal(b"{}", "why", 1),
    "make_proposal": lambda verifier: verifier.make_proposal(b"{}", b"", b""),
    "list_proposals": lambda verifier: verifier.list_proposals(every=True),
    "get_proposal": lambda verifier: verifier.get_proposal("p"),
    "get_attachment": lambda verifier: verifier.get_attachment("p"),
    "approve_proposal": lambda verifier: verifier.approve_proposal("p", b""),
    "reject_proposal": lambda verifier: verifier.reject_proposal("p", "why"),
    "withdraw_proposal": lambda verifier: verifier.withdraw_proposal("p", "why"),
    "get_checkpoint": lambda verifier: verifier.get_checkpoint(),
    "prove_record": lambda verifier: verifier.prove_record(1, 2),
    "prove_consistency": lambda verifier: verifier.prove_consistency(1, 2),
    "export_log": lambda verifier: list(verifier.export_log()),
    "list_nodes": lambda verifier: verifier.list_nodes(),
    "get_node": lambda verifier: verifier.get_node("n"),
    "admit_node": lambda verifier: verifier.admit_node("n"),
    "quarantine_node": lambda verifier: verifier.quarantine_node("n", "why"),
    "retire_node": lambda verifier: verifier.retire_node("n", "why"),
    "label_node": lambda verifier: verifier.label_node("n", {"rack": "a"}),
    "get_evidence": lambda verifier: verifier.get_evidence("n"),
    "get_token": lambda verifier: verifier.get_token("n", b""),
    "list_goldens": lambda verifier: verifier.list_goldens(),
    "get_golden": lambda verifier: verifier.get_golden("d"),
    "activate_golden": lambda verifier: verifier.activate_golden(b"golden"),
    "foresee_golden": lambda verifier: verifier.foresee_golden(b"golden"),
    "retire_golden": lambda verifier: verifier.retire_golden("d"),
    "create_key": lambda verifier: verifier.create_key("k", "", "file"),
    "list_keys": lambda verifier: verifier.list_keys(),
    "get_key": lambda verifier: verifier.get_key("k"),
    "grant_key": lambda verifier: verifier.grant_key("k", "n", 1),
    "set_key_policy": lambda verifier: verifier.set_key_policy("k", 60),
    "revoke_key": lambda verifier: verifier.revoke_key("k", "", "why"),
    "rewrap_slots": lambda verifier: verifier.rewrap_slots(SLOTS, [KEY]),
    "register_model": lambda verifier: verifier.register_model(b"{}", again=False),
    "retire_model": lambda verifier: verifier.retire_model("d", "why"),
    "list_models": lambda verifier: verifier.list_models(),
    "get_model": lambda verifier: verifier.get_model("d"),
    "list_records": lambda verifier: verifier.list_records(RecordQuery(after=None, limit=10)),
    "get_record": lambda verifier: verifier.get_record(1),
}


class FakeChannel:
    """Answers calls from a table by method; a method that is not in it answers with an empty message or stream."""

    def __init__(self, **answers: Callable[[Any], object]) -> None:
        self._answers = answers
        self.deadlines: list[float] = []

    def unary_unary(self, method: str, *, response_deserializer: Callable[[bytes], Any], **_: object) -> object:
        return self._call(method, lambda: response_deserializer(b""))

    def stream_unary(self, method: str, *, response_deserializer: Callable[[bytes], Any], **_: object) -> object:
        return self._call(method, lambda: response_deserializer(b""))

    def unary_stream(self, method: str, **_: object) -> object:
        return self._call(method, lambda: iter(()))

    def stream_stream(self, method: str, **_: object) -> object:
        return self._call(method, lambda: iter(()))

    def _call(self, method: str, otherwise: Callable[[], object]) -> object:
        answer = self._answers.get(method.rpartition("/")[2])

        def call(request: object, timeout: float) -> object:
            self.deadlines.append(timeout)
            return answer(request) if answer else otherwise()

        return call


def a_verifier(**answers: Callable[[Any], object]) -> Verifier:
    return Verifier(cast("grpc.Channel", FakeChannel(**answers)))


def rewrapped(request: admin_pb2.RewrapSlotsRequest) -> admin_pb2.RewrapSlotsResponse:
    return admin_pb2.RewrapSlotsResponse(slots=request.slots)


def test_every_call_is_in_the_table() -> None:
    assert set(CALLS) == {name for name in (*vars(Verifier), *vars(Together)) if not name.startswith("_")}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_has_a_deadline(call: Callable[[Verifier], object]) -> None:
    channel = FakeChannel(RewrapSlots=rewrapped)
    call(Verifier(cast("grpc.Channel", channel)))
    assert channel.deadlines
    assert all(30 <= seconds <= 660 for seconds in channel.deadlines)


def test_a_short_page_is_not_the_last_one() -> None:
    def page(request: admin_pb2.ListNodesRequest) -> admin_pb2.ListNodesResponse:
        later = [node_id for node_id in ("n-a", "n-b", "n-c") if node_id > request.after]
        return admin_pb2.ListNodesResponse(nodes=[admin_pb2.Node(node_id=node_id) for node_id in later[:1]])

    nodes = a_verifier(ListNodes=page).list_nodes()
    assert [node.node_id for node in nodes] == ["n-a", "n-b", "n-c"]


def test_a_golden_is_put_together_from_its_parts() -> None:
    parts = [admin_pb2.Golden(name="rack-a", document=part) for part in (b"one", b"two")]
    golden = a_verifier(GetGolden=lambda _: iter(parts)).get_golden("d")
    assert (golden.name, golden.document) == ("rack-a", b"onetwo")


def test_a_golden_goes_in_parts() -> None:
    sent: list[bytes] = []

    def take(requests: Iterator[admin_pb2.ActivateGoldenRequest]) -> admin_pb2.Golden:
        sent.extend(request.document for request in requests)
        return admin_pb2.Golden()

    a_verifier(ActivateGolden=take).activate_golden(bytes(PART_SIZE + 1))
    assert list(map(len, sent)) == [PART_SIZE, 1]


def test_what_people_want_of_the_log_is_asked_for() -> None:
    asked: list[admin_pb2.ListRecordsRequest] = []

    def take(request: admin_pb2.ListRecordsRequest) -> Iterator[admin_pb2.AuditRecord]:
        asked.append(request)
        return iter(())

    verifier = a_verifier(ListRecords=take)
    verifier.list_records(RecordQuery(after=None, limit=10, subject="key/k", actor="person/ada", kind="key.granted"))
    verifier.list_records(RecordQuery(after=0, limit=10, closed=True))
    assert asked == [
        admin_pb2.ListRecordsRequest(newest=True, limit=10, subject="key/k", actor="person/ada", kind="key.granted"),
        admin_pb2.ListRecordsRequest(limit=10, closed=True),
    ]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([("../x", b"")], id="a file that evidence does not have"),
        pytest.param([("evidence.json", bytes(1 << 20))] * 2, id="a file that is too large"),
    ],
)
def test_evidence_that_no_verifier_sends_is_refused(parts: list[tuple[str, bytes]]) -> None:
    sent = [admin_pb2.EvidencePart(name=name, data=data) for name, data in parts]
    with pytest.raises(MalformedInput, match="does not belong to an evidence folder, or is too large"):
        a_verifier(GetEvidence=lambda _: iter(sent)).get_evidence("n")


def test_slots_come_back_as_their_document() -> None:
    assert a_verifier(RewrapSlots=rewrapped).rewrap_slots(SLOTS, [KEY]) == SLOTS


def test_a_verifier_of_the_first_release_is_to_be_updated() -> None:
    with pytest.raises(MalformedInput, match="nodeseal-verifier sent no slots") as caught:
        a_verifier().rewrap_slots(SLOTS, [KEY])
    assert caught.value.remedy == "update nodeseal-verifier"
