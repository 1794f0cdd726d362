"""Who may call what: one table, deny by default. A method that is not here is refused to everybody.

A second table says which methods widen trust or cannot be undone, so that the rules may want a proposal instead. A test
compares both with the descriptors of all services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodeseal.governance.changes import ChangeKind
from nodeseal.verifier.states import PEOPLE, Role

_NODES: Final = frozenset({Role.NODE})
_OPERATORS: Final = frozenset({Role.OPERATOR})
_RESTRICTING: Final = frozenset({Role.OPERATOR, Role.APPROVER})
"""May take trust away."""
_APPROVERS: Final = frozenset({Role.APPROVER})
"""May widen trust."""
_AUDITORS: Final = frozenset({Role.AUDITOR})
_EVERYBODY: Final = frozenset(Role)

ON_MEMORY: Final = frozenset(
    {
        "/nodeseal.v1.Nodes/QuarantineNode",
        "/nodeseal.v1.Nodes/RetireNode",
        "/nodeseal.v1.Keys/RevokeKey",
    }
)
"""Methods that people may call by what memory knows of them while the database cannot be read: they only restrict."""
ALLOWED: Final[Mapping[str, frozenset[Role]]] = {
    "/nodeseal.v1.Enrollment/Enroll": frozenset({Role.ANONYMOUS}),
    "/nodeseal.v1.Attestation/Attest": _NODES,
    "/nodeseal.v1.Attestation/Renew": _NODES,
    "/nodeseal.v1.KeyRelease/Release": _NODES,
    "/nodeseal.v1.KeyRelease/Return": _NODES,
    "/nodeseal.v1.Nodes/ListNodes": PEOPLE,
    "/nodeseal.v1.Nodes/GetNode": PEOPLE,
    "/nodeseal.v1.Nodes/AdmitNode": _APPROVERS,
    "/nodeseal.v1.Nodes/QuarantineNode": _RESTRICTING,
    "/nodeseal.v1.Nodes/RetireNode": _RESTRICTING,
    "/nodeseal.v1.Nodes/LabelNode": _APPROVERS,
    "/nodeseal.v1.Nodes/GetEvidence": _OPERATORS | _APPROVERS | _AUDITORS,
    "/nodeseal.v1.Nodes/GetToken": PEOPLE,
    "/nodeseal.v1.Goldens/ActivateGolden": _APPROVERS,
    "/nodeseal.v1.Goldens/ForeseeGolden": _RESTRICTING,
    "/nodeseal.v1.Goldens/RetireGolden": _RESTRICTING,
    "/nodeseal.v1.Goldens/ListGoldens": PEOPLE,
    "/nodeseal.v1.Goldens/GetGolden": PEOPLE,
    "/nodeseal.v1.Keys/CreateKey": _APPROVERS,
    "/nodeseal.v1.Keys/ListKeys": PEOPLE,
    "/nodeseal.v1.Keys/GetKey": PEOPLE,
    "/nodeseal.v1.Keys/GrantKey": _APPROVERS,
    "/nodeseal.v1.Keys/SetKeyPolicy": _APPROVERS,
    "/nodeseal.v1.Keys/RevokeKey": _RESTRICTING,
    "/nodeseal.v1.Keys/SuspendKey": _RESTRICTING,
    "/nodeseal.v1.Keys/ResumeKey": _APPROVERS,
    "/nodeseal.v1.Keys/RewrapSlots": _APPROVERS,
    "/nodeseal.v1.Models/RegisterModel": _APPROVERS,
    "/nodeseal.v1.Models/RetireModel": _RESTRICTING,
    "/nodeseal.v1.Models/ListModels": PEOPLE,
    "/nodeseal.v1.Models/GetModel": PEOPLE,
    "/nodeseal.v1.People/GetSelf": PEOPLE,
    "/nodeseal.v1.People/RenewCertificate": PEOPLE,
    "/nodeseal.v1.People/ListPeople": PEOPLE,
    "/nodeseal.v1.People/InvitePerson": _APPROVERS,
    "/nodeseal.v1.People/RemovePerson": _APPROVERS,
    "/nodeseal.v1.People/AddPersonKey": _APPROVERS,
    "/nodeseal.v1.People/RemovePersonKey": _APPROVERS,
    "/nodeseal.v1.People/SuspendPerson": _RESTRICTING,
    "/nodeseal.v1.People/ResumePerson": _APPROVERS,
    "/nodeseal.v1.Rules/GetRules": PEOPLE,
    "/nodeseal.v1.Proposals/DraftProposal": _RESTRICTING,
    "/nodeseal.v1.Proposals/MakeProposal": _RESTRICTING,
    "/nodeseal.v1.Proposals/ListProposals": PEOPLE,
    "/nodeseal.v1.Proposals/GetProposal": PEOPLE,
    "/nodeseal.v1.Proposals/GetAttachment": PEOPLE,
    "/nodeseal.v1.Proposals/ApproveProposal": _APPROVERS,
    "/nodeseal.v1.Proposals/RejectProposal": _APPROVERS,
    "/nodeseal.v1.Proposals/WithdrawProposal": _RESTRICTING,
    "/nodeseal.v1.Audit/ListRecords": _AUDITORS,
    "/nodeseal.v1.Audit/GetRecord": _AUDITORS,
    "/nodeseal.v1.Log/GetCheckpoint": _AUDITORS,
    "/nodeseal.v1.Log/ProveRecord": _AUDITORS,
    "/nodeseal.v1.Log/ProveConsistency": _AUDITORS,
    "/nodeseal.v1.Log/ExportLog": _AUDITORS,
    # Load balancers and supervisors ask for health; it says nothing about nodes, keys or people.
    "/grpc.health.v1.Health/Check": _EVERYBODY,
    "/grpc.health.v1.Health/List": _EVERYBODY,
    "/grpc.health.v1.Health/Watch": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": PEOPLE,
}
WIDENING: Final[Mapping[str, ChangeKind]] = {
    "/nodeseal.v1.Nodes/AdmitNode": ChangeKind.NODE_ADMIT,
    "/nodeseal.v1.Nodes/LabelNode": ChangeKind.NODE_LABEL,
    "/nodeseal.v1.Goldens/ActivateGolden": ChangeKind.GOLDEN_ACTIVATE,
    "/nodeseal.v1.Keys/CreateKey": ChangeKind.KEY_CREATE,
    "/nodeseal.v1.Keys/GrantKey": ChangeKind.KEY_GRANT,
    "/nodeseal.v1.Keys/SetKeyPolicy": ChangeKind.KEY_POLICY,
    "/nodeseal.v1.Keys/RevokeKey": ChangeKind.KEY_REVOKE,
    "/nodeseal.v1.Keys/ResumeKey": ChangeKind.KEY_RESUME,
    "/nodeseal.v1.Keys/RewrapSlots": ChangeKind.MODEL_RESLOT,
    "/nodeseal.v1.Models/RegisterModel": ChangeKind.MODEL_REGISTER,
    "/nodeseal.v1.People/InvitePerson": ChangeKind.PERSON_INVITE,
    "/nodeseal.v1.People/RemovePerson": ChangeKind.PERSON_REMOVE,
    "/nodeseal.v1.People/AddPersonKey": ChangeKind.PERSON_KEY_ADD,
    "/nodeseal.v1.People/RemovePersonKey": ChangeKind.PERSON_KEY_REMOVE,
    "/nodeseal.v1.People/ResumePerson": ChangeKind.PERSON_RESUME,
}
"""Methods that widen trust or cannot be undone, with the kind of change that rules may want a proposal for.

Taking a key from one node is RevokeKey, too, and stays with one person."""
