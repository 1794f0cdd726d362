"""The methods of ``io.nodeseal.Keys`` and ``org.varlink.service``: calls in, replies out, no sockets.

Who may call: ``Open`` callers that a rule describes; ``Status`` these, the agent's own user and root;
``org.varlink.service`` everyone. An unlisted method does not exist.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from nodeseal.agent.attest import AgentStatus
from nodeseal.agent.evidence.attester import agent_version
from nodeseal.agent.local.callers import CallerRule, LocalCaller, asks_executable, check_caller
from nodeseal.agent.release.leases import HeldLease, Leases, Subscription
from nodeseal.agent.release.release import Releaser
from nodeseal.crypto.secret import wipe
from nodeseal.documents import Fields, encode_base64
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.findings import Finding
from nodeseal.ids import Digest, parse_digest
from nodeseal.line_limit import LineLimit
from nodeseal.sealed.slots import MAX_SLOTS, Slot, parse_slot_list
from nodeseal.wire import varlink
from nodeseal.wire.findings import plain_finding
from nodeseal.wire.varlink import KEYS_INTERFACE, Call, Reply

OPEN: Final = f"{KEYS_INTERFACE}.Open"
_SERVICE: Final = "org.varlink.service"
_KEYS_TEXT: Final = Path(varlink.__file__).with_name(f"{KEYS_INTERFACE}.varlink")
_SERVICE_TEXT: Final = """\
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""
_LINES_PER_MINUTE: Final = 30
"""About calls of one user that are not fulfilled."""
_log = structlog.get_logger("nodeseal.agent.keys")


class LocalKeysService:
    """Answers calls.

    Args:
        rules: who may open models.
        releaser: gets and opens leases.
        leases: the leases.
        status: what the verifier last said.
        clock: monotonic seconds, the one of ``leases``.
    """

    def __init__(
        self,
        rules: tuple[CallerRule, ...],
        releaser: Releaser,
        leases: Leases,
        status: AgentStatus,
        clock: Callable[[], float],
    ) -> None:
        self._rules: Final = rules
        self._releaser: Final = releaser
        self._leases: Final = leases
        self._status: Final = status
        self._clock: Final = clock
        self._lines: Final = LineLimit(_LINES_PER_MINUTE)

    def asks_executable(self, caller: LocalCaller) -> bool:
        """Tell whether it takes the executable of ``caller`` to know whether a rule describes it."""
        return asks_executable(caller, self._rules)

    def expects(self, caller: LocalCaller) -> bool:
        """Tell whether a process is one that a rule may fit, or of root or the agent's own user."""
        return caller.uid in _own_users() or any(rule.may_fit(caller) for rule in self._rules)

    async def open(self, call: Call, caller: LocalCaller, gone: asyncio.Future[bytes]) -> AsyncGenerator[Reply, None]:
        """Yield the replies to ``Open``: key, renewals, end.

        Args:
            call: the call.
            caller: who calls.
            gone: done when the caller closed its end, or sent something more.
        """
        try:
            async for reply in self._open(call, caller, gone):
                yield reply
        except NodesealError as error:
            yield self._error_reply(error, call, caller)

    def answer(self, call: Call, caller: LocalCaller) -> Reply:
        """Return the reply to any other call."""
        try:
            return self._answer(call, caller)
        except NodesealError as error:
            return self._error_reply(error, call, caller)

    def _answer(self, call: Call, caller: LocalCaller) -> Reply:
        match call.method:
            case "io.nodeseal.Keys.Status":
                return self._status_reply(caller)
            case "org.varlink.service.GetInfo":
                return Reply(parameters=_info())
            case "org.varlink.service.GetInterfaceDescription":
                return _description(call)
            case method if method.rpartition(".")[0] in (KEYS_INTERFACE, _SERVICE):
                return Reply(error=f"{_SERVICE}.MethodNotFound", parameters={"method": method})
            case method:
                interface = method.rpartition(".")[0]
                return Reply(error=f"{_SERVICE}.InterfaceNotFound", parameters={"interface": interface})

    async def _open(self, call: Call, caller: LocalCaller, gone: asyncio.Future[bytes]) -> AsyncGenerator[Reply, None]:
        check_caller(caller, self._rules)
        if not call.more:
            yield Reply(error=f"{_SERVICE}.ExpectedMore")
            return
        try:
            model_digest, slots = _parse_open(call)
        except MalformedInput as error:
            yield Reply(error=f"{_SERVICE}.InvalidParameter", parameters={"parameter": str(error)})
            return
        released = await self._releaser.lease(model_digest, slots)
        try:
            async with self._leases.subscribed(released.lease_id) as subscription:
                yield await self._key_reply(released, subscription)
                _log.info("model opened", lease=released.lease_id, model=model_digest, caller=str(caller))
                async for reply in self._follow(subscription, gone):
                    yield reply
        finally:
            await self._releaser.give_back(released.lease_id)

    async def _key_reply(self, released: HeldLease, subscription: Subscription) -> Reply:
        data_key = await self._releaser.open(released)
        try:
            if subscription.revoked:
                raise Unavailable(f"the lease has ended: {subscription.revoked}")
            return Reply(
                parameters={
                    "data_key": encode_base64(bytes(data_key)),
                    "model_digest": released.model_digest,
                    "lease_id": released.lease_id,
                    "expires": self._wall_time(subscription.expires_steady),
                },
                continues=True,
            )
        finally:
            wipe(data_key)

    async def _follow(self, subscription: Subscription, gone: asyncio.Future[bytes]) -> AsyncGenerator[Reply, None]:
        while True:
            changed: asyncio.Future[None] = asyncio.ensure_future(subscription.changed())
            try:
                await asyncio.wait((changed, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if subscription.revoked:
                yield _end_reply(subscription)
                return
            if gone.done():
                return
            yield Reply(parameters={"expires": self._wall_time(subscription.expires_steady)}, continues=True)

    def _status_reply(self, caller: LocalCaller) -> Reply:
        if caller.uid not in _own_users():
            check_caller(caller, self._rules)
        link, until = self._releaser.link, self._wall_time(self._leases.trusted_until_steady)
        return Reply(
            parameters={
                **({"node_id": link.identity.node_id} if link else {}),
                "state": self._status.state,
                "since": _spell(self._status.since),
                **({"heard": _spell(self._status.heard)} if self._status.heard else {}),
                **({"problem": self._status.problem} if self._status.problem else {}),
                **({"remedy": self._status.remedy} if self._status.remedy else {}),
                **({"trusted_until": until} if self._leases.trusted else {}),
                "findings": list(map(_finding, self._status.findings)),
                "leases": [
                    {
                        "lease_id": held.lease_id,
                        "model_digest": held.model_digest,
                        "key_id": held.key_id,
                        "expires": self._wall_time(self._leases.expires_steady(held)),
                    }
                    for held in self._leases.held()
                ],
            }
        )

    def _error_reply(self, error: NodesealError, call: Call, caller: LocalCaller) -> Reply:
        left_out = self._lines.left_out(str(caller.uid), time.monotonic())
        if left_out is not None:
            facts = {"method": call.method, "pid": caller.pid, "caller": str(caller), "left_out": left_out}
            _log.warning("call not fulfilled", **facts, error=str(error))
        if isinstance(error, PolicyRefused | ProofFailed):
            return Reply(
                error=f"{KEYS_INTERFACE}.Refused", parameters={"findings": list(map(_finding, error.findings))}
            )
        return Reply(error=f"{KEYS_INTERFACE}.Unavailable", parameters={"reason": str(error)})

    def _wall_time(self, steady: float) -> str:
        return _spell(datetime.now(UTC) + timedelta(seconds=steady - self._clock()))


def _spell(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _end_reply(subscription: Subscription) -> Reply:
    cause = {} if subscription.cause is None else {"cause": subscription.cause.value}
    return Reply(parameters={"revoked": subscription.revoked, **cause})


def _own_users() -> tuple[int, int]:
    return 0, os.geteuid()


def _parse_open(call: Call) -> tuple[Digest, tuple[Slot, ...]]:
    fields = Fields(dict(call.parameters), "Open")
    model_digest = parse_digest(fields.text("model_digest"), "model_digest")
    slots = parse_slot_list(fields.items("slots", max_items=MAX_SLOTS), "Open")
    fields.done()
    return model_digest, slots


def _info() -> dict[str, object]:
    return {
        "vendor": "nodeseal",
        "product": "nodeseal-agent",
        "version": agent_version(),
        "url": "",
        "interfaces": [_SERVICE, KEYS_INTERFACE],
    }


def _description(call: Call) -> Reply:
    match call.parameters.get("interface"):
        case "io.nodeseal.Keys":
            return Reply(parameters={"description": _KEYS_TEXT.read_text("utf-8")})
        case "org.varlink.service":
            return Reply(parameters={"description": _SERVICE_TEXT})
        case str(interface):
            return Reply(error=f"{_SERVICE}.InterfaceNotFound", parameters={"interface": interface})
        case _:
            return Reply(error=f"{_SERVICE}.InvalidParameter", parameters={"parameter": "interface"})


def _finding(finding: Finding) -> dict[str, str]:
    return {**plain_finding(finding), "remedy": finding.remedy}
