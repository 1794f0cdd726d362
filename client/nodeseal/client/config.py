"""Which verifier a person's programs call, and as whom.

``nodeseal-verifier init`` and ``nodeseal-verifier person add`` write a folder with a ``client.yaml``::

    verifier: "verifier.example.org:7443"
    ca: "ca.pem"                # the verifier's certificate chains to this
    certificate: "person.pem"   # who you are
    key: "person.key"
    server_name: "verifier"     # only where the verifier's certificate names another host than you call

File names are relative to the folder. It is found by ``--client``, then ``NODESEAL_CLIENT``, then
``~/.config/nodeseal``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.settings import load_yaml

DEFAULT_CLIENT: Final = Path("~/.config/nodeseal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Address of the verifier, and files that prove who calls.

    Attributes:
        verifier: ``host:port`` of the verifier's operator port.
        ca: PEM of the authority that signed the verifier's certificate.
        certificate: PEM of the person's certificate.
        key: PEM of its private key.
        server_name: name in the verifier's certificate if it differs from the host, or an empty string.
    """

    verifier: str
    ca: Path
    certificate: Path
    key: Path
    server_name: str = ""


def load_client(path: Path) -> ClientConfig:
    """Read ``client.yaml`` from a folder, or the file itself.

    Raises:
        MalformedInput: the file does not exist or does not parse.
    """
    path = path.expanduser()
    file = path / "client.yaml" if path.is_dir() else path
    if not file.is_file():
        raise MalformedInput(
            f"{file}: no such file",
            remedy="name the folder that `nodeseal-verifier person add` wrote: --client DIR or NODESEAL_CLIENT",
        )
    fields = load_yaml(file)
    config = ClientConfig(
        verifier=fields.text("verifier"),
        ca=file.parent / fields.text("ca"),
        certificate=file.parent / fields.text("certificate"),
        key=file.parent / fields.text("key"),
        server_name=fields.text("server_name") if fields.has("server_name") else "",
    )
    fields.done()
    return config
