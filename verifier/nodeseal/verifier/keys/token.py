"""The key store in a PKCS#11 token: private model keys are made there and never leave it.

A release needs of a key only ECDH (CKM_ECDH1_DERIVE with CKD_NULL, PKCS#11 v2.40 §2.3.8); what HPKE does with the
shared secret is done here, in software (:func:`nodeseal.crypto.hpke.finish_slot`). So a token must let its user read
*derived* secrets. Before a new key is used, it must open a slot that was sealed to it.

One session, logged in once, under one lock. When the token goes away, calls fail as unavailable; when it is back, the
next one finds it: the library is initialised anew, since modules need not notice tokens that come later. A PIN that
the token refuses is not tried again, which would lock the token; the verifier must be restarted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar, cast

import pkcs11
import structlog
from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from nodeseal.crypto.hpke import DATA_KEY_SIZE, ModelPublicKey, Suite, Wrapped, finish_slot, token_point
from nodeseal.crypto.secret import wipe
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.model_key import ModelKey
from nodeseal.verifier.config import TokenSettings
from nodeseal.verifier.keys.keystore import HeldKey
from nodeseal.verifier.keys.token_uri import TokenUri, parse_token_uri

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - it is a class
    from pkcs11.types import DeriveMixin

T = TypeVar("T")
_WAIT_SECONDS: Final = 10.0
_ID_SIZE: Final = 16
_DH_BITS: Final = 384
_PROBE_BITS: Final = 64
"""Random bits asked for before work: python-pkcs11 complains of a dead session loudest in the middle of a search."""
_OCTET_STRING: Final = b"\x04\x61"
_TRIAL: Final = Digest("00" * 32)
_TEMPLATE: Final = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.PRIVATE: True,
    Attribute.MODIFIABLE: False,
}
_LOCKED_IN: Final = {
    Attribute.LOCAL: True,
    Attribute.SENSITIVE: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.NEVER_EXTRACTABLE: True,
}
"""What a token must say of a key that it made and that can never leave it."""
_PIN_REFUSED: Final = (
    pkcs11.PinExpired,
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)
_log: Final = structlog.get_logger()


class TokenKeyStore:
    """Keys of suite P-384 in one token. Calls block; they may come from several threads."""

    def __init__(self, settings: TokenSettings, pin: str) -> None:
        """Connect later, at the first call or in :meth:`connect`."""
        self._settings: Final = settings
        self._pin: Final = pin
        self._lock: Final = Lock()
        self._library: Library | None = None
        self._session: pkcs11.Session | None = None
        self._pin_refused = False

    def connect(self) -> None:
        """Find the token and log in.

        Raises:
            Unavailable: no module, no token, or it refuses the PIN.
        """
        self._run(lambda _: None)

    def close(self) -> None:
        """Log out."""
        with self._lock:
            self._disconnect()

    def create(self, key_id: KeyId, version: int, suite: Suite, place: str) -> HeldKey:
        """Make a key pair in the token; the place of the result names the very object.

        Raises:
            MalformedInput: another token, another suite, or a place that names an id.
            Unavailable: the token is away, makes no such keys, or would let them out.
        """
        uri = self._parse(place)
        if suite is not Suite.P384:
            raise MalformedInput(f"a token holds keys of suite {Suite.P384.value} only", remedy="leave the suite out")
        if uri.object_id:
            raise MalformedInput("PKCS#11 URI: the id of a new key is chosen by the verifier")
        label = uri.label or f"{key_id}.{version}"
        made = replace(uri, name=self._settings.name, label=label, object_id=os.urandom(_ID_SIZE))
        public = ModelPublicKey(Suite.P384, self._run(lambda session: _generate(session, made)))
        held = HeldKey(ModelKey(key_id=key_id, key_version=version, public=public), made.encode())
        self._prove(held)
        return held

    def open_slot(self, held: HeldKey, model: Digest, slot: Wrapped) -> bytearray:
        """Open a slot.

        Raises:
            MalformedInput: the key is in another token, or the slot holds no point of the curve.
            ProofFailed: ``release.slot``: the slot does not open with this key for this model.
            Unavailable: the token is away, refuses the PIN, or does not hold the key.
        """
        uri, point = self._parse(held.place), token_point(slot.enc)
        dh = self._run(lambda session: _agree(session, uri, point))
        try:
            return finish_slot(held.key.public, model, held.key.key_id, slot, dh)
        finally:
            wipe(dh)

    def _parse(self, place: str) -> TokenUri:
        uri = parse_token_uri(place)
        if uri.name not in ("", self._settings.name):
            raise MalformedInput(f"this verifier's token is {self._settings.name!a}, not {uri.name!a}")
        return uri

    def _prove(self, held: HeldKey) -> None:
        """Open what was sealed to a new key: not every token that makes keys lets derived secrets be read."""
        slot = held.key.slot(_TRIAL, bytes(DATA_KEY_SIZE))
        wipe(self.open_slot(held, _TRIAL, slot.sealed))

    def _run(self, work: Callable[[pkcs11.Session], T]) -> T:
        if not self._lock.acquire(timeout=_WAIT_SECONDS):
            raise Unavailable(f"token {self._settings.name}: does not answer", remedy="look after the token")
        try:
            with suppress(PKCS11Error):
                return work(self._connected())
            self._disconnect()  # it may have gone and come back, which sessions do not survive: once more
            return work(self._connected())
        except PKCS11Error as error:
            self._disconnect()
            said = f"{type(error).__name__} {error}".strip()
            _log.warning("token failed", token=self._settings.name, error=said)
            remedy = "put the token back, which is enough, or correct keys.pkcs11 in verifier.yaml and restart"
            raise Unavailable(f"token {self._settings.name}: {said}", remedy=remedy) from error
        finally:
            self._lock.release()

    def _connected(self) -> pkcs11.Session:
        if self._session is None:
            self._session = self._log_in()
        self._session.generate_random(_PROBE_BITS)
        return self._session

    def _log_in(self) -> pkcs11.Session:
        if self._pin_refused:
            raise self._wrong_pin()
        self._library = pkcs11.lib(str(self._settings.module))
        token = self._library.get_token(token_label=self._settings.name)
        try:
            session = token.open(rw=True, user_pin=self._pin)
        except _PIN_REFUSED as error:
            self._pin_refused = True
            _log.error("token refuses the PIN", token=self._settings.name, error=type(error).__name__)
            raise self._wrong_pin() from error
        _log.info("token ready", token=self._settings.name)
        return session

    def _disconnect(self) -> None:
        self._session = None
        if self._library is not None:
            with suppress(PKCS11Error):
                self._library.finalize()

    def _wrong_pin(self) -> Unavailable:
        remedy = "correct the PIN, then restart nodeseal-verifier; it is not tried again, which would lock the token"
        return Unavailable(f"token {self._settings.name}: refuses the PIN", remedy=remedy)


def _generate(session: pkcs11.Session, uri: TokenUri) -> bytes:
    """Make a key pair (CKM_EC_KEY_PAIR_GEN) and return its point, uncompressed."""
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp384r1")}
    parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
    public, private = parameters.generate_keypair(
        id=uri.object_id,
        label=uri.label,
        store=True,
        capabilities=MechanismFlag.DERIVE,
        mechanism=Mechanism.EC_KEY_PAIR_GEN,
        private_template=_TEMPLATE,
    )
    require_locked_in(private)
    point: bytes = public[Attribute.EC_POINT]
    return point.removeprefix(_OCTET_STRING) if len(point) > Suite.P384.public_size else point


def require_locked_in(private: pkcs11.PrivateKey) -> None:
    """Refuse, and destroy, a new key that its token did not make or would let out.

    Raises:
        Unavailable: the token does not keep such keys.
    """
    if any(private[attribute] != expected for attribute, expected in _LOCKED_IN.items()):
        private.destroy()
        raise Unavailable("the token does not keep private keys to itself", remedy="use another token")


def _agree(session: pkcs11.Session, uri: TokenUri, point: bytes) -> bytearray:
    """Return the x coordinate that key and point share; a point may be given raw (PKCS#11 v2.40 §2.3.8)."""
    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.EC, Attribute.ID: uri.object_id}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise pkcs11.NoSuchKey(f"it holds {len(found)} keys {uri.encode()}")
    readable = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    shared = cast("DeriveMixin", found[0]).derive_key(
        KeyType.GENERIC_SECRET,
        _DH_BITS,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, point),
        store=False,
        template=readable,
    )
    try:
        return bytearray(shared[Attribute.VALUE])
    finally:
        shared.destroy()
