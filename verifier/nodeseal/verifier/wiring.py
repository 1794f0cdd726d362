"""Wires everything together and serves until SIGTERM: the only place that knows all parts.

Two gRPC servers share one fleet: ``listen_enrol`` shows the verifier's certificate and asks for none, ``listen`` asks
for one. Both go through the same gate and the same table of roles.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import Unavailable
from nodeseal.files import read_file, read_private
from nodeseal.v1 import admin_pb2_grpc, attestation_pb2_grpc, enrollment_pb2_grpc, key_release_pb2_grpc
from nodeseal.verifier.clock import SYSTEM, Clock
from nodeseal.verifier.config import Config
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.enrolment.endorsement import enrolment_policy
from nodeseal.verifier.enrolment.enroller import Enroller
from nodeseal.verifier.fleet.admin import NodeAdmin
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.keys.keystore import KeyStore
from nodeseal.verifier.keys.stores import open_key_stores
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.people.callers import Callers
from nodeseal.verifier.people.roles import ALLOWED
from nodeseal.verifier.release.releases import Releases
from nodeseal.verifier.release.rotation import Rotation
from nodeseal.verifier.results.exports import Exports
from nodeseal.verifier.results.tokens import EarSigner, Tokens
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.services.admin import AuditService, GoldensService, KeysService, ModelsService, NodesService
from nodeseal.verifier.services.attestation import AttestationService
from nodeseal.verifier.services.enrollment import EnrollmentService
from nodeseal.verifier.services.interceptor import Gate
from nodeseal.verifier.services.key_release import KeyReleaseService
from nodeseal.verifier.store.database import Store, open_engine
from nodeseal.verifier.store.migrate import check_schema
from nodeseal.verifier.trust.goldens import Goldens, active_goldens
from nodeseal.verifier.trust.keys import ModelKeys
from nodeseal.verifier.trust.models import Models

GRACE_SECONDS: Final = 5.0
_log: Final = structlog.get_logger()
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
    # What every connection keeps: room for a sealed TLS record (16 KiB if left out), and counts that nobody asks for.
    ("grpc.tsi.max_frame_size", 1024),
    ("grpc.enable_channelz", 0),
)
_MAIN: Final = (*_COMMON, ("grpc.max_receive_message_length", _MAX_REQUEST), ("grpc.max_concurrent_streams", 64))
_ENROL: Final = (
    *_COMMON,
    ("grpc.max_receive_message_length", _MAX_ENROLMENT),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_connection_age_ms", 600_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running verifier listens, with the ports it really got.

    Attributes:
        listen: for nodes and people.
        listen_enrol: for enrolment.
    """

    listen: str
    listen_enrol: str


@asynccontextmanager
async def running(config: Config, clock: Clock = SYSTEM, keys: KeyStore | None = None) -> AsyncIterator[Addresses]:
    """Run a verifier for as long as the context lasts; then tell streams, flush, and close the store.

    Args:
        config: its settings.
        clock: what tells it the time.
        keys: where private model keys are; None: where the settings say.

    Raises:
        MalformedInput: a file that the configuration names does not hold what it should.
        Unavailable: the database has another schema or cannot be read, or a port is taken.
    """
    keys = keys or open_key_stores(config)
    engine = open_engine(config.database)
    check_schema(engine)
    store = Store(engine)
    try:
        fleet = Fleet(store, clock, config.attestation)
        await fleet.load(await active_goldens(store))
        async with _serving(config, fleet, keys) as addresses, asyncio.TaskGroup() as group:
            keepers = [group.create_task(fleet.keep_sweeping()), group.create_task(fleet.keep_flushing())]
            try:
                yield addresses
            finally:
                for keeper in keepers:
                    keeper.cancel()
        await fleet.settle()
        await fleet.flush()
    finally:
        store.close()


async def serve(config: Config, keys: KeyStore) -> None:
    """Serve until SIGTERM or SIGINT; errors as :func:`running`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config, keys=keys) as addresses:
        _log.info("ready", listen=addresses.listen, listen_enrol=addresses.listen_enrol)
        await stop.wait()
        _log.info("stopping")
    _log.info("stopped")


@asynccontextmanager
async def _serving(config: Config, fleet: Fleet, keys: KeyStore) -> AsyncIterator[Addresses]:
    authority = CertificateAuthority.load(
        read_file(config.tls.ca, "tls.ca"), read_private(config.tls.ca_key, "tls.ca_key")
    )
    lifetime = timedelta(hours=config.tls.node_hours)
    certificates = Certificates(fleet, authority, config.trust_domain, lifetime)
    gate = Gate(Callers(fleet, config.trust_domain, certificates))
    main, enrol = aio.server(interceptors=[gate], options=_MAIN), aio.server(interceptors=[gate], options=_ENROL)
    ready = health.aio.HealthServicer()
    _add_main_services(main, config, fleet, certificates, keys)
    _add_enrolment(enrol, config, fleet, certificates)
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
        _tell_streams(fleet)
        await asyncio.gather(main.stop(GRACE_SECONDS), enrol.stop(GRACE_SECONDS))


def _add_main_services(
    server: aio.Server, config: Config, fleet: Fleet, certificates: Certificates, keys: KeyStore
) -> None:
    rounds = Rounds(fleet)
    releases = Releases(fleet, rounds, keys, RateLimit(config.releases_per_minute, "releases"))
    release_service = KeyReleaseService(releases, rounds)
    attestation_pb2_grpc.add_AttestationServicer_to_server(AttestationService(fleet, rounds, certificates), server)
    key_release_pb2_grpc.add_KeyReleaseServicer_to_server(release_service, server)
    tokens = Tokens(fleet, EarSigner(read_private(config.ear_key, "keys.ear")), config.trust_domain)
    nodes_service = NodesService(fleet, NodeAdmin(fleet), Exports(fleet), tokens)
    admin_pb2_grpc.add_NodesServicer_to_server(nodes_service, server)
    admin_pb2_grpc.add_GoldensServicer_to_server(GoldensService(Goldens(fleet)), server)
    admin_pb2_grpc.add_KeysServicer_to_server(KeysService(ModelKeys(fleet, keys), Rotation(fleet, keys)), server)
    admin_pb2_grpc.add_ModelsServicer_to_server(ModelsService(Models(fleet)), server)
    admin_pb2_grpc.add_AuditServicer_to_server(AuditService(fleet.store), server)
    services = [name for name in _names() if name.startswith("nodeseal.") and "Enrollment" not in name]
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME, health.SERVICE_NAME], server)


def _add_enrolment(server: aio.Server, config: Config, fleet: Fleet, certificates: Certificates) -> None:
    settings = config.enrolment
    authorities = {str(path): read_file(path, "enrolment.ek_roots") for path in sorted(settings.ek_roots.iterdir())}
    policy = enrolment_policy(authorities, settings.ek_allow)
    enroller = Enroller(fleet, certificates, policy, RateLimit(settings.per_minute, "enrolments"))
    enrollment_pb2_grpc.add_EnrollmentServicer_to_server(EnrollmentService(enroller, settings), server)


def _credentials(config: Config, *, mutual: bool) -> grpc.ServerCredentials:
    pair = (read_private(config.tls.key, "tls.key"), read_file(config.tls.certificate, "tls.certificate"))
    roots = read_file(config.tls.ca, "tls.ca") if mutual else None
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=mutual)


def _bind(server: aio.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address}", remedy="is another verifier running there?") from error
    return f"{address.rpartition(':')[0]}:{port}"


def _tell_streams(fleet: Fleet) -> None:
    for node in fleet:
        if node.stream is not None:
            node.stream.close(Unavailable("the verifier is stopping", remedy="connect again"))


def _names() -> tuple[str, ...]:
    return tuple(sorted({method.split("/")[1] for method in ALLOWED}))
