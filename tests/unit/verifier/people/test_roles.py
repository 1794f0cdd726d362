"""The table of roles against the descriptors of every service that the verifier serves."""

from __future__ import annotations

from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from nodeseal.governance.changes import ALWAYS, ChangeKind
from nodeseal.v1 import admin_pb2, attestation_pb2, enrollment_pb2, governance_pb2, key_release_pb2, log_pb2, people_pb2
from nodeseal.verifier.people.roles import ALLOWED, WIDENING
from nodeseal.verifier.states import PEOPLE, Role

FILES = (
    admin_pb2,
    attestation_pb2,
    enrollment_pb2,
    governance_pb2,
    key_release_pb2,
    log_pb2,
    people_pb2,
    health_pb2,
    reflection_pb2,
)
ONE_PERSON = {
    "QuarantineNode",
    "RetireNode",
    "RetireGolden",
    "RetireModel",
    "SuspendKey",
    "SuspendPerson",
    "ForeseeGolden",
    "GetEvidence",
    "DraftProposal",
    "MakeProposal",
    "ApproveProposal",
    "RejectProposal",
    "WithdrawProposal",
}
"""What is not for every role, and stays with one person: it restricts, shows, or is how people decide together."""


def methods(file: FileDescriptor) -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_the_table_names_every_method_of_every_service_and_no_other() -> None:
    assert set(ALLOWED) == set().union(*(methods(file.DESCRIPTOR) for file in FILES))


def test_no_method_is_left_to_nobody() -> None:
    assert all(ALLOWED.values())


def test_only_nodes_attest_and_get_keys() -> None:
    for method, roles in ALLOWED.items():
        if "Attestation/" in method or "KeyRelease/" in method:
            assert roles == {Role.NODE}


def test_anonymous_callers_may_enrol_and_ask_for_health_only() -> None:
    open_to_all = {method for method, roles in ALLOWED.items() if Role.ANONYMOUS in roles}
    assert all("Enrollment/" in method or "grpc.health" in method for method in open_to_all)


def test_what_widens_trust_takes_an_approver() -> None:
    widening = "AdmitNode", "LabelNode", "ActivateGolden", "CreateKey", "GrantKey", "SetKeyPolicy", "RegisterModel"
    for name in widening:
        (roles,) = (roles for method, roles in ALLOWED.items() if method.endswith(f"/{name}"))
        assert roles == {Role.APPROVER}


def test_whatever_widens_trust_or_cannot_be_undone_has_a_kind_of_change() -> None:
    """A method that not every role may call either needs a mandate, or is listed above with its reason."""
    for method, roles in ALLOWED.items():
        decides = roles and roles <= {Role.OPERATOR, Role.APPROVER, Role.AUDITOR} and roles != {Role.AUDITOR}
        if decides:
            assert (method in WIDENING) != (method.rpartition("/")[2] in ONE_PERSON), method
    assert set(WIDENING) <= set(ALLOWED)


def test_every_kind_of_change_but_rules_has_one_method() -> None:
    assert sorted(WIDENING.values(), key=str) == sorted(set(ChangeKind) - {ChangeKind.RULES_SET}, key=str)
    assert set(ChangeKind) >= ALWAYS


def test_only_auditors_read_the_audit_log() -> None:
    for method in ("ListRecords", "GetRecord"):
        assert ALLOWED[f"/nodeseal.v1.Audit/{method}"] == {Role.AUDITOR}
    assert Role.NODE not in PEOPLE
