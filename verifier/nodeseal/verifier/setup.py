"""``nodeseal-verifier init``: everything a verifier needs, in one folder that appears whole or not at all.

``renew-server`` replaces the server's certificate in it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.keywrap import new_kek
from nodeseal.crypto.tls_files import certificates_in
from nodeseal.crypto.tls_identity import peer_identity, to_pem
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput
from nodeseal.files import (
    PRIVATE,
    PUBLIC,
    naming,
    new_folder,
    read_file,
    read_private,
    replace_file,
    sync_folder,
    write_file,
    write_new,
)
from nodeseal.ids import PersonId
from nodeseal.verifier.config import (
    DEFAULT_ACTS_KEY,
    DEFAULT_CHECKPOINT,
    DEFAULT_EAR_KEY,
    DEFAULT_JOURNAL,
    DEFAULT_LOG_KEY,
    Config,
    TlsSettings,
    join_address,
    split_address,
)
from nodeseal.verifier.enrolment.vendors import SUFFIXES, Vendors, load_vendors
from nodeseal.verifier.ledger.acts import VERIFIER
from nodeseal.verifier.ledger.log import load_mac_key, make_mac_key, open_log, open_tree
from nodeseal.verifier.ledger.tree.log_tree import LogTree, load_log_key, make_log_key
from nodeseal.verifier.people.persons import Newcomer, People
from nodeseal.verifier.people.rulebook import set_first_rules
from nodeseal.verifier.states import PEOPLE
from nodeseal.verifier.store.database import made_engine
from nodeseal.verifier.store.migrate import migrate

_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 825
_CONFIG: Final = """\
# Settings of nodeseal-verifier. Paths are relative to this folder.
trust_domain: "{trust_domain}"
listen: "{listen}"              # nodes and people; both sides show certificates
listen_enrol: "{listen_enrol}"        # enrolment; only the verifier shows one
tls:
  ca: "ca.pem"
  ca_key: "ca.key"
  certificate: "server.pem"
  key: "server.key"
  node_hours: 24                      # how long a node's certificate is valid
database: "verifier.sqlite"
journal: "journal"                    # what was taken away and is not in the database yet
checkpoint: "checkpoint"              # the log's last one, to see that the database was not put back; never restore it
keys:
  folder: "keys"
  kek: "kek"                          # systemd's credential nodeseal-kek goes before it
  ear: "ear.key"                      # signs tokens about nodes for relying parties
  acts: "acts.key"                    # authenticates the log; systemd's credential nodeseal-acts-key goes before it
  log: "log.key"                      # signs the log's checkpoints; nodeseal-log-key goes before it
enrolment:
  ek_roots: "ek-roots"                # certificates of the TPM vendors you trust, in folders as you like
  ek_allow: []                        # SHA-256 of endorsement keys you trust without a certificate
  deadline_seconds: 30
  concurrent: 256
  per_minute: 30
attestation:
  interval_seconds: 30
  trust_seconds: 120
  answer_within_seconds: 15
  # quirks: "quirks.yaml"             # known faults of your firmware: docs/boot-claims.md
  pcrs:                               # what a node quotes, in those of the banks that it has: docs/boot-claims.md
    sha256: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
release:
  per_minute: 60
log: "json"                           # or console
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificates:
    """Certificates that exist already, in PEM. Those left out are made.

    Attributes:
        authority: certificate and key of the authority.
        server: certificate and key of the verifier.
    """

    authority: tuple[Path, Path] | None = None
    server: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupPlan:
    """Settings of a new verifier.

    Attributes:
        trust_domain: SPIFFE trust domain.
        server_names: DNS names and IP addresses under which clients reach the verifier; the first stands in
            ``client.yaml``.
        listen: address for nodes and people.
        listen_enrol: address for enrolment.
        ek_roots: folder of vendors' certificates, or None.
        admin: the first person; gets every role.
        own: certificates that exist already.
    """

    trust_domain: str
    server_names: tuple[str, ...]
    listen: str
    listen_enrol: str
    ek_roots: Path | None
    admin: PersonId
    own: OwnCertificates


def initialise(folder: Path, plan: SetupPlan, at: datetime) -> Vendors:
    """Make ``folder`` with certificates, database, keys, ``verifier.yaml`` and the first person's bundle.

    Returns:
        What was taken of the folder of vendors' certificates, and what was left out.

    Raises:
        MalformedInput: the folder exists and is not empty, or something in the plan does not parse.
        Unavailable: the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MalformedInput(f"{folder}: exists already", remedy="name a folder that does not exist yet")
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as draft:
        return _fill(draft, plan, at)


def _fill(folder: Path, plan: SetupPlan, at: datetime) -> Vendors:
    authority = _authority(plan, at)
    write_new(folder / "ca.pem", authority.certificate_pem, PUBLIC)
    write_new(folder / "ca.key", authority.private_key_pem())
    certificate, key = _server(authority, plan, at)
    write_new(folder / "server.pem", certificate, PUBLIC)
    write_new(folder / "server.key", key)
    write_new(folder / "kek", new_kek())
    make_ear_key(folder / DEFAULT_EAR_KEY)
    make_mac_key(folder / DEFAULT_ACTS_KEY)
    make_log_key(folder / DEFAULT_LOG_KEY)
    (folder / DEFAULT_JOURNAL).mkdir(mode=0o700)
    (folder / "keys").mkdir(mode=0o700)
    vendors = _copy_vendors(plan.ek_roots, folder / "ek-roots")
    listen = {"listen": plan.listen, "listen_enrol": plan.listen_enrol}
    write_new(folder / "verifier.yaml", _CONFIG.format(trust_domain=plan.trust_domain, **listen).encode(), PUBLIC)
    _make_database(folder, plan, authority, at)
    return vendors


def make_ear_key(path: Path) -> None:
    """Make the key that tokens about nodes are signed with, unless there is one.

    Raises:
        Unavailable: it cannot be written.
    """
    if not path.exists():
        write_new(path, new_tls_key())


def _make_database(folder: Path, plan: SetupPlan, authority: CertificateAuthority, at: datetime) -> None:
    with made_engine(folder / "verifier.sqlite") as engine:
        migrate(engine)
        mac_key = load_mac_key(folder / DEFAULT_ACTS_KEY)
        open_log(engine, mac_key, at)
        tree = LogTree(load_log_key(folder / DEFAULT_LOG_KEY), plan.trust_domain, folder / DEFAULT_CHECKPOINT)
        open_tree(engine, mac_key, tree)
        set_first_rules(engine, mac_key, at)
        host = plan.server_names[0]
        verifier = join_address(host, split_address(plan.listen)[1])
        newcomer = Newcomer(
            name=plan.admin, roles=PEOPLE, trust_domain=plan.trust_domain, verifier=verifier, actor=VERIFIER
        )
        People(engine=engine, mac_key=mac_key, at=at).add(authority, newcomer, folder / "persons" / plan.admin)


def _authority(plan: SetupPlan, at: datetime) -> CertificateAuthority:
    if plan.own.authority is None:
        return CertificateAuthority.create(f"nodeseal {plan.trust_domain}", at, _CA_DAYS)
    certificate, key = plan.own.authority
    return CertificateAuthority.load(read_file(certificate, "--ca-cert"), read_file(key, "--ca-key"))


def _server(authority: CertificateAuthority, plan: SetupPlan, at: datetime) -> tuple[bytes, bytes]:
    if plan.own.server is not None:
        certificate, key_file = plan.own.server
        return read_file(certificate, "--server-cert"), read_file(key_file, "--server-key")
    key = new_tls_key()
    request = certificate_request(key, "verifier")
    lifetime = timedelta(days=_SERVER_DAYS)
    return to_pem(authority.issue_verifier(request, plan.trust_domain, plan.server_names, at, lifetime)), key


def renew_server(config: Config, names: tuple[str, ...], at: datetime) -> datetime:
    """Put a new key and a new certificate of the authority in the place of the server's; return when it ends.

    The key comes first. A verifier that looks in between finds that they do not belong together, and goes on with
    those of before; so does one that looks after a power cut, until this is repeated.

    Args:
        config: where they are.
        names: DNS names and IP addresses; empty: those of the certificate that is there.
        at: the current time.

    Raises:
        MalformedInput: a file does not parse, or the certificate that is there is of another authority.
        Unavailable: they cannot be written.
    """
    authority = CertificateAuthority.load(
        read_file(config.tls.ca, "tls.ca"), read_private(config.tls.ca_key, "tls.ca_key")
    )
    names = names or _names_so_far(config.tls)
    key = new_tls_key()
    request = certificate_request(key, "verifier")
    lifetime = timedelta(days=_SERVER_DAYS)
    certificate = authority.issue_verifier(request, config.trust_domain, names, at, lifetime)
    _put_instead(config.tls.key, key, PRIVATE, config.tls.certificate)
    _put_instead(config.tls.certificate, to_pem(certificate), PUBLIC, config.tls.certificate)
    return peer_identity(certificate).not_after


def _names_so_far(files: TlsSettings) -> tuple[str, ...]:
    served = certificates_in(read_file(files.certificate, "tls.certificate"))[0]
    if not served.issued_by(certificates_in(read_file(files.ca, "tls.ca"))[0]):
        remedy = "get a new one there; to change to this verifier's own authority, give its names: --server-name"
        raise MalformedInput(f"tls.certificate: {files.certificate}: of another authority", remedy=remedy)
    return served.hosts


def _put_instead(path: Path, content: bytes, mode: int, like: Path) -> None:
    """Replace a file; whoever runs the command, it belongs to the owner of ``like``."""
    real = path.resolve()
    with naming(like):
        owner = like.stat()
    draft = real.with_name(f".{real.name}.{secrets.token_hex(8)}")
    replace_file(real, content, draft, mode, (owner.st_uid, owner.st_gid))


def _copy_vendors(source: Path | None, folder: Path) -> Vendors:
    folder.mkdir(mode=0o755)
    if source is None:
        return Vendors()
    vendors = load_vendors(source, "--ek-roots")
    if not vendors.files:
        raise MalformedInput(f"{source}: holds no certificates ({', '.join(SUFFIXES)})")
    for name, content in vendors.files.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_file(path, content, PUBLIC)
    for below in sorted({(folder / name).parent for name in vendors.files}):
        sync_folder(below)
    return vendors
