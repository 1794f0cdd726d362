"""Every check of a verifier's setup: a folder in which all is well, and one fact changed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeseal.checks.faults import Fault, Unfit
from nodeseal.crypto.tls_key import new_tls_key
from nodeseal.errors import Unavailable
from nodeseal.files import write_new
from nodeseal.ids import PersonId
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.verifier.checks import start
from nodeseal.verifier.checks.start import faults_beside, proved
from nodeseal.verifier.config import load_config
from nodeseal.verifier.enrolment.vendors import Vendors, load_vendors
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise
from nodeseal.verifier.store.database import opened_engine, run

Change = Callable[[Path], object]
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all is well."""
    folder = tmp_path_factory.mktemp("checks")
    vendor = TpmVendor.create(folder / "vendor")
    plan = SetupPlan(
        trust_domain="test.example",
        server_names=("localhost", "127.0.0.1", "::1"),
        listen="127.0.0.1:0",
        listen_enrol="[::1]:0",
        ek_roots=vendor.roots_dir,
        admin=PersonId("admin"),
        own=OwnCertificates(),
    )
    initialise(folder / "v", plan, NOW)
    return folder / "v"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(whole, tmp_path / "v"))


def faults_of(folder: Path, now: datetime = NOW) -> tuple[Fault, ...]:
    config = folder / "verifier.yaml"
    faults, holder = faults_beside(load_config(config), config, now)
    assert not holder
    return faults


def setting(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        config = folder / "verifier.yaml"
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new))

    return change


def content(name: str, raw: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(raw)


def mode(name: str, bits: int) -> Change:
    return lambda folder: (folder / name).chmod(bits)


def in_place_of(name: str, make: Change) -> Change:
    """Put what ``make`` makes in the place of a file or folder."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return change


def damage(folder: Path) -> None:
    """Overwrite a page of the database, as a failing disk does; no journal of SQLite's hides it.

    Not the last two: the schema lies there, without which SQLite cannot name the damage.
    """
    path = folder / "verifier.sqlite"
    with path.open("r+b") as file:
        file.seek(-12288, os.SEEK_END)
        file.write(b"\xff" * 4096)


def old_schema(folder: Path) -> None:
    with opened_engine(folder / "verifier.sqlite") as engine:
        run(engine, lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'"))


def another_key(name: str) -> Change:
    return in_place_of(name, lambda path: write_new(path, new_tls_key()))


def nothing(_: Path) -> None:
    """Leave the place empty."""


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_link(path: Path) -> None:
    path.symlink_to("nowhere")


FATAL: dict[str, tuple[Change, str, str]] = {
    "a database that is missing": (in_place_of("verifier.sqlite", nothing), "database", "no such file"),
    "a database that is a link to itself": (in_place_of("verifier.sqlite", a_loop), "database", "no such file"),
    "a journal that is a link to itself": (in_place_of("journal", a_loop), "journal", "symbolic links"),
    "a folder for a database": (in_place_of("verifier.sqlite", Path.mkdir), "database", "no such file"),
    "a database that is none": (content("verifier.sqlite", b"x" * 5000), "database", "not a database"),
    "a damaged database": (damage, "database", "damaged"),
    "a database of another version": (old_schema, "database", "schema 0001"),
    "a database that every user may change": (mode("verifier.sqlite", 0o666), "database", "every user may change it"),
    "another key of the log": (content("acts.key", bytes(32)), "database", "MAC is wrong"),
    "a key of the log that others read": (mode("acts.key", 0o644), "keys.acts", "other users may read"),
    "a missing key of the log": (in_place_of("acts.key", nothing), "database", "keys.acts"),
    "a key of checkpoints that others read": (mode("log.key", 0o644), "keys.log", "other users may read"),
    "a missing key of checkpoints": (in_place_of("log.key", nothing), "checkpoint", "keys.log"),
    "a missing checkpoint": (in_place_of("checkpoint", nothing), "checkpoint", "not there"),
    "a checkpoint that is garbage": (content("checkpoint", b"x"), "checkpoint", "no empty line"),
    "a journal that does not parse": (content("journal/x.json", b"{"), "journal", "x.json"),
    "a file for the journal": (in_place_of("journal", Path.touch), "journal", "not a folder"),
    "a journal open to others": (mode("journal", 0o755), "journal", "open to other users"),
    "a short key-encryption key": (content("kek", b"x"), "keys.kek", "key-encryption key: 1 bytes"),
    "a missing key-encryption key": (in_place_of("kek", nothing), "keys.kek", "No such file"),
    "a missing folder of keys": (in_place_of("keys", nothing), "keys.folder", "No such file"),
    "a missing certificate": (in_place_of("server.pem", nothing), "tls.certificate", "No such file"),
    "a certificate that is garbage": (content("server.pem", b"x"), "tls.certificate", "not certificates in PEM"),
    "a folder for a certificate": (in_place_of("server.pem", Path.mkdir), "tls.certificate", "not a regular file"),
    "a pipe for a certificate": (in_place_of("server.pem", os.mkfifo), "tls.certificate", "not a regular file"),
    "a pipe for a key": (in_place_of("server.key", os.mkfifo), "tls.key", "not a regular file"),
    "a link to nowhere": (in_place_of("server.pem", a_link), "tls.certificate", "a link to nowhere"),
    "the key of another certificate": (another_key("server.key"), "tls.key", "not the key of"),
    "a key that is garbage": (content("server.key", b"x"), "tls.key", "not a private key"),
    "a key that others read": (mode("server.key", 0o640), "tls.key", "other users may read"),
    "the key of another authority": (another_key("ca.key"), "tls.ca_key", "does not belong"),
    "an authority that every user may change": (mode("ca.pem", 0o646), "tls.ca", "every user may change it"),
    "settings that every user may change": (mode("verifier.yaml", 0o646), "--config", "every user may change it"),
    "a missing key of tokens": (in_place_of("ear.key", nothing), "keys.ear", "No such file"),
    "a key of tokens that is garbage": (content("ear.key", b"x"), "keys.ear", "not a P-256 private key"),
    "a missing folder of vendors": (in_place_of("ek-roots", nothing), "enrolment.ek_roots", "no such folder"),
    "an address of another machine": (setting('"127.0.0.1:0"', '"192.0.2.1:0"'), "listen", "cannot assign"),
    "a name that does not resolve": (setting('"127.0.0.1:0"', '"nowhere.invalid:0"'), "listen", "no address"),
}


def test_a_folder_in_which_all_is_well_has_no_fault(folder: Path) -> None:
    assert faults_of(folder) == ()
    with proved(load_config(folder / "verifier.yaml"), folder / "verifier.yaml", NOW):
        pass


@pytest.mark.parametrize("case", FATAL)
def test_a_fault_is_named_with_its_remedy_and_refuses_the_start(folder: Path, case: str) -> None:
    change, field, said = FATAL[case]
    change(folder)
    fatal = [fault for fault in faults_of(folder) if fault.fatal]
    assert any(fault.field == field and said in str(fault) for fault in fatal), fatal
    assert all(fault.remedy for fault in fatal)
    config = load_config(folder / "verifier.yaml")
    with pytest.raises(Unfit, match=r"\S"), proved(config, folder / "verifier.yaml", NOW):
        raise AssertionError("it starts")


WARNINGS: dict[str, tuple[Change, str, str]] = {
    "no roots": (in_place_of("ek-roots", Path.mkdir), "enrolment.ek_roots", "no node can enrol"),
    "a vendor's file that is garbage": (content("ek-roots/x.pem", b"x"), "enrolment.ek_roots", "left out: x.pem"),
    "a name that is not in the certificate": (
        setting('"127.0.0.1:0"', '"127.0.0.2:0"'),
        "tls.certificate",
        "127.0.0.2",
    ),
    "a group that may change a certificate": (mode("server.pem", 0o664), "tls.certificate", "may change it"),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_warning_is_named_and_refuses_nothing(folder: Path, case: str) -> None:
    change, field, said = WARNINGS[case]
    change(folder)
    (fault,) = faults_of(folder)
    assert (fault.field, fault.fatal) == (field, False)
    assert said in fault.what
    assert fault.remedy
    with proved(load_config(folder / "verifier.yaml"), folder / "verifier.yaml", NOW):
        pass


@pytest.mark.parametrize(
    ("later", "field", "said", "fatal"),
    [
        pytest.param(timedelta(days=800), "tls.certificate", "expires on", False, id="weeks before its end"),
        pytest.param(timedelta(days=900), "tls.certificate", "expired on", True, id="after its end"),
        pytest.param(timedelta(days=-1), "tls.certificate", "not valid before", True, id="before its begin"),
        pytest.param(timedelta(days=3700), "tls.ca", "expired on", True, id="after the authority's end"),
    ],
)
def test_certificates_are_compared_with_the_clock(
    folder: Path, later: timedelta, field: str, said: str, *, fatal: bool
) -> None:
    found = [fault for fault in faults_of(folder, NOW + later) if fault.field == field]
    assert [(said in fault.what, fault.fatal) for fault in found] == [(True, fatal)]
    assert "clock" in found[0].remedy or not fatal or field == "tls.ca"


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_a_port_in_use_is_named(folder: Path, address: str) -> None:
    family = socket.AF_INET6 if "[" in address else socket.AF_INET
    with closing(socket.socket(family)) as other:
        other.bind((address.strip("[]"), 0))
        other.listen(1)
        setting(f'"{address}:0"', f'"{address}:{other.getsockname()[1]}"')(folder)
        (fault,) = faults_of(folder)
    assert fault.field in {"listen", "listen_enrol"}
    assert "in use" in fault.what
    assert "ss -ltnp" in fault.remedy


def test_two_addresses_that_are_one_are_named(folder: Path) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    setting('"127.0.0.1:0"', f'"127.0.0.1:{port}"')(folder)
    setting('"[::1]:0"', f'"127.0.0.1:{port}"')(folder)
    (fault,) = faults_of(folder)
    assert (fault.field, fault.what) == ("listen_enrol", "the same as listen")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_secret_of_another_user_is_named(folder: Path) -> None:
    os.chown(folder / "server.key", 12345, 12345)
    (fault,) = faults_of(folder)
    assert (fault.field, fault.fatal) == ("tls.key", True)
    assert "belongs to 12345" in fault.what


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_secret_that_the_verifiers_user_cannot_read_is_named(folder: Path) -> None:
    os.chown(folder / "verifier.sqlite", 12345, 12345)
    found = {fault.field for fault in faults_of(folder) if "cannot read it" in fault.what and not fault.fatal}
    assert found == {"tls.key", "tls.ca_key", "keys.ear", "keys.acts", "keys.kek", "keys.log"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_a_killed_verifier_leaves_it(folder: Path) -> None:
    """Put a database there whose last transactions stand in SQLite's write-ahead log alone."""
    work = folder.with_name("work")
    shutil.copytree(folder, work)
    with opened_engine(work / "verifier.sqlite") as engine:
        run(engine, lambda connection: connection.exec_driver_sql("UPDATE persons SET roles = roles"))
        for name in ("verifier.sqlite", "verifier.sqlite-wal", "verifier.sqlite-shm"):
            shutil.copy(work / name, folder / name)


@pytest.mark.parametrize("prepare", [nothing, as_a_killed_verifier_leaves_it], ids=["ended", "killed"])
def test_a_check_changes_nothing(folder: Path, prepare: Change) -> None:
    prepare(folder)
    before = contents(folder)
    assert faults_of(folder) == ()
    after = contents(folder)
    assert sorted(after) == sorted(before)
    assert [name for name in after if after[name] != before[name] and not name.endswith("-shm")] == []


def test_a_start_reads_the_folder_of_vendors_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def load(place: Path) -> Vendors:
        read.append(place)
        return load_vendors(place)

    monkeypatch.setattr(start, "load_vendors", load)
    config = folder / "verifier.yaml"
    with proved(load_config(config), config, NOW) as vendors:
        assert len(vendors.roots) == 1
    assert read == [folder / "ek-roots"]


def test_all_faults_are_shown_at_once(folder: Path) -> None:
    for case in ("a missing certificate", "a short key-encryption key", "a missing folder of vendors"):
        FATAL[case][0](folder)
    assert len([fault for fault in faults_of(folder) if fault.fatal]) == 3


def test_a_verifier_on_the_same_database_behind_a_link_is_kept_away(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "verifier.sqlite").unlink()
    (other / "verifier.sqlite").symlink_to(folder / "verifier.sqlite")
    configs = [each / "verifier.yaml" for each in (folder, other)]
    with (
        proved(load_config(configs[0]), configs[0], NOW),
        pytest.raises(Unavailable, match="uses it"),
        proved(load_config(configs[1]), configs[1], NOW),
    ):
        pass
