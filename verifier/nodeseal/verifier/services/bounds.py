"""How many calls of each method run at once, of one caller and of all: one table, and no call without a row.

A caller is a person, or a node at one address, or, where nobody has shown a certificate, an address. So a thief of a
node's TLS key uses up a share of its own. A test compares the table with the descriptors of all services, and
docs/limits.md with the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import unquote

from nodeseal.errors import OutOfOrder

REQUEST_SECONDS: Final = 5.0
"""Within which the first message of a call must arrive; streams have a deadline of their own for the others."""
LINES_PER_MINUTE: Final = 60
"""Lines in the log about refused calls of one caller."""
_PREFIX: Final = 64
"""Bits of an IPv6 address that name a subscriber: one machine has all addresses of such a network."""


class CallBound(NamedTuple):
    """The bound on one method.

    Attributes:
        each: calls at once of one caller.
        at_once: calls at once of all; beyond that, a newcomer takes the place of the oldest of whoever has most.
        renews: whether a caller's newest call ends its oldest, rather than being refused.
    """

    each: int
    at_once: int
    renews: bool = False


_PERSON: Final = CallBound(64, 1024)
_TRANSFER: Final = CallBound(4, 64)
"""Of what is long: large documents, whole logs, streams."""
_MANY: Final = 100_000
"""More than nodes that a verifier has; file descriptors end before."""

BOUNDS: Final[Mapping[str, CallBound]] = {
    # Calls that say nothing; what speaks is bounded by `enrolment.concurrent` (services/enrolment.py).
    "/nodeseal.v1.Enrollment/Enroll": CallBound(20_000, 20_000),
    "/nodeseal.v1.Attestation/Attest": CallBound(4, _MANY, renews=True),
    "/nodeseal.v1.Attestation/Renew": CallBound(2, _MANY, renews=True),
    "/nodeseal.v1.KeyRelease/Release": CallBound(16, 4096),
    "/nodeseal.v1.KeyRelease/Return": CallBound(16, 4096),
    "/nodeseal.v1.Nodes/ListNodes": _PERSON,
    "/nodeseal.v1.Nodes/GetNode": _PERSON,
    "/nodeseal.v1.Nodes/AdmitNode": _PERSON,
    "/nodeseal.v1.Nodes/QuarantineNode": _PERSON,
    "/nodeseal.v1.Nodes/RetireNode": _PERSON,
    "/nodeseal.v1.Nodes/LabelNode": _PERSON,
    "/nodeseal.v1.Nodes/GetEvidence": _TRANSFER,
    "/nodeseal.v1.Nodes/GetToken": _PERSON,
    "/nodeseal.v1.Goldens/ActivateGolden": _TRANSFER,
    "/nodeseal.v1.Goldens/ForeseeGolden": _TRANSFER,
    "/nodeseal.v1.Goldens/RetireGolden": _PERSON,
    "/nodeseal.v1.Goldens/ListGoldens": _PERSON,
    "/nodeseal.v1.Goldens/GetGolden": _TRANSFER,
    "/nodeseal.v1.Keys/CreateKey": _PERSON,
    "/nodeseal.v1.Keys/ListKeys": _PERSON,
    "/nodeseal.v1.Keys/GetKey": _PERSON,
    "/nodeseal.v1.Keys/GrantKey": _PERSON,
    "/nodeseal.v1.Keys/SetKeyPolicy": _PERSON,
    "/nodeseal.v1.Keys/RevokeKey": _PERSON,
    "/nodeseal.v1.Keys/RewrapSlots": _PERSON,
    "/nodeseal.v1.Keys/SuspendKey": _PERSON,
    "/nodeseal.v1.Keys/ResumeKey": _PERSON,
    "/nodeseal.v1.Models/RegisterModel": _PERSON,
    "/nodeseal.v1.Models/RetireModel": _PERSON,
    "/nodeseal.v1.Models/ListModels": _PERSON,
    "/nodeseal.v1.Models/GetModel": _PERSON,
    "/nodeseal.v1.Audit/ListRecords": _TRANSFER,
    "/nodeseal.v1.Audit/GetRecord": _PERSON,
    "/nodeseal.v1.Log/GetCheckpoint": _PERSON,
    "/nodeseal.v1.Log/ProveRecord": _PERSON,
    "/nodeseal.v1.Log/ProveConsistency": _PERSON,
    "/nodeseal.v1.Log/ExportLog": _TRANSFER,
    "/nodeseal.v1.People/GetSelf": _PERSON,
    "/nodeseal.v1.People/RenewCertificate": _PERSON,
    "/nodeseal.v1.People/ListPeople": _PERSON,
    "/nodeseal.v1.People/InvitePerson": _PERSON,
    "/nodeseal.v1.People/RemovePerson": _PERSON,
    "/nodeseal.v1.People/AddPersonKey": _PERSON,
    "/nodeseal.v1.People/RemovePersonKey": _PERSON,
    "/nodeseal.v1.People/SuspendPerson": _PERSON,
    "/nodeseal.v1.People/ResumePerson": _PERSON,
    "/nodeseal.v1.Rules/GetRules": _PERSON,
    "/nodeseal.v1.Proposals/DraftProposal": _PERSON,
    "/nodeseal.v1.Proposals/MakeProposal": _TRANSFER,
    "/nodeseal.v1.Proposals/ListProposals": _PERSON,
    "/nodeseal.v1.Proposals/GetProposal": _PERSON,
    "/nodeseal.v1.Proposals/GetAttachment": _TRANSFER,
    "/nodeseal.v1.Proposals/ApproveProposal": _PERSON,
    "/nodeseal.v1.Proposals/RejectProposal": _PERSON,
    "/nodeseal.v1.Proposals/WithdrawProposal": _PERSON,
    "/grpc.health.v1.Health/Check": CallBound(16, 256),
    "/grpc.health.v1.Health/List": CallBound(16, 256),
    "/grpc.health.v1.Health/Watch": CallBound(4, 64),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _TRANSFER,
}


@asynccontextmanager
async def arriving(what: str) -> AsyncIterator[None]:
    """Give a peer little time for what the block waits for.

    Raises:
        OutOfOrder: it does not come in time.
    """
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            yield
    except TimeoutError as error:
        raise OutOfOrder(f"no {what} within {REQUEST_SECONDS:.0f} seconds") from error


def address_of(peer: str) -> str:
    """Return whose share a connection uses: its IPv4 address, or the /64 network of its IPv6 address.

    Args:
        peer: in gRPC's spelling, such as ``ipv4:192.0.2.1:5000`` or ``ipv6:%5B2001:db8::1%5D:5000``. All peers that are
            spelled otherwise share one name.
    """
    text = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((address, _PREFIX), strict=False))
    return str(address)
