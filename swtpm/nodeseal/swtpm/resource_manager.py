"""A resource manager: several clients share one TPM that has three slots for objects and three for sessions.

It does for a software TPM what the kernel's ``/dev/tpmrm0`` does for a real one (TPM Library Part 1, "Context
Management"; Linux ``drivers/char/tpm/tpm2-space.c``). Each client sees only its own transient objects, under virtual
handles, and its own sessions. If the TPM is full, TPM2_ContextSave saves the oldest, and they are loaded again when a
command names them. When a client is gone, its objects and sessions are flushed.

The positions of handles are learnt from the TPM (TPMA_CC, Part 2), like in the kernel. Sessions keep their handles,
because the TPM itself keeps them across saving. A session that a client saved no longer belongs to it: another process
may load it, as tpm2-tools do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.swtpm import commands
from nodeseal.swtpm.command_shape import (
    NO_HANDLES,
    CommandShape,
    authorisation_sessions,
    command_shapes,
    with_handles,
)
from nodeseal.swtpm.commands import HEADER_SIZE, CommandCode, response_code
from nodeseal.tpm.buffer import Reader, u8, u16, u32

_CAP_HANDLES: Final = 1
_MAX_HANDLES: Final = 254
_HT_HMAC, _HT_POLICY, _HT_TRANSIENT = 0x02, 0x03, 0x80
_SESSION_TYPES: Final = (_HT_HMAC, _HT_POLICY)
_FIRST_VIRTUAL: Final = 0x80FFFFFF
_MAX_OBJECTS: Final = 64
"""Objects per client; the kernel allows three."""
_MAX_RETRIES: Final = 16

# Response codes (TPM_RC, Part 2)
_RC_SUCCESS = 0x000
_RC_COMMAND_SIZE = 0x142
_RC_AUTH_CONTEXT = 0x145
_RC_HANDLE_1 = 0x1CB
_RC_CONTEXT_GAP = 0x901
_RC_OBJECT_MEMORY, _RC_SESSION_MEMORY = 0x902, 0x903
_RC_REFERENCE_H0 = 0x910
_RC_REFERENCE_S0 = 0x918

ClientId = int


@dataclass(slots=True, eq=False)
class _Resource:
    """A transient object or session.

    Attributes:
        owner: the client that it belongs to.
        handle: the TPM's handle; of an object, meaningless while saved.
        context: the saved context; None: it is loaded.
    """

    owner: ClientId
    handle: int
    context: bytes | None = None

    @property
    def is_session(self) -> bool:
        return self.handle >> 24 in _SESSION_TYPES


@dataclass(slots=True)
class _Client:
    objects: dict[int, _Resource] = field(default_factory=dict)
    next_virtual: int = _FIRST_VIRTUAL


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        self.response = u16(commands.NO_SESSIONS) + u32(HEADER_SIZE) + u32(code)


class ResourceManager:
    """Gives each client its own view of the TPM behind ``transact``. It is not thread-safe: one command at a time."""

    def __init__(self, transact: Callable[[bytes], bytes]) -> None:
        self._transact = transact
        self._shapes = command_shapes(transact)
        self._clients: dict[ClientId, _Client] = {}
        self._sessions: dict[int, _Resource] = {}
        self._loaded: list[_Resource] = []
        """Loaded objects and sessions, the most recently used last."""

    def execute(self, client: ClientId, command: bytes) -> bytes:
        """Run one whole command for ``client`` and return the response with the client's handles."""
        try:
            return self._execute(client, command)
        except _Refused as refused:
            return refused.response
        except MalformedInput:
            return _Refused(_RC_COMMAND_SIZE).response

    def forget(self, client: ClientId) -> None:
        """Flush all objects and sessions of ``client``, which is gone."""
        for resource in list(self._resources_of(client)):
            if resource.context is None or resource.is_session:
                self._transact(commands.flush_context(resource.handle))
            self._drop(resource)
        self._clients.pop(client, None)

    def forget_all(self) -> None:
        """Forget all objects and sessions, after a reset of the TPM."""
        self._clients.clear()
        self._sessions.clear()
        self._loaded.clear()

    def _execute(self, client: ClientId, command: bytes) -> bytes:
        code = int.from_bytes(command[6:HEADER_SIZE], "big")
        if code == CommandCode.GET_CAPABILITY and (answer := self._own_handles(client, command)) is not None:
            return answer
        shape = self._shapes.get(code, NO_HANDLES)
        reader = Reader(command, "command")
        reader.take(HEADER_SIZE, "header")
        handles = [reader.u32("handle") for _ in range(shape.handles)]
        if code == CommandCode.FLUSH_CONTEXT:
            return self._flush(client, handles[0])
        named = [self._resource(client, handle, _RC_REFERENCE_H0 + i) for i, handle in enumerate(handles)]
        sessions = authorisation_sessions(command, reader)
        authorising = [self._resource(client, handle, _RC_REFERENCE_S0 + i) for i, handle in enumerate(sessions)]
        keep = [resource for resource in (*named, *authorising) if resource]
        for resource in keep:
            self._load(resource, keep)
        real = [found.handle if found else handle for found, handle in zip(named, handles, strict=True)]
        response = self._run(with_handles(command, real), keep)
        if response_code(response) != _RC_SUCCESS:
            return response
        for session, continues in zip(authorising, sessions.values(), strict=True):
            if session and not continues:
                self._drop(session)
        return self._note(client, code, shape, [found for found in named if found], response)

    def _note(self, client: ClientId, code: int, shape: CommandShape, named: list[_Resource], response: bytes) -> bytes:
        """Record what a successful command made or ended. Return the response with a virtual handle."""
        if shape.flushes or code == CommandCode.CONTEXT_SAVE:
            for resource in named:
                if shape.flushes or resource.is_session:
                    self._drop(resource)
        if not shape.returns_handle:
            return response
        handle = int.from_bytes(response[HEADER_SIZE : HEADER_SIZE + 4], "big")
        return with_handles(response, [self._adopt(client, handle)])

    def _adopt(self, client: ClientId, handle: int) -> int:
        """Add a new object or session to the client's view; return its handle there."""
        resource = _Resource(client, handle)
        if resource.is_session:
            self._sessions[handle] = resource
        elif handle >> 24 == _HT_TRANSIENT:
            view = self._clients.setdefault(client, _Client())
            if len(view.objects) >= _MAX_OBJECTS:
                self._transact(commands.flush_context(handle))
                raise _Refused(_RC_OBJECT_MEMORY)
            view.objects[view.next_virtual] = resource
            handle, view.next_virtual = view.next_virtual, view.next_virtual - 1
        else:
            return handle
        self._loaded.append(resource)
        return handle

    def _flush(self, client: ClientId, handle: int) -> bytes:
        """TPM2_FlushContext. Its handle is a parameter, and may name a saved object."""
        resource = self._resource(client, handle, _RC_HANDLE_1)
        if resource is None or resource.context is None or resource.is_session:
            response = self._transact(commands.flush_context(resource.handle if resource else handle))
        else:
            response = _Refused(_RC_SUCCESS).response
        if resource:
            self._drop(resource)
        return response

    def _resource(self, client: ClientId, handle: int, refusal: int) -> _Resource | None:
        """Return the client's object or session with this handle; None: the handle is not managed here."""
        if handle >> 24 == _HT_TRANSIENT:
            view = self._clients.get(client)
            if view is None or handle not in view.objects:
                raise _Refused(refusal)
            return view.objects[handle]
        session = self._sessions.get(handle)
        if session and session.owner != client:
            raise _Refused(refusal)
        return session

    def _load(self, resource: _Resource, keep: list[_Resource]) -> None:
        if resource.context is not None:
            response = self._run(commands.context_load(resource.context), keep)
            if response_code(response) != _RC_SUCCESS:
                self._drop(resource)
                raise _Refused(response_code(response))
            resource.handle = int.from_bytes(response[HEADER_SIZE : HEADER_SIZE + 4], "big")
            resource.context = None
        elif resource in self._loaded:
            self._loaded.remove(resource)
        self._loaded.append(resource)

    def _run(self, command: bytes, keep: list[_Resource]) -> bytes:
        """Send a command; when the TPM is full, make room and send it again."""
        for _ in range(_MAX_RETRIES):
            response = self._transact(command)
            if not self._make_room(response_code(response), keep):
                break
        return response

    def _make_room(self, code: int, keep: list[_Resource]) -> bool:
        """Do what the TPM needs according to ``code``; False: it needs nothing, or nothing can be done."""
        if code == _RC_CONTEXT_GAP:
            return self._renew_oldest_session()
        if code not in (_RC_OBJECT_MEMORY, _RC_SESSION_MEMORY):
            return False
        sessions = code == _RC_SESSION_MEMORY
        victim = next((each for each in self._loaded if each.is_session is sessions and each not in keep), None)
        if victim is not None:
            self._save(victim)
        return victim is not None

    def _save(self, victim: _Resource) -> None:
        """Save and unload an object or session. Drop it if the TPM no longer knows it."""
        response = self._run(commands.context_save(victim.handle), [victim])
        if response_code(response) != _RC_SUCCESS:
            self._drop(victim)
            return
        victim.context = response[HEADER_SIZE:]
        self._loaded.remove(victim)
        if victim.is_session:
            self._sessions[victim.handle] = self._sessions.pop(victim.handle)  # saved sessions stay in order
        else:
            self._transact(commands.flush_context(victim.handle))

    def _renew_oldest_session(self) -> bool:
        """Load and save again the session that was saved first, whose number the TPM needs.

        TPM_RC_CONTEXT_GAP asks for that, and the TPM keeps its last free slot for it.
        """
        oldest = next((each for each in self._sessions.values() if each.context is not None), None)
        if oldest is None or oldest.context is None:
            return False
        if response_code(self._transact(commands.context_load(oldest.context))) != _RC_SUCCESS:
            return False
        oldest.context = None
        self._loaded.append(oldest)
        self._save(oldest)
        return True

    def _own_handles(self, client: ClientId, command: bytes) -> bytes | None:
        """Answer TPM2_GetCapability(HANDLES) for transient objects and loaded sessions; None for other commands."""
        reader = Reader(command[-12:], "TPM2_GetCapability")
        capability, first, count = reader.u32("capability"), reader.u32("property"), reader.u32("count")
        if capability != _CAP_HANDLES or first >> 24 not in (_HT_HMAC, _HT_TRANSIENT):
            return None
        if int.from_bytes(command[:2], "big") != commands.NO_SESSIONS:
            raise _Refused(_RC_AUTH_CONTEXT)
        view = self._clients.get(client, _Client())
        own = view.objects if first >> 24 == _HT_TRANSIENT else self._session_handles(client)
        handles = sorted(handle for handle in own if handle >= first)
        shown = handles[: min(count, _MAX_HANDLES)]
        answer = u8(len(shown) < len(handles)) + u32(_CAP_HANDLES) + u32(len(shown)) + b"".join(map(u32, shown))
        return u16(commands.NO_SESSIONS) + u32(HEADER_SIZE + len(answer)) + u32(_RC_SUCCESS) + answer

    def _session_handles(self, client: ClientId) -> list[int]:
        return [handle for handle, session in self._sessions.items() if session.owner == client]

    def _resources_of(self, client: ClientId) -> Iterator[_Resource]:
        yield from self._clients.get(client, _Client()).objects.values()
        yield from (session for session in self._sessions.values() if session.owner == client)

    def _drop(self, resource: _Resource) -> None:
        if resource in self._loaded:
            self._loaded.remove(resource)
        if resource.is_session:
            self._sessions.pop(resource.handle, None)
            return
        objects = self._clients[resource.owner].objects
        objects.pop(next(virtual for virtual, each in objects.items() if each is resource))
