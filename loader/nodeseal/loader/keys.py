"""Sources of data keys, and the leases that limit them.

A key comes with a lease: the right of this node to use the model. The lease ends when the model is closed, when the
agent says so, or when it expires without renewal. The key is wiped at that moment. A lease also ends in every forked
child, because no revocation would reach it there.
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
    """A data key and the right to use it. Several threads may use it. Only the first end counts."""

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
            release: called once when the lease ends, to tell the provider.
            drop: called instead in a forked child, to release what belongs to the parent.

        Raises:
            MalformedInput: the key does not have 32 bytes.
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
        """Call ``on_end`` with the reason when the lease ends, or at once if it has ended."""
        with self._lock:
            self._on_end = on_end
            ended = self._ended
        if ended:
            on_end(ended)

    def check(self) -> None:
        """Check that the lease is in force.

        Raises:
            PolicyRefused: ``sealed.lease-ended``, with the reason.
        """
        if self._ended:
            expected = "a lease that is in force"
            raise PolicyRefused(Finding(id=FindingId.SEALED_LEASE, expected=expected, seen=self._ended))

    def data_key(self) -> bytearray:
        """Return the key itself, which turns to zeros when the lease ends.

        Raises:
            PolicyRefused: ``sealed.lease-ended``, with the reason.
        """
        self.check()
        return self._data_key

    def end(self, reason: str) -> None:
        """Wipe the key and tell the watcher. Later calls do nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = reason
            wipe(self._data_key)
            on_end = self._on_end
        self._release()
        on_end(reason)

    def abandon(self) -> None:
        """Wipe the key in a forked child, where a lock may be held by a thread that does not exist there."""
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
    """Interface that opens one of a model's slots."""

    def open(self, slots: Slots) -> Lease:
        """Return the data key of the model.

        Raises:
            PolicyRefused: the node may not open the model; holds every reason.
            ProofFailed: no slot opens.
            Unavailable: the provider cannot be reached now.
        """
        ...


class OnlyModel:
    """Key provider for one model. It refuses every other model, such as an older version in its place."""

    def __init__(self, keys: KeyProvider, model_digest: str) -> None:
        """Keep the provider and the digest.

        Args:
            keys: provider of the keys.
            model_digest: digest that ``nodeseal seal`` and ``nodeseal inspect`` show.

        Raises:
            MalformedInput: the digest is not 64 lower-case hex digits.
        """
        self._keys = keys
        self._digest = parse_digest(model_digest, "model_digest")

    def open(self, slots: Slots) -> Lease:
        """Ask the provider, if the slots belong to this model.

        Raises:
            ProofFailed: ``sealed.model-digest``: the slots belong to another model; or no slot opens.
            PolicyRefused: the node may not open the model; holds every reason.
            Unavailable: the provider cannot be reached now.
        """
        require_model(slots, self._digest)
        return self._keys.open(slots)


def require_model(slots: Slots, digest: Digest) -> None:
    """Refuse the slots of any other model.

    Raises:
        ProofFailed: ``sealed.model-digest``: the slots belong to another model.
    """
    if slots.model_digest != digest:
        expected, seen = f"the model {digest}", f"the model {slots.model_digest}"
        raise ProofFailed(Finding(id=FindingId.SEALED_MODEL, expected=expected, seen=seen))


class InsecureFileKeys:
    """Key provider with a private key from a file: no attestation, no lease, no audit. For tests and vectors only."""

    def __init__(self, path: Path) -> None:
        """Load the key.

        Raises:
            MalformedInput: the file was not made by :func:`encode_insecure_key`.
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
        """Open the slot of this key. HPKE's ``info`` proves that the slot belongs to the model.

        Raises:
            NotFound: the model has no slot for this key.
            ProofFailed: ``release.slot``: the slot does not open.
        """
        for slot in slots.slots:
            if (slot.key_id, slot.key_version) == (self._key_id, self._key_version):
                return Lease(slots.model_digest, self._private.open_slot(slots.model_digest, slot.key_id, slot.sealed))
        raise NotFound(f"the model is not sealed to version {self._key_version} of {self._key_id}")


def encode_insecure_key(key_id: KeyId, key_version: int, private: ModelPrivateKey) -> bytes:
    """Return the file that :class:`InsecureFileKeys` reads. The file opens every model that is sealed to the key."""
    return documents.encode_json(
        {
            "format": _INSECURE_FORMAT,
            "key_id": key_id,
            "key_version": key_version,
            "private": documents.encode_base64(bytes(private.to_bytes())),
            "suite": private.suite.value,
        }
    )
