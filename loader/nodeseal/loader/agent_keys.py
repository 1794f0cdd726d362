"""Data keys from the node's agent: the client of ``io.nodeseal.Keys`` (``io.nodeseal.Keys.varlink``).

One connection is one open model. A thread listens on it for renewals and for the end. A revocation, a closed
connection, a message that does not parse, and an expiry without renewal all end the lease. After a fork only the parent
listens, so children have no lease: open models in the process that uses them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread

from nodeseal.crypto import floe
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, NodesealError, PolicyRefused, Unavailable
from nodeseal.findings import Finding
from nodeseal.ids import parse_digest
from nodeseal.loader.keys import Lease
from nodeseal.sealed.slots import Slots
from nodeseal.wire import varlink
from nodeseal.wire.findings import MAX_FINDING_TEXT, parse_finding
from nodeseal.wire.varlink import Call, Frames, Reply

DEFAULT_SOCKET = Path("/run/nodeseal/keys.sock")
ANSWER_SECONDS = 60.0
"""Time for the first reply: the agent may have to attest and to create a key in its TPM."""
_LOOK_SECONDS = 5.0  # a socket's timeout stands still while the machine sleeps
_READ_SIZE = 65536


class AgentKeys:
    """Key provider that asks the agent of this node."""

    def __init__(self, path: Path = DEFAULT_SOCKET) -> None:
        """Connect later, in :meth:`open`.

        Args:
            path: the agent's key socket.
        """
        self._path = path

    def open(self, slots: Slots) -> Lease:
        """Ask for the model's data key and stay connected.

        Raises:
            PolicyRefused: the verifier or the agent's own rules refuse; holds the findings.
            Unavailable: no agent answers, or the agent cannot reach its TPM or the verifier.
            MalformedInput: the answer does not follow the interface.
        """
        connection = _Connection(self._path)
        try:
            return connection.open(slots)
        except BaseException:
            connection.drop()
            raise


class _Connection:
    """One call of Open, from the first reply to the last."""

    def __init__(self, path: Path) -> None:
        self._frames = Frames()
        self._ready: list[bytes] = []
        self._deadline = 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            said = f"no agent answers at {path}: {error.strerror or error}"
            raise Unavailable(said, remedy=_remedy(error)) from error

    def open(self, slots: Slots) -> Lease:
        parameters = {"model_digest": slots.model_digest, "slots": [slot.to_json() for slot in slots.slots]}
        call = Call(method=f"{varlink.KEYS_INTERFACE}.Open", parameters=parameters, more=True)
        try:
            self._socket.sendall(varlink.encode_call(call))
            reply = self._receive()
        except OSError as error:
            raise Unavailable(f"the agent does not answer: {error.strerror or error}") from error
        lease = self._accept(reply)
        Thread(target=self._listen, args=(lease,), name="nodeseal lease", daemon=True).start()
        return lease

    def _accept(self, reply: Reply) -> Lease:
        _raise_error(reply)
        fields = Fields(reply.parameters, "answer of the agent")
        if fields.has("revoked") or not reply.continues:
            raise Unavailable("the agent ended the lease before it began")
        self._deadline = _deadline(fields, "expires")
        fields.text("lease_id")
        digest = parse_digest(fields.text("model_digest"), "model_digest")
        data_key = bytearray(fields.base64("data_key", max_size=floe.KEY_SIZE))
        fields.done()
        return Lease(digest, data_key, release=self.hang_up, drop=self.drop)

    def _listen(self, lease: Lease) -> None:
        reason = "the agent's answer did not make sense"
        try:
            with suppress(NodesealError):
                reason = self._wait_for_end()
        finally:  # without this thread no revocation is heard
            try:
                lease.end(reason)
            finally:  # whoever is told of the end may fail
                self.drop()

    def _wait_for_end(self) -> str:
        while (left := self._deadline - _boot_clock()) > 0:
            try:
                self._socket.settimeout(min(left, _LOOK_SECONDS))
                reply = self._receive()
            except TimeoutError:
                continue
            except (OSError, Unavailable):
                return "the agent closed the connection"
            _raise_error(reply)
            fields = Fields(reply.parameters, "answer of the agent")
            if fields.has("revoked"):
                return fields.text("revoked")
            self._deadline = _deadline(fields, "expires")
            fields.done()
        return "the lease ran out without a renewal"

    def _receive(self) -> Reply:
        while not self._ready:
            data = self._socket.recv(_READ_SIZE)
            if not data:
                raise Unavailable("the agent closed the connection")
            self._ready.extend(self._frames.feed(data))
        return varlink.decode_reply(self._ready.pop(0))

    def hang_up(self) -> None:
        """Give the model back. The listening thread wakes and drops the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close the socket, after the listening has ended."""
        self._socket.close()


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "let this user into the folder of the socket; callers in agent.yaml must name the user, too"
    return "start nodeseal-agent, or name its socket, `socket` in agent.yaml, with --socket or AgentKeys(Path(…))"


def _raise_error(reply: Reply) -> None:
    if not reply.error:
        return
    fields = Fields(reply.parameters, "answer of the agent")
    if reply.error == f"{varlink.KEYS_INTERFACE}.Refused":
        raise PolicyRefused(*_findings(fields))
    if reply.error == f"{varlink.KEYS_INTERFACE}.Unavailable":
        raise Unavailable(f"the agent cannot open the model now: {fields.text('reason')}")
    raise MalformedInput(f"the agent answered {reply.error[:80]!a}")


def _findings(fields: Fields) -> Iterator[Finding]:
    items = fields.items("findings")
    if not items:
        raise MalformedInput("the agent refused without a reason")
    for item in items:
        finding = Fields(item, "finding of the agent")
        yield parse_finding(finding, partial(finding.text, max_length=MAX_FINDING_TEXT))


def _deadline(fields: Fields, key: str) -> float:
    """Convert a time of the wall clock to the boot clock, which nobody can set."""
    try:
        when = datetime.fromisoformat(fields.text(key, max_length=40))
    except ValueError as error:
        raise fields.wrong(key, "a time in RFC 3339") from error
    if when.tzinfo != UTC:
        raise fields.wrong(key, "a time in UTC")
    return _boot_clock() + (when - datetime.now(UTC)).total_seconds()


def _boot_clock() -> float:
    """Return the seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
