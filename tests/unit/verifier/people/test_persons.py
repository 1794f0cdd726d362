"""People on the verifier's host: each command does all of its work, or none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nodeseal.errors import MalformedInput, NotFound, OutOfOrder, Unavailable
from nodeseal.ids import PersonId
from nodeseal.verifier.checks.start import faults_beside
from nodeseal.verifier.config import load_config
from nodeseal.verifier.main import app
from nodeseal.verifier.people.renewals import first_use
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.store.database import opened_engine, run
from nodeseal.verifier.store.persons import Person, find_person, list_persons, put_next_certificate

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "v"
    plan = SetupPlan(
        trust_domain="test.example",
        server_names=("localhost",),
        listen="127.0.0.1:7443",
        listen_enrol="127.0.0.1:7444",
        ek_roots=None,
        admin=PersonId("ada"),
        own=OwnCertificates(),
    )
    initialise(folder, plan, NOW)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A verifier's folder with one person, who has all roles."""
    return Path(shutil.copytree(made, tmp_path / "v"))


def command(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(folder / "verifier.yaml")])


def person(folder: Path, name: str) -> Person | None:
    with opened_engine(folder / "verifier.sqlite") as engine:
        return run(engine, lambda connection: find_person(connection, PersonId(name)))


def names(folder: Path) -> list[str]:
    with opened_engine(folder / "verifier.sqlite") as engine:
        return [each.name for each in run(engine, list_persons)]


def add(folder: Path, name: str, output: Path, role: str = "operator") -> Result:
    return command(folder, "person", "add", name, "--role", role, "-o", str(output))


def test_a_person_is_added_with_a_folder_that_is_whole(folder: Path) -> None:
    assert add(folder, "kim", folder / "kim").exit_code == 0
    assert sorted(path.name for path in (folder / "kim").iterdir()) == [
        "ca.pem",
        "client.yaml",
        "person.key",
        "person.pem",
    ]
    assert (folder / "kim" / "person.key").stat().st_mode & 0o777 == 0o600
    assert names(folder) == ["ada", "kim"]


def used(path: Path) -> None:
    path.mkdir()
    (path / "person.key").write_text("mine")


IN_THE_WAY: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "a folder with files": (used, MalformedInput),
    "a file": (Path.touch, MalformedInput),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_a_person_is_not_added_where_their_folder_has_no_place(folder: Path, case: str) -> None:
    put, error = IN_THE_WAY[case]
    put(folder / "kim")
    before = sorted(folder.rglob("*"))
    assert isinstance(add(folder, "kim", folder / "kim").exception, error)
    assert names(folder) == ["ada"]
    assert sorted(folder.rglob("*")) == before


def test_a_person_is_not_added_below_a_file(folder: Path) -> None:
    assert isinstance(add(folder, "kim", folder / "kek" / "kim").exception, Unavailable)
    assert names(folder) == ["ada"]


def test_a_person_whose_name_is_taken_leaves_no_folder(folder: Path) -> None:
    refused = add(folder, "ada", folder / "ada").exception
    assert isinstance(refused, OutOfOrder)
    assert "person renew ada" in refused.remedy
    assert not (folder / "ada").exists()


def test_the_last_approver_is_removed_only_on_purpose(folder: Path) -> None:
    add(folder, "kim", folder / "kim")
    refused = command(folder, "person", "remove", "ada").exception
    assert isinstance(refused, OutOfOrder)
    assert "--last" in refused.remedy
    assert names(folder) == ["ada", "kim"]
    assert command(folder, "person", "remove", "kim").exit_code == 0
    assert command(folder, "person", "remove", "ada", "--last").exit_code == 0
    assert names(folder) == []


def test_one_of_two_approvers_may_go(folder: Path) -> None:
    add(folder, "kim", folder / "kim", role="approver")
    assert command(folder, "person", "remove", "ada").exit_code == 0


def test_an_approver_whose_certificate_has_expired_is_none(folder: Path) -> None:
    add(folder, "kim", folder / "kim", role="approver")
    expire = "UPDATE persons SET expires = 1 WHERE name = 'kim'"
    with opened_engine(folder / "verifier.sqlite") as engine:
        run(engine.execution_options(writes=True), lambda connection: connection.exec_driver_sql(expire))
    assert isinstance(command(folder, "person", "remove", "ada").exception, OutOfOrder)
    assert command(folder, "person", "remove", "kim").exit_code == 0


def test_a_renewal_on_the_host_ends_the_certificate_of_before_and_keeps_the_roles(folder: Path) -> None:
    before = person(folder, "ada")
    assert command(folder, "person", "renew", "ada", "-o", str(folder / "ada")).exit_code == 0
    after = person(folder, "ada")
    assert before is not None
    assert after is not None
    assert (after.roles, after.added) == (before.roles, before.added)
    assert after.certificate_sha256 != before.certificate_sha256
    assert after.next_certificate_sha256 is None
    assert (folder / "ada" / "client.yaml").exists()


def test_nobody_is_renewed_who_is_not_there(folder: Path) -> None:
    result = command(folder, "person", "renew", "kim", "-o", str(folder / "kim"))
    assert isinstance(result.exception, NotFound)
    assert not (folder / "kim").exists()


def test_the_list_shows_when_certificates_end(folder: Path) -> None:
    (row,) = json.loads(command(folder, "person", "list", "--json").stdout)
    assert datetime.fromisoformat(row["expires"]) - NOW == timedelta(days=365)
    assert f"until {NOW + timedelta(days=365):%Y-%m-%d}" in command(folder, "person", "list").stdout


@pytest.mark.parametrize(("days", "said"), [(300, ""), (330, "expires on"), (366, "expired on")])
def test_certificates_of_people_that_end_are_named_weeks_ahead(folder: Path, days: int, said: str) -> None:
    faults, _ = faults_beside(
        load_config(folder / "verifier.yaml"), folder / "verifier.yaml", NOW + timedelta(days=days)
    )
    whats = [fault.what for fault in faults if "person ada" in fault.what]
    assert [said in what for what in whats] == ([True] if said else [])
    assert any("no approver" in fault.what for fault in faults) is (days > 365)
    assert not any(fault.fatal for fault in faults)


def test_the_servers_certificate_is_renewed_with_its_names(folder: Path) -> None:
    (folder / "server.pem").chmod(0o644)
    before = (folder / "server.pem").read_bytes()
    assert command(folder, "renew-server").exit_code == 0
    assert (folder / "server.pem").read_bytes() != before
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600
    faults, _ = faults_beside(load_config(folder / "verifier.yaml"), folder / "verifier.yaml", datetime.now(UTC))
    assert not [fault for fault in faults if fault.field.startswith("tls.certificate") and fault.fatal]
    assert command(folder, "renew-server", "--server-name", "verifier.example").exit_code == 0
    faults, _ = faults_beside(load_config(folder / "verifier.yaml"), folder / "verifier.yaml", datetime.now(UTC))
    assert any("is for verifier.example" in fault.what for fault in faults)


def test_a_server_certificate_of_another_authority_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "other"), "--trust-domain", "other.example"])
    shutil.copy(tmp_path / "other" / "server.pem", folder / "server.pem")
    shutil.copy(tmp_path / "other" / "server.key", folder / "server.key")
    before = (folder / "server.pem").read_bytes()
    result = command(folder, "renew-server")
    assert isinstance(result.exception, MalformedInput)
    assert "of another authority" in str(result.exception)
    assert (folder / "server.pem").read_bytes() == before


@pytest.mark.parametrize(("used", "ends"), [(b"n" * 32, True), (b"o" * 32, False)], ids=["the next", "an older one"])
def test_only_the_certificate_that_waits_ends_the_one_before(folder: Path, used: bytes, *, ends: bool) -> None:
    ada = PersonId("ada")
    with opened_engine(folder / "verifier.sqlite") as engine:
        writes = engine.execution_options(writes=True)
        run(writes, lambda connection: put_next_certificate(connection, ada, b"n" * 32, NOW))
        acts = run(engine, lambda connection: first_use(connection, ada, used)).acts
    assert bool(acts) is ends
