"""How a newcomer gets a client: a key and a request made here, and an invitation from somebody who may invite.

The private key never leaves the newcomer's folder. The invitation holds nothing secret: the certificate, the verifier's
authority and its address. Whoever changes it on its way can keep the newcomer out, or show them another verifier; so it
should come from somebody they know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeseal.client.config import load_client
from nodeseal.crypto.tls_files import certificates_in, public_key_in
from nodeseal.crypto.tls_identity import PeerKind, peer_identity
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.documents import Fields, decode_json, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.files import MAX_PEM, PRIVATE, PUBLIC, naming, read_small, write_file
from nodeseal.ids import PersonId

REQUEST: Final = "person.csr"
MAX_REQUEST: Final = 16 * 1024
_FORMAT: Final = "nodeseal/invitation/1"
MAX_INVITATION: Final = 256 * 1024
"""Bytes of an invitation."""
_CLIENT: Final = 'verifier: "{verifier}"\nca: "ca.pem"\ncertificate: "person.pem"\nkey: "person.key"\n'


def begin_enrolment(folder: Path, name: PersonId) -> Path:
    """Make a folder with a new key and a request for a certificate; return the request's path.

    Raises:
        Unavailable: the folder exists, or cannot be written.
    """
    key = new_tls_key()
    with naming(folder):
        folder.mkdir(mode=0o700, parents=True)
    write_file(folder / "person.key", key, PRIVATE)
    write_file(folder / REQUEST, certificate_request(key, name), PUBLIC)
    return folder / REQUEST


def encode_invitation(certificate: bytes, client: Path) -> bytes:
    """Return an invitation to the verifier that the folder ``client`` calls.

    Raises:
        MalformedInput: the folder does not parse.
    """
    config = load_client(client)
    ca = read_small(config.ca, MAX_PEM).decode()
    return encode_json(
        {"format": _FORMAT, "verifier": config.verifier, "ca": ca, "certificate": certificate.decode("ascii")}
    )


def finish_enrolment(folder: Path, name: PersonId, invitation: bytes) -> None:
    """Make a client of a folder with a key, by an invitation for this key.

    Raises:
        MalformedInput: the invitation does not parse, or is for somebody else or another key.
        Unavailable: the folder cannot be written.
    """
    if len(invitation) > MAX_INVITATION:
        raise MalformedInput(f"invitation: more than {MAX_INVITATION} bytes")
    fields = Fields(decode_json(invitation, "invitation"), "invitation")
    fields.constant("format", _FORMAT)
    verifier = fields.text("verifier", max_length=300)
    ca, certificate = _pem(fields, "ca"), _pem(fields, "certificate")
    fields.done()
    if '"' in verifier or "\\" in verifier:
        raise fields.wrong("verifier", "an address")
    identity = peer_identity(certificates_in(certificate)[0].der)
    same_key = certificates_in(certificate)[0].public_key == public_key_in(read_small(folder / "person.key", MAX_PEM))
    if (identity.kind, identity.name) != (PeerKind.PERSON, name) or not same_key:
        raise MalformedInput("the invitation is for somebody else, or for another key")
    write_file(folder / "ca.pem", ca, PUBLIC)
    write_file(folder / "person.pem", certificate, PUBLIC)
    write_file(folder / "client.yaml", _CLIENT.format(verifier=verifier).encode(), PUBLIC)


def _pem(fields: Fields, key: str) -> bytes:
    value = fields.take(key)
    if not isinstance(value, str) or len(value) > MAX_PEM or not value.isascii():
        raise fields.wrong(key, "PEM")
    return value.encode("ascii")
