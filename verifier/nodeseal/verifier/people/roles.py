"""Who may call what: one table, deny by default. A method that is not here is refused to everybody.

A test compares the table with the descriptors of all services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
    {"/nodeseal.v1.Nodes/QuarantineNode", "/nodeseal.v1.Nodes/RetireNode", "/nodeseal.v1.Keys/RevokeKey"}
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
    "/nodeseal.v1.Keys/RewrapSlots": _APPROVERS,
    "/nodeseal.v1.Models/RegisterModel": _APPROVERS,
    "/nodeseal.v1.Models/RetireModel": _RESTRICTING,
    "/nodeseal.v1.Models/ListModels": PEOPLE,
    "/nodeseal.v1.Models/GetModel": PEOPLE,
    "/nodeseal.v1.People/GetSelf": PEOPLE,
    "/nodeseal.v1.People/RenewCertificate": PEOPLE,
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
