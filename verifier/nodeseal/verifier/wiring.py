"""Builds all parts of a verifier and runs it until SIGTERM: the only place that knows all of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, NamedTuple

import structlog

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import Unavailable
from nodeseal.files import read_file, read_private
from nodeseal.service_manager import ServiceManager
from nodeseal.verifier.checks.start import keep_warning
from nodeseal.verifier.clock import SYSTEM, Clock
from nodeseal.verifier.config import Config, EnrolmentSettings
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.enrolment.endorsement import EnrolmentPolicy
from nodeseal.verifier.enrolment.enroller import Enroller
from nodeseal.verifier.enrolment.renewal import Renewals
from nodeseal.verifier.enrolment.vendors import Vendors, load_vendors, makers
from nodeseal.verifier.fleet.admin import NodeAdmin
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.keys.keystore import KeyStore
from nodeseal.verifier.keys.stores import open_key_stores
from nodeseal.verifier.ledger.journal import Journal
from nodeseal.verifier.ledger.ledger import Ledger
from nodeseal.verifier.ledger.log import load_mac_key
from nodeseal.verifier.ledger.tree.log_tree import LogTree, load_log_key, read_head
from nodeseal.verifier.limits import RateLimit
from nodeseal.verifier.people.callers import Callers
from nodeseal.verifier.people.effects import Effects
from nodeseal.verifier.people.execution import Executors
from nodeseal.verifier.people.membership import Membership
from nodeseal.verifier.people.proposals import Proposals
from nodeseal.verifier.people.renewals import PersonCertificates
from nodeseal.verifier.people.rulebook import Rulebook
from nodeseal.verifier.people.ssh_keys import SshKeys
from nodeseal.verifier.people.suspensions import Suspensions
from nodeseal.verifier.release.releases import Releases
from nodeseal.verifier.release.rotation import Rotation
from nodeseal.verifier.results.exports import Exports
from nodeseal.verifier.results.tokens import EarSigner, Tokens
from nodeseal.verifier.rounds.rounds import Rounds
from nodeseal.verifier.services.admin import AuditService, GoldensService, KeysService, ModelsService, NodesService
from nodeseal.verifier.services.attestation import AttestationService
from nodeseal.verifier.services.enrolment import EnrolmentService
from nodeseal.verifier.services.governance import ProposalsService, RulesService
from nodeseal.verifier.services.interceptor import Gate
from nodeseal.verifier.services.key_release import KeyReleaseService
from nodeseal.verifier.services.log import LogService
from nodeseal.verifier.services.people import PeopleParts, PeopleService
from nodeseal.verifier.services.server import Addresses, Services, serving
from nodeseal.verifier.store.database import Store, opened_engine
from nodeseal.verifier.trust.goldens import Goldens, active_goldens
from nodeseal.verifier.trust.keys import ModelKeys
from nodeseal.verifier.trust.models import Models
from nodeseal.verifier.trust.sanctions import Place

_NOBODY: Final = ServiceManager({})
_log: Final = structlog.get_logger()


class _Parts(NamedTuple):
    """What a verifier is made of, beside its settings and its fleet."""

    keys: KeyStore
    vendors: Vendors
    executors: Executors
    proposals: Proposals


@asynccontextmanager
async def running(
    config: Config,
    clock: Clock = SYSTEM,
    keys: KeyStore | None = None,
    manager: ServiceManager = _NOBODY,
    vendors: Vendors | None = None,
) -> AsyncIterator[Addresses]:
    """Run a verifier while the block runs; then end its streams, write what is pending, and close the store.

    Its setup was proved before (:func:`nodeseal.verifier.checks.start.proved`).

    Args:
        config: its settings.
        clock: its source of time.
        keys: the stores of private model keys; None: those that the settings name.
        manager: hears that the verifier is alive.
        vendors: certificates of TPM vendors; None: those of the folder that the settings name.

    Raises:
        MalformedInput: a file that the settings name cannot be read or does not parse.
        Unavailable: the database cannot be read, or a port is taken.
    """
    keys = keys or open_key_stores(config)
    vendors = vendors or load_vendors(config.enrolment.ek_roots)
    async with _ledger(config, clock) as ledger:
        fleet = Fleet(ledger, config.attestation)
        executors = _executors(config, fleet, keys)
        await fleet.load(await active_goldens(ledger.store))
        await _resume_tree(ledger)
        await fleet.sweep_retired()
        await fleet.sweep()  # what ended while nobody served has ended before anybody is served
        place = Place(config.trust_domain, await _origin(config, ledger))
        proposals = Proposals(fleet, place, executors)
        parts = _Parts(keys, vendors, executors, proposals)
        async with _serving(config, fleet, parts) as addresses, asyncio.TaskGroup() as group:
            chores = (*_chores(fleet, manager), keep_warning(config, clock), proposals.keep_settling())
            keepers = [group.create_task(work) for work in chores]
            try:
                yield addresses
            finally:
                for keeper in keepers:
                    keeper.cancel()
        await ledger.settle()
        await fleet.flush()


@asynccontextmanager
async def _ledger(config: Config, clock: Clock) -> AsyncIterator[Ledger]:
    """Hold the ledger of a database while the block runs."""
    with opened_engine(config.database) as engine, closing(Store(engine)) as store:
        tree = LogTree(load_log_key(config.log_key), config.trust_domain, config.checkpoint)
        ledger = Ledger(store, load_mac_key(config.acts_key), Journal(config.journal), clock, tree)
        try:
            yield ledger
        finally:
            await ledger.close()


async def _origin(config: Config, ledger: Ledger) -> str:
    """Return the name of the log, which proposals are bound to."""
    public = load_log_key(config.log_key).public
    return (await ledger.store.read(lambda connection: read_head(connection, public))).signed.checkpoint.origin


async def _resume_tree(ledger: Ledger) -> None:
    """Go on with the tree; a database that cannot be written now keeps nobody from taking trust away.

    Raises:
        MalformedInput: the database is not the one whose tree was signed.
    """
    try:
        await ledger.sequence()
    except Unavailable as error:
        _log.error("acts could not be numbered yet", error=str(error))


def _chores(fleet: Fleet, manager: ServiceManager) -> tuple[Coroutine[Any, Any, None], ...]:
    """Return what goes on as long as the verifier serves."""
    ledger = fleet.ledger
    return fleet.keep_sweeping(manager.alive), fleet.keep_flushing(), ledger.keep_recording(), ledger.keep_sequencing()


async def serve(config: Config, keys: KeyStore, vendors: Vendors) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        MalformedInput: a file that the settings name cannot be read or does not parse.
        Unavailable: the database cannot be read, or a port is taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    manager = ServiceManager()
    async with running(config, keys=keys, manager=manager, vendors=vendors) as addresses:
        _log.info("ready", listen=addresses.listen, listen_enrol=addresses.listen_enrol, rules=addresses.rules)
        manager.status(f"serves nodes and people on {addresses.listen}, enrolment on {addresses.listen_enrol}")
        manager.ready()
        await stop.wait()
        manager.stopping()
        _log.info("stopping")
    _log.info("stopped")


@asynccontextmanager
async def _serving(config: Config, fleet: Fleet, parts: _Parts) -> AsyncIterator[Addresses]:
    executors, keys = parts.executors, parts.keys
    authority = _authority(config)
    lifetime = timedelta(hours=config.tls.node_hours)
    certificates = Certificates(fleet, authority, config.trust_domain, lifetime)
    gate = Gate(Callers(fleet, config.trust_domain, certificates))
    people = PeopleService(PersonCertificates(fleet, authority, config.trust_domain), _people_parts(fleet, executors))
    with closing(_enroller(config.enrolment, parts.vendors, fleet, certificates)) as enroller:
        enrolment = EnrolmentService(enroller, config.enrolment)
        deciding = ProposalsService(parts.proposals, Effects(fleet, executors.goldens), executors.rulebook)
        services = _services(config, fleet, executors, certificates, people, deciding, keys, enrolment)
        async with serving(config, gate, services, stopping=lambda: _tell_streams(fleet)) as addresses:
            yield replace(addresses, rules=fleet.memory.rules.words)


def _services(  # noqa: PLR0913, PLR0917 - one for each thing that is wired
    config: Config,
    fleet: Fleet,
    executors: Executors,
    certificates: Certificates,
    people: PeopleService,
    proposals: ProposalsService,
    keys: KeyStore,
    enrolment: EnrolmentService,
) -> Services:
    rounds = Rounds(fleet)
    releases = Releases(fleet, rounds, keys, RateLimit(config.releases_per_minute, "releases"))
    tokens = Tokens(fleet, EarSigner(read_private(config.ear_key, "keys.ear")), config.trust_domain)
    return Services(
        attestation=AttestationService(fleet, rounds, Renewals(rounds, certificates)),
        key_release=KeyReleaseService(releases, rounds),
        nodes=NodesService(fleet, executors.nodes, Exports(fleet), tokens),
        goldens=GoldensService(executors.goldens),
        keys=KeysService(executors.keys, executors.rotation, executors.suspensions),
        models=ModelsService(executors.models),
        audit=AuditService(fleet.ledger),
        log=LogService(fleet.ledger, load_log_key(config.log_key).public),
        people=people,
        rules=RulesService(executors.rulebook),
        proposals=proposals,
        enrolment=enrolment,
    )


def _authority(config: Config) -> CertificateAuthority:
    return CertificateAuthority.load(read_file(config.tls.ca, "tls.ca"), read_private(config.tls.ca_key, "tls.ca_key"))


def _executors(config: Config, fleet: Fleet, keys: KeyStore) -> Executors:
    return Executors(
        nodes=NodeAdmin(fleet),
        goldens=Goldens(fleet),
        keys=ModelKeys(fleet, keys),
        models=Models(fleet),
        rotation=Rotation(fleet, keys),
        suspensions=Suspensions(fleet),
        ssh_keys=SshKeys(fleet),
        rulebook=Rulebook(fleet),
        membership=Membership(fleet, _authority(config), config.trust_domain),
    )


def _people_parts(fleet: Fleet, executors: Executors) -> PeopleParts:
    return PeopleParts(
        fleet=fleet,
        rulebook=executors.rulebook,
        ssh_keys=executors.ssh_keys,
        suspensions=executors.suspensions,
        membership=executors.membership,
    )


def _enroller(settings: EnrolmentSettings, vendors: Vendors, fleet: Fleet, certificates: Certificates) -> Enroller:
    counts = {"roots": len(vendors.roots), "intermediates": len(vendors.intermediates)}
    _log.info("vendor certificates", **counts, makers=makers(vendors))
    policy = EnrolmentPolicy(vendors=vendors, ek_allow=settings.ek_allow)
    return Enroller(fleet, certificates, policy, RateLimit(settings.per_minute, "enrolments"))


def _tell_streams(fleet: Fleet) -> None:
    for node in fleet:
        if node.stream is not None:
            node.stream.close(Unavailable("the verifier is stopping", remedy="connect again"))
