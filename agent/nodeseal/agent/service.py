"""The agent as a whole: who it is, one connection at a time, and what runs beside it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from nodeseal.agent.attest import AgentStatus, AttestationStream
from nodeseal.agent.backoff import Backoff
from nodeseal.agent.calls.channels import Link, node_channel
from nodeseal.agent.config import AgentConfig
from nodeseal.agent.diagnosis import Diagnosis, clock_fault
from nodeseal.agent.egress.guard import EgressGuard
from nodeseal.agent.enrol import each_identity, enrol
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.identity import Identity, StateDirectory
from nodeseal.agent.local.service import LocalKeysService
from nodeseal.agent.local.socket import KeySocket
from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import Leases
from nodeseal.agent.release.release import Releaser
from nodeseal.agent.release.revocation import Revoker
from nodeseal.agent.renew import renew
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.agent.tpm.password import read_endorsement_password
from nodeseal.errors import NodesealError, NotFound
from nodeseal.ids import NodeId, node_id_of
from nodeseal.service_manager import ServiceManager
from nodeseal.tpm.ek_template import identity_name
from nodeseal.tpm.public import decode_public

_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
_FAREWELL_SECONDS: Final = 5.0
_EXPIRY_MARGIN: Final = timedelta(minutes=1)
_RENEWAL_RETRY_SECONDS: Final = 30.0
_TRUST_POLL_SECONDS: Final = 1.0
_ENROL_SECONDS: Final = 60.0
_log = structlog.get_logger("nodeseal.agent")


def _clock() -> float:
    """Return seconds that go on counting while the machine sleeps, unlike CLOCK_MONOTONIC: trust ends then too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Agent:
    """All parts of one agent, wired.

    Args:
        config: the configuration.

    Raises:
        MalformedInput: the state directory is not as the agent left it.
        Unavailable: it cannot be used.
    """

    def __init__(self, config: AgentConfig) -> None:
        self._config: Final = config
        password = read_endorsement_password(config.endorsement_auth_file)
        self._state: Final = StateDirectory(config.state_directory)
        self._state.claim()
        self._tpm: Final = TpmOwner(config.tcti, self._state.ak_unique(), config.tpm_timeout_seconds, password)
        self._egress: Final = EgressGuard(config.egress)
        self._attester: Final = Attester(self._tpm, config.host, config.hostname, self._egress.claims)
        self._epoch: Final = LeaseEpoch(self._tpm, config.tpm_timeout_seconds)
        self._revoker: Final = Revoker(self._epoch, config.on_revocation, config.revocation_timeout_seconds)
        self._leases: Final = Leases(_clock, self._revoker.begin)
        self._releaser: Final = Releaser(self._tpm, self._attester, self._leases, self._epoch)
        self._status: Final = AgentStatus()
        self._template = ""
        self._diagnosis: Final = Diagnosis(config, _clock)
        self._enrolled_at = -math.inf
        self._manager: Final = ServiceManager()
        self._ready = False
        self._backoff: Final = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)

    async def enrol(self) -> Identity:
        """Enrol and store the new identity.

        Raises:
            ProofFailed: the verifier does not accept this TPM.
            Unavailable: TPM or verifier cannot be reached.
        """
        identity = await enrol(self._config.verifier, self._tpm, self._attester, self._template)
        self._state.save_identity(identity)
        self._enrolled_at = _clock()
        _log.info("enrolled", node=identity.node_id, until=identity.peer.not_after.isoformat())
        return identity

    async def run(self, stop: asyncio.Event) -> None:
        """Attest and serve keys until ``stop`` is set, then give all leases back.

        Raises:
            Unavailable: the key socket cannot be made.
        """
        try:
            await self._run_parts(stop)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        finally:
            await self.close()

    async def _run_parts(self, stop: asyncio.Event) -> None:
        service = LocalKeysService(self._config.callers, self._releaser, self._leases, self._status, _clock)
        socket = KeySocket(self._config.socket, service)
        self._epoch.begin()
        async with asyncio.TaskGroup() as group:
            leases = self._leases.watch(self._alive)
            work = (self._epoch.keep(), self._belong(), socket.serve(), leases, self._egress.keep())
            parts = [group.create_task(part) for part in work]
            await stop.wait()
            self._manager.stopping()
            await self._farewell()
            for part in parts:
                part.cancel()

    def _alive(self) -> None:
        """Tell systemd that leases still end in time, how the node stands, and that the key socket is there."""
        status = self._status
        self._manager.alive()
        self._manager.status(f"{status.state}: {status.problem}" if status.problem else status.state)
        if not self._ready and self._config.socket.is_socket():
            self._ready = True
            self._manager.ready()

    async def close(self) -> None:
        """Wait for the consequences of ends that have begun, then close the TPM."""
        await self._revoker.finished()
        await self._epoch.finish()
        self._tpm.close()
        self._state.release()

    async def _farewell(self) -> None:
        ids = self._leases.close("the agent on this node stops")
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._releaser.tell_returned(ids)
        except TimeoutError:
            _log.warning("leases not returned in time", leases=ids)

    async def _belong(self) -> None:
        while True:
            try:
                await self._connection()
            except NotFound as error:
                self._state.forget_identity()
                _log.warning("the verifier does not know this node, enrolling again", error=str(error))
            except NodesealError as error:
                await self._disconnected(error)
            await asyncio.sleep(self._backoff.next())

    async def _disconnected(self, error: NodesealError) -> None:
        self._status.disconnected(error)
        fault = await self._diagnosis.explain(error)
        if fault is not None:
            self._status.problem, self._status.remedy = str(fault), fault.remedy
        said = {} if fault is None else {"reason": str(fault)}
        _log.warning("not connected", error=str(error), **said, remedy=fault.remedy if fault else error.remedy)

    async def _connection(self) -> None:
        """Hold one connection until it breaks, which raises, or a new one is due.

        It is due when the certificate was renewed or ran out, and when egress limits changed: a stream begins with a
        round, and the verifier bounds how often streams begin.
        """
        identity = await self._identity()
        channel = node_channel(self._config.verifier, identity)
        link = Link(channel=channel, identity=identity, address=self._config.verifier.address)
        stream = AttestationStream(link, self._attester, self._leases, self._status, _clock)
        self._releaser.link = link
        try:
            await _first_to_end(stream.run(), self._renewal(link), self._egress.changed())
        finally:
            self._releaser.link = None
            if stream.heard:
                self._backoff.reset()
            await channel.close(_FAREWELL_SECONDS)

    async def _identity(self) -> Identity:
        identity = self._state.identity()
        if identity is None:
            return self._timely(await self.enrol())
        if not await self._holds(identity.node_id):
            _log.warning("the TPM is not the one that was enrolled", node=identity.node_id)
            return self._timely(await self.enrol())
        if identity.peer.not_after - _EXPIRY_MARGIN <= datetime.now(UTC):
            return self._timely(await self._enrol_again(identity))
        return identity

    async def _enrol_again(self, expired: Identity) -> Identity:
        """Enrol because a certificate expired: at most once a minute, since a wrong clock makes each look expired."""
        if _clock() < self._enrolled_at + _ENROL_SECONDS:
            return expired
        return await self.enrol()

    def _timely(self, fresh: Identity) -> Identity:
        """Refuse to go on by a wrong clock, which would end each certificate at once."""
        fault = clock_fault(fresh, datetime.now(UTC))
        if fault is not None:
            raise fault
        return fresh

    async def _holds(self, node_id: NodeId) -> bool:
        """Tell whether the TPM has the endorsement key of a node; if so, use it, and show it first from now on."""
        async for shown in each_identity(self._tpm, self._template):
            if node_id_of(identity_name(decode_public(shown.ek_public))) == node_id:
                self._template = shown.template
                return True
        return False

    async def _renewal(self, link: Link) -> None:
        """Return when the node has a new certificate, or needs one and cannot have it by renewal."""
        peer = link.identity.peer
        due = peer.not_before + (peer.not_after - peer.not_before) * 2 / 3
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
        while datetime.now(UTC) < peer.not_after - _EXPIRY_MARGIN:
            if self._leases.trusted:
                try:
                    await self._renew(link)
                except NodesealError as error:
                    _log.warning("certificate not renewed", error=str(error))
                    await asyncio.sleep(_RENEWAL_RETRY_SECONDS)
                else:
                    return
            await asyncio.sleep(_TRUST_POLL_SECONDS)

    async def _renew(self, link: Link) -> None:
        renewed = await renew(link, self._attester, self._leases)
        self._state.save_identity(renewed)
        _log.info("certificate renewed", node=renewed.node_id, until=renewed.peer.not_after.isoformat())


async def _first_to_end(*parts: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
