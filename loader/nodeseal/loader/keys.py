"""Where data keys come from, and how long they last.

A key comes with a lease: the right of this node to use the model. It ends when the model is closed, when the agent says
so, or when the agent falls silent past its expiry; the key is wiped at that moment. It ends in every child that is
forked from this process, too: no revocation would reach it there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, Protocol
from weakref import WeakSet

from nodeseal import documents
from nodeseal.crypto import floe
from nodeseal.crypto.hpke import ModelPrivateKey
from nodeseal.crypto.secret import wipe
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, NotFound, PolicyRefused, ProofFailed
from nodeseal.files import read_small
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import MAX_KEY_VERSION, Digest, KeyId, parse_digest, parse_key_id
from nodeseal.sealed.slots import Slots, parse_suite

CLOSED = "the model was closed"
_FORKED: Final = "this process was forked from the one that opened the model"
_INSECURE_FORMAT = "nodeseal/insecure-model-key/1"
_MAX_PRIVATE = 1024


class Lease:
    """A data key and the right to use it. Safe to use from several threads; the first end is the one that counts."""

    def __init__(
        self,
        model_digest: Digest,
        data_key: bytearray,
        *,
        release: Callable[[], None] = lambda: None,
        drop: Callable[[], None] = lambda: None,
    ) -> None:
        """Take ownership of ``data_key``.

        Args:
            model_digest: the model that the key was released for.
            data_key: 32 bytes; wiped when the lease ends.
            release: called once when the lease ends, to tell whoever gave it.
            drop: called instead in a child that was forked, to let go of what is its parent's.

        Raises:
            MalformedInput: not 32 bytes.
        """
        if len(data_key) != floe.KEY_SIZE:
            raise MalformedInput(f"data key of {len(data_key)} bytes, expected {floe.KEY_SIZE}")
        self.model_digest = model_digest
        self._data_key = data_key
        self._release = release
        self._drop = drop
        self._lock = Lock()
        self._ended = ""
        self._on_end: Callable[[str], None] = lambda _: None
        _leases.add(self)

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Have ``on_end`` called with the reason when the lease ends; at once if it has ended."""
        with self._lock:
            self._on_end = on_end
            ended = self._ended
        if ended:
            on_end(ended)

    def check(self) -> None:
        """Refuse to go on once the lease has ended.

        Raises:
            PolicyRefused: with ``sealed.lease-ended`` and the reason.
        """
        if self._ended:
            expected = "a lease that is in force"
            raise PolicyRefused(Finding(id=FindingId.SEALED_LEASE, expected=expected, seen=self._ended))

    def data_key(self) -> bytearray:
        """Return the key, not a copy: it turns to zeros when the lease ends.

        Raises:
            PolicyRefused: with ``sealed.lease-ended``.
        """
        self.check()
        return self._data_key

    def end(self, reason: str) -> None:
        """Wipe the key and tell who watches. Later calls do nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = reason
            wipe(self._data_key)
            on_end = self._on_end
        self._release()
        on_end(reason)

    def abandon(self) -> None:
        """Wipe the key in a child that was forked, where a thread that is not there may hold any lock."""
        self._lock = Lock()
        self._ended = self._ended or _FORKED
        wipe(self._data_key)
        self._drop()


_leases: Final[WeakSet[Lease]] = WeakSet()


def _abandon_all() -> None:
    for lease in tuple(_leases):
        lease.abandon()


os.register_at_fork(after_in_child=_abandon_all)


class KeyProvider(Protocol):
    """Opens one of a model's slots."""

    def open(self, slots: Slots) -> Lease:
        """Return the data key of the model.

        Raises:
            PolicyRefused: with every reason.
            ProofFailed: no slot opens.
            Unavailable: who could answer cannot be reached now.
        """
        ...


class OnlyModel:
    """Opens one model and no other that this node may have, such as an older version put in its place."""

    def __init__(self, keys: KeyProvider, model_digest: str) -> None:
        """Ask nobody yet.

        Args:
            keys: who releases keys.
            model_digest: as ``nodeseal seal`` and ``nodeseal inspect`` show it.

        Raises:
            MalformedInput: not 64 lower-case hex digits.
        """
        self._keys = keys
        self._digest = parse_digest(model_digest, "model_digest")

    def open(self, slots: Slots) -> Lease:
        """Pass the slots on if they are this model's.

        Raises:
            ProofFailed: with ``sealed.model-digest``: they are not. So do the errors of the provider.
        """
        require_model(slots, self._digest)
        return self._keys.open(slots)


def require_model(slots: Slots, digest: Digest) -> None:
    """Refuse the slots of any other model.

    Raises:
        ProofFailed: with ``sealed.model-digest``.
    """
    if slots.model_digest != digest:
        expected, seen = f"the model {digest}", f"the model {slots.model_digest}"
        raise ProofFailed(Finding(id=FindingId.SEALED_MODEL, expected=expected, seen=seen))


class InsecureFileKeys:
    """Opens slots with a private key from a file: no attestation, no lease, no audit. For tests and vectors only."""

    def __init__(self, path: Path) -> None:
        """Load the key.

        Raises:
            MalformedInput: not a key file that :func:`encode_insecure_key` made.
            Unavailable: the file cannot be read.
        """
        fields = Fields(documents.decode_json(read_small(path, _MAX_PRIVATE), str(path)), str(path))
        fields.constant("format", _INSECURE_FORMAT)
        self._key_id = parse_key_id(fields.text("key_id"))
        self._key_version = fields.integer("key_version", low=1, high=MAX_KEY_VERSION)
        suite = parse_suite(fields.text("suite"))
        self._private = ModelPrivateKey(suite, fields.base64("private", max_size=_MAX_PRIVATE))
        fields.done()

    def open(self, slots: Slots) -> Lease:
        """Open the slot of this key; HPKE's ``info`` proves that it belongs to the model.

        Raises:
            NotFound: the model has no slot for this key.
            ProofFailed: with ``release.slot``: the slot does not open.
        """
        for slot in slots.slots:
            if (slot.key_id, slot.key_version) == (self._key_id, self._key_version):
                return Lease(slots.model_digest, self._private.open_slot(slots.model_digest, slot.key_id, slot.sealed))
        raise NotFound(f"the model is not sealed to version {self._key_version} of {self._key_id}")


def encode_insecure_key(key_id: KeyId, key_version: int, private: ModelPrivateKey) -> bytes:
    """Return the file that :class:`InsecureFileKeys` reads. Whoever has it opens every model sealed to the key."""
    return documents.encode_json(
        {
            "format": _INSECURE_FORMAT,
            "key_id": key_id,
            "key_version": key_version,
            "private": documents.encode_base64(bytes(private.to_bytes())),
            "suite": private.suite.value,
        }
    )
