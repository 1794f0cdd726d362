"""Renews a person's certificate: the new key is made here, and the files change when the verifier has accepted it.

The fresh pair lies beside the old one as ``….new`` until the verifier has accepted a call with it. That call ends the
old pair, and its answer may get lost: so the fresh one stays, and the next renewal begins with it. Key and certificate
are replaced one after the other. After a power cut between the two, the certificate is still ``….new``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodeseal.client.channel import open_channel
from nodeseal.client.config import ClientConfig, load_client
from nodeseal.client.refusal import Refused
from nodeseal.crypto.tls_files import certificates_in, public_key_in
from nodeseal.crypto.tls_identity import PeerIdentity, PeerKind, peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import MAX_PEM, PRIVATE, PUBLIC, naming, read_small, replace_file, sync_folder

_REPEAT = "repeat it: the fresh pair lies beside yours as ….new, and may be the only one that counts"


def renew(path: Path) -> PeerIdentity:
    """Give the person whose client folder ``path`` is a new key and certificate; return what the certificate says.

    Raises:
        Refused: the verifier does not renew it.
        Unavailable: the verifier does not answer, or the folder cannot be written.
        MalformedInput: a file does not parse, or the verifier's answer makes no sense.
    """
    config = load_client(path)
    fresh = replace(config, certificate=_draft(config.certificate), key=_draft(config.key))
    if not _is_left(fresh):
        _ask(config, fresh)
    try:
        _use(fresh)
    except Unavailable as error:
        raise Unavailable(str(error), remedy=_REPEAT) from error
    with naming(config.key):
        fresh.key.replace(config.key)
        fresh.certificate.replace(config.certificate)
        for folder in {config.key.parent, config.certificate.parent}:
            sync_folder(folder)
    return _identity(read_small(config.certificate, MAX_PEM))


def _is_left(fresh: ClientConfig) -> bool:
    """Tell whether an earlier renewal left a pair that counts: perhaps only the answer to its first use was lost."""
    if not (fresh.key.exists() and fresh.certificate.exists()):
        return False
    try:
        _use(fresh)
    except Refused:
        return False
    return True


def _use(fresh: ClientConfig) -> None:
    """Make a call with a pair; the first one ends the pair before. Whatever comes back, it may count from now on."""
    with open_channel(fresh) as verifier:
        verifier.get_self()


def _ask(config: ClientConfig, fresh: ClientConfig) -> None:
    """Put a fresh pair where ``fresh`` says, or nothing."""
    before = _identity(read_small(config.certificate, MAX_PEM))
    key = new_tls_key()
    _put(fresh.key, key, PRIVATE)
    try:
        with open_channel(config) as verifier:
            chain = verifier.renew_certificate(certificate_request(key, before.name))
        pem = to_pem(*chain[:1])
        _check(pem, key, before)
        _put(fresh.certificate, pem, PUBLIC)
    except BaseException:
        for draft in (fresh.key, fresh.certificate):
            draft.unlink(missing_ok=True)
        raise


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _put(path: Path, content: bytes, mode: int) -> None:
    replace_file(path, content, path.with_name(f".{path.name}"), mode)


def _identity(pem: bytes) -> PeerIdentity:
    return peer_identity(certificates_in(pem)[0].der)


def _check(pem: bytes, key: bytes, before: PeerIdentity) -> None:
    after = _identity(pem)
    named = (after.kind, after.name, after.trust_domain) == (PeerKind.PERSON, before.name, before.trust_domain)
    if not named or certificates_in(pem)[0].public_key != public_key_in(key):
        raise MalformedInput("renewal: the certificate is for somebody else, or for another key")
