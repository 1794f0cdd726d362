"""``nodeseal-verifier init`` and ``person``: whole folders or none, private keys private."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_identity import PeerKind, peer_identity
from nodeseal.errors import MalformedInput, NotFound, OutOfOrder
from nodeseal.ids import PersonId
from nodeseal.verifier.config import load_config
from nodeseal.verifier.enrolment.vendors import load_vendors
from nodeseal.verifier.ledger.log import load_mac_key
from nodeseal.verifier.main import app
from nodeseal.verifier.people.persons import Newcomer, People, parse_roles
from nodeseal.verifier.results.tokens import EarSigner
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.states import PEOPLE, Role
from nodeseal.verifier.store.database import opened_engine, run
from nodeseal.verifier.store.migrate import check_schema
from nodeseal.verifier.store.persons import list_persons
from support import certificates as made

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PLAN = SetupPlan(
    trust_domain="example.org",
    server_names=("verifier.example.org", "127.0.0.1"),
    listen="127.0.0.1:7443",
    listen_enrol="127.0.0.1:7444",
    ek_roots=None,
    admin=PersonId("admin"),
    own=OwnCertificates(),
)


def der_of(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_init_makes_everything_and_nothing_secret_is_readable_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    initialise(folder, PLAN, NOW)
    config = load_config(folder / "verifier.yaml")
    for secret in (config.tls.ca_key, config.tls.key, config.kek, config.ear_key, folder / "persons/admin/person.key"):
        assert secret.stat().st_mode & 0o077 == 0, secret
    assert folder.stat().st_mode & 0o077 == 0
    assert peer_identity(der_of(config.tls.certificate)).kind is PeerKind.VERIFIER
    admin = peer_identity(der_of(folder / "persons/admin/person.pem"))
    assert (admin.kind, admin.name, admin.trust_domain) == (PeerKind.PERSON, "admin", "example.org")
    assert 'verifier: "verifier.example.org:7443"' in (folder / "persons/admin/client.yaml").read_text()
    with opened_engine(config.database) as engine:
        check_schema(engine)
        (person,) = run(engine, list_persons)
    assert (person.roles, person.certificate_sha256) == (PEOPLE, admin.certificate_sha256)


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    initialise(tmp_path / "v", PLAN, NOW)
    before = (tmp_path / "v/ca.pem").read_bytes()
    with pytest.raises(MalformedInput, match="exists already"):
        initialise(tmp_path / "v", PLAN, NOW)
    assert (tmp_path / "v/ca.pem").read_bytes() == before


def test_an_init_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    empty = tmp_path / "roots"
    empty.mkdir()
    with pytest.raises(MalformedInput, match="holds no certificates"):
        initialise(tmp_path / "v", replace(PLAN, ek_roots=empty), NOW)
    assert list(tmp_path.iterdir()) == [empty]


def a_vendor_folder(folder: Path) -> Path:
    """Return a folder with a root, intermediates below it in other letters, and files that are none."""
    (folder / "Infineon" / "old").mkdir(parents=True)
    (folder / "Root.CER").write_bytes(made.root())
    (folder / "Infineon" / "old" / "one.Pem").write_text(ssl.DER_cert_to_PEM_cert(made.intermediate()))
    (folder / "Infineon" / "broken.crt").write_bytes(b"no certificate")
    (folder / "README.md").write_text("hello")
    return folder


def test_init_takes_whole_folders_and_says_what_it_left_out(tmp_path: Path) -> None:
    source = a_vendor_folder(tmp_path / "vendors")
    vendors = initialise(tmp_path / "v", replace(PLAN, ek_roots=source), NOW)
    copied = tmp_path / "v" / "ek-roots"
    assert {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()} == {
        "Root.CER",
        "Infineon/old/one.Pem",
    }
    assert (copied / "Root.CER").read_bytes() == (source / "Root.CER").read_bytes()
    assert [each.name for each in vendors.left_out] == ["Infineon/broken.crt", "README.md"]
    again = load_vendors(copied, "ek_roots")
    assert (again.roots, again.intermediates) == (vendors.roots, vendors.intermediates)


def test_init_says_how_many_certificates_of_whom_it_took(tmp_path: Path) -> None:
    source = a_vendor_folder(tmp_path / "vendors")
    command = ["init", str(tmp_path / "v"), "--trust-domain", "example.org", "--ek-roots", str(source)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "vendors:  1 root, 1 intermediate\n" in result.output
    assert "  Root (1 root, 0 intermediates)\n" in result.output
    assert "left out: 2\n  Infineon/broken.crt: certificate: certificate is missing" in result.output
    assert "  README.md: not a certificate by its name" in result.output


def test_init_without_vendors_says_that_no_tpm_is_trusted(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "v"), "--trust-domain", "example.org"])
    assert "0 roots, 0 intermediates; no TPM is trusted by its certificate" in result.output


def check(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["ek", "check", *map(str, arguments)])
    return result.exit_code, result.output


def test_ek_check_explains_a_good_chain(tmp_path: Path) -> None:
    source = a_vendor_folder(tmp_path / "vendors")
    (tmp_path / "ek.der").write_bytes(made.ek_certificate() + b"\xff" * 40)
    code, output = check(tmp_path / "ek.der", "--ek-roots", source)
    assert code == 0
    assert output.splitlines() == [
        "1. (empty name): ECC P256, TPM id:4E534C00 Test id:00010002, 2025-01-01 to 2035-01-01, as shown",
        "2. Intermediate: ECC P256, 2025-01-01 to 2035-01-01, Infineon/old/one.Pem",
        "3. Root: ECC P256, 2025-01-01 to 2035-01-01, Root.CER",
        "root: Root, Root.CER",
        "trusted: an endorsement key with this certificate may enrol",
    ]


def test_ek_check_takes_the_vendors_of_a_verifier_and_the_authorities_of_the_tpm(tmp_path: Path) -> None:
    (tmp_path / "vendors").mkdir()
    (tmp_path / "vendors" / "root.pem").write_bytes(made.root())
    initialise(tmp_path / "v", replace(PLAN, ek_roots=tmp_path / "vendors"), NOW)
    (tmp_path / "ek.der").write_bytes(made.ek_certificate())
    (tmp_path / "chain.der").write_bytes(made.intermediate())
    config = tmp_path / "v" / "verifier.yaml"
    code, output = check(tmp_path / "ek.der", "--config", config)
    assert code == 1
    assert "no root: Intermediate issued the last one and is not there" in output
    assert check(tmp_path / "ek.der", tmp_path / "chain.der", "--config", config)[0] == 0


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param(
            replace(made.EK, extensions=(made.usage(2), *made.EK.extensions[2:])),
            "tolerated: key usage keyEncipherment for an EC key, as Intel PTT has it [ec-key-encipherment]",
            id="tolerated",
        ),
        pytest.param(replace(made.EK, not_after="20250201000000Z"), "refused: ek.certificate-expired (", id="expired"),
        pytest.param(replace(made.EK, extensions=(made.usage(4),)), "refused: ek.certificate-usage (", id="e13"),
        pytest.param(
            replace(made.EK, key=made.key_info(made.ec_key("p224", ec.SECP224R1()))), "refused: ek.weak-key", id="weak"
        ),
    ],
)
def test_ek_check_names_what_is_odd_and_what_is_wrong(tmp_path: Path, facts: made.Facts, text: str) -> None:
    source = a_vendor_folder(tmp_path / "vendors")
    (tmp_path / "ek.der").write_bytes(made.ek_certificate(facts))
    code, output = check(tmp_path / "ek.der", "--ek-roots", source)
    assert text in output
    assert code == ("refused" in output)
    assert ("\n  do: " in output) == ("refused" in output)


@pytest.mark.parametrize("options", [[], ["--ek-roots", "x", "--config", "y"]])
def test_ek_check_wants_the_vendors_from_one_place(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "ek.der").write_bytes(made.ek_certificate())
    code, output = check(tmp_path / "ek.der", *options)
    assert code == 2
    assert "either" in output


def test_own_certificates_are_taken(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("ours", NOW, 100)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "ca.key").write_bytes(authority.private_key_pem())
    own = OwnCertificates(authority=(tmp_path / "ca.pem", tmp_path / "ca.key"))
    initialise(tmp_path / "v", replace(PLAN, own=own), NOW)
    assert (tmp_path / "v/ca.pem").read_bytes() == authority.certificate_pem


def test_an_upgrade_makes_the_key_that_older_versions_lack_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    initialise(tmp_path / "v", PLAN, NOW)
    config, key = tmp_path / "v/verifier.yaml", tmp_path / "v/ear.key"
    key.unlink()
    upgrade = ["upgrade", "--config", str(config)]
    assert CliRunner().invoke(app, upgrade).exit_code == 0
    made = key.read_bytes()
    assert key.stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(app, upgrade).exit_code == 0
    assert key.read_bytes() == made
    shown = CliRunner().invoke(app, ["ear-key", "--config", str(config)])
    assert json.loads(shown.output) == json.loads(EarSigner(made).public_jwk)
    assert "d" not in json.loads(shown.output)


def test_an_upgrade_makes_no_second_key_for_a_log_that_has_begun(tmp_path: Path) -> None:
    initialise(tmp_path / "v", PLAN, NOW)
    (tmp_path / "v/acts.key").unlink()
    upgraded = CliRunner().invoke(app, ["upgrade", "--config", str(tmp_path / "v/verifier.yaml")])
    assert "keys.acts" in str(upgraded.exception)
    assert not (tmp_path / "v/acts.key").exists()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """The database of a new verifier in ``v``."""
    initialise(tmp_path / "v", PLAN, NOW)
    with opened_engine(tmp_path / "v/verifier.sqlite") as engine:
        yield engine


def test_people_come_and_go_and_come_back_with_another_certificate(engine: sa.Engine, tmp_path: Path) -> None:
    authority = CertificateAuthority.load((tmp_path / "v/ca.pem").read_bytes(), (tmp_path / "v/ca.key").read_bytes())
    kim = Newcomer(
        name=PersonId("kim"),
        roles=frozenset({Role.VIEWER}),
        trust_domain="example.org",
        verifier="localhost:7443",
        actor="test",
    )
    people = People(engine=engine, mac_key=load_mac_key(tmp_path / "v/acts.key"), at=NOW)
    people.add(authority, kim, tmp_path / "kim")
    with pytest.raises(OutOfOrder, match="somebody called kim already"):
        people.add(authority, kim, tmp_path / "again")
    people.remove(kim.name, "test")
    with pytest.raises(NotFound):
        people.remove(kim.name, "test")
    assert [person.name for person in run(engine, list_persons)] == ["admin"]
    people.add(authority, kim, tmp_path / "third")
    (person,) = (person for person in run(engine, list_persons) if person.name == "kim")
    assert person.certificate_sha256 == peer_identity(der_of(tmp_path / "third/person.pem")).certificate_sha256


@pytest.mark.parametrize("roles", [[], ["node"], ["anonymous"], ["viewer", "root"]])
def test_only_roles_of_people_are_given(roles: list[str]) -> None:
    with pytest.raises(MalformedInput, match="not roles"):
        parse_roles(roles)


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["--help"], 0, "Start here"),
        (["init", "--help"], 0, "Example:"),
        (["run", "--help"], 0, "Example:"),
        (["person", "add", "--help"], 0, "Example:"),
        (["ek", "check", "--help"], 0, "Example:"),
        (["init", "x", "--trust-domain", "Bad Domain"], 2, "trust domain"),
        (["init", "x", "--trust-domain", "ok", "--ca-cert", "only.pem"], 2, "go together"),
        (["run"], 2, "--config"),
    ],
)
def test_the_command_explains_itself_and_its_misuse(command: list[str], code: int, text: str) -> None:
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code
    assert text in result.output


def test_a_persons_client_calls_the_verifier_by_a_name_of_its_certificate(tmp_path: Path) -> None:
    def typed(*command: str) -> str:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        return result.output

    names = ("--server-name", "verifier.example.org", "--server-name", "10.0.0.1")
    typed("init", str(tmp_path / "v"), "--trust-domain", "example.org", *names, "--listen", "127.0.0.1:17443")
    config = ("--config", str(tmp_path / "v" / "verifier.yaml"))
    made = typed("person", "add", "kim", "--role", "viewer", "-o", str(tmp_path / "kim"), *config)
    assert str(tmp_path / "kim") in made
    assert 'verifier: "verifier.example.org:17443"' in (tmp_path / "kim" / "client.yaml").read_text()
    assert "verifier.example.org:17443" in typed("person", "renew", "kim", "-o", str(tmp_path / "kim-2"), *config)
    assert "kim: removed" in typed("person", "remove", "kim", *config)
