"""The two gRPC servers: options, credentials, ports, start and end.

``listen_enrol`` shows the verifier's certificate and asks for none, ``listen`` asks for one. Both go through the same
gate and the same table of roles, and both answer questions about health. ``listen`` also describes its services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nodeseal.errors import Unavailable
from nodeseal.files import read_file
from nodeseal.v1 import (
    admin_pb2_grpc,
    attestation_pb2_grpc,
    enrollment_pb2_grpc,
    governance_pb2_grpc,
    key_release_pb2_grpc,
    log_pb2_grpc,
    people_pb2_grpc,
)
from nodeseal.verifier.config import Config
from nodeseal.verifier.people.roles import ALLOWED
from nodeseal.verifier.services.credentials import ServerFiles
from nodeseal.verifier.services.interceptor import Gate

_GRACE_SECONDS: Final = 5.0
"""For calls that run when the servers stop."""
_MAX_REQUEST: Final = 1024 * 1024
_MAX_ENROLMENT: Final = 256 * 1024
_COMMON: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),
    # Only bit 0, identity: a compressed message is refused before anything expands it.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # Memory that every connection keeps: a buffer for a sealed TLS record (16 KiB by default), and channelz's counts.
    # With 1 KiB, one new connection in ten broke with TSI_DATA_CORRUPTED at its first answer of 3 KiB (gRPC 1.85): what
    # TLS sends after the handshake, session tickets with the client's certificates, is larger than such a record.
    ("grpc.tsi.max_frame_size", 4096),
    ("grpc.enable_channelz", 0),
)
_MAIN: Final = (*_COMMON, ("grpc.max_receive_message_length", _MAX_REQUEST), ("grpc.max_concurrent_streams", 64))
_ENROL: Final = (
    *_COMMON,
    ("grpc.max_receive_message_length", _MAX_ENROLMENT),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 120_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the servers serve: ``enrolment`` on its own port, all others on the main one."""

    attestation: attestation_pb2_grpc.AttestationServicer
    key_release: key_release_pb2_grpc.KeyReleaseServicer
    nodes: admin_pb2_grpc.NodesServicer
    goldens: admin_pb2_grpc.GoldensServicer
    keys: admin_pb2_grpc.KeysServicer
    models: admin_pb2_grpc.ModelsServicer
    audit: admin_pb2_grpc.AuditServicer
    people: people_pb2_grpc.PeopleServicer
    log: log_pb2_grpc.LogServicer
    rules: governance_pb2_grpc.RulesServicer
    proposals: governance_pb2_grpc.ProposalsServicer
    enrolment: enrollment_pb2_grpc.EnrollmentServicer


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Addresses on which a running verifier listens, with the ports that it really got.

    Attributes:
        listen: for nodes and people.
        listen_enrol: for enrolment.
        rules: the rules in force when it began to serve, in one sentence.
    """

    listen: str
    listen_enrol: str
    rules: str = ""


@asynccontextmanager
async def serving(
    config: Config, gate: Gate, services: Services, stopping: Callable[[], None]
) -> AsyncIterator[Addresses]:
    """Serve while the block runs.

    Args:
        config: addresses and the files of TLS.
        gate: authorises every call.
        services: what to serve.
        stopping: called before running calls get their time to end.

    Raises:
        MalformedInput: a file of TLS cannot be read.
        Unavailable: a port is taken.
    """
    main, enrol = aio.server(interceptors=[gate], options=_MAIN), aio.server(interceptors=[gate], options=_ENROL)
    ready = health.aio.HealthServicer()
    _add_main_services(main, services)
    enrollment_pb2_grpc.add_EnrollmentServicer_to_server(services.enrolment, enrol)
    for server in (main, enrol):
        health_pb2_grpc.add_HealthServicer_to_server(ready, server)
    addresses = Addresses(
        listen=_bind(main, config.listen, _credentials(config, mutual=True)),
        listen_enrol=_bind(enrol, config.listen_enrol, _credentials(config, mutual=False)),
    )
    await asyncio.gather(main.start(), enrol.start())
    try:
        yield addresses
    finally:
        await ready.enter_graceful_shutdown()
        stopping()
        await asyncio.gather(main.stop(_GRACE_SECONDS), enrol.stop(_GRACE_SECONDS))


def _add_main_services(server: aio.Server, services: Services) -> None:
    attestation_pb2_grpc.add_AttestationServicer_to_server(services.attestation, server)
    key_release_pb2_grpc.add_KeyReleaseServicer_to_server(services.key_release, server)
    admin_pb2_grpc.add_NodesServicer_to_server(services.nodes, server)
    admin_pb2_grpc.add_GoldensServicer_to_server(services.goldens, server)
    admin_pb2_grpc.add_KeysServicer_to_server(services.keys, server)
    admin_pb2_grpc.add_ModelsServicer_to_server(services.models, server)
    admin_pb2_grpc.add_AuditServicer_to_server(services.audit, server)
    people_pb2_grpc.add_PeopleServicer_to_server(services.people, server)
    log_pb2_grpc.add_LogServicer_to_server(services.log, server)
    governance_pb2_grpc.add_RulesServicer_to_server(services.rules, server)
    governance_pb2_grpc.add_ProposalsServicer_to_server(services.proposals, server)
    ours = sorted({method.split("/")[1] for method in ALLOWED if method.startswith("/nodeseal.")})
    described = [name for name in ours if "Enrollment" not in name]
    reflection.enable_server_reflection([*described, reflection.SERVICE_NAME, health.SERVICE_NAME], server)


def _credentials(config: Config, *, mutual: bool) -> grpc.ServerCredentials:
    return ServerFiles(config.tls, read_file(config.tls.ca, "tls.ca") if mutual else None).credentials()


def _bind(server: aio.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address}", remedy="is another verifier running there?") from error
    return f"{address.rpartition(':')[0]}:{port}"
