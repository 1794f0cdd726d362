"""Several clients of one TPM: each has its own objects and sessions, and room for all it needs."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.swtpm import commands
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.process import TpmProcess
from nodeseal.swtpm.resource_manager import ResourceManager
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import Reader, sized, u8, u16, u32
from nodeseal.tpm.ek_template import template
from support.machines import a_machine, need, tool

SUCCESS = 0
TRANSIENT, LOADED_SESSION, SAVED_SESSION = 0x80000000, 0x02000000, 0x03000000
READ_PUBLIC, START_AUTH_SESSION, POLICY_PCR, POLICY_GET_DIGEST = 0x173, 0x176, 0x17F, 0x189
HASH_START, SEQUENCE_UPDATE, SEQUENCE_COMPLETE = 0x186, 0x15C, 0x13E
NULL, HMAC, POLICY = 0x40000007, 0, 1
PASSWORD = u32(9) + u32(0x40000009) + bytes(5)


class Client:
    """Sends raw commands to a resource manager in this process, as one client."""

    def __init__(self, manager: ResourceManager, number: int) -> None:
        self.manager, self.number = manager, number

    def send(self, code: int, parameters: bytes = b"", tag: int = commands.NO_SESSIONS) -> tuple[int, bytes]:
        message = u16(tag) + u32(10 + len(parameters)) + u32(code) + parameters
        response = self.manager.execute(self.number, message)
        assert int.from_bytes(response[2:6], "big") == len(response)
        return commands.response_code(response), response[10:]

    def done(self, code: int, parameters: bytes = b"", tag: int = commands.NO_SESSIONS) -> bytes:
        result, body = self.send(code, parameters, tag)
        assert result == SUCCESS, hex(result)
        return body

    def create(self) -> int:
        response = self.manager.execute(self.number, commands.create_primary(NULL, template("H-2").public))
        return commands.body(response, "create").u32("handle")

    def name(self, handle: int) -> bytes:
        reader = Reader(self.done(READ_PUBLIC, u32(handle)), "public")
        reader.sized("outPublic", 1024)
        return reader.sized("name", 66)

    def session(self, kind: int = POLICY) -> int:
        nonce = sized(bytes(16)) + sized(b"")
        body = self.done(START_AUTH_SESSION, u32(NULL) * 2 + nonce + u8(kind) + u16(0x10) + u16(HashAlg.SHA256))
        return int.from_bytes(body[:4], "big")

    def policy_digest(self, session: int) -> bytes:
        return self.done(POLICY_GET_DIGEST, u32(session))

    def handles(self, first: int, count: int = 254) -> list[int]:
        reader = Reader(self.done(commands.CommandCode.GET_CAPABILITY, u32(1) + u32(first) + u32(count)), "handles")
        reader.take(5, "more, capability")
        return [reader.u32("handle") for _ in range(reader.u32("count"))]

    def save(self, handle: int) -> bytes:
        return self.done(commands.CommandCode.CONTEXT_SAVE, u32(handle))

    def load(self, context: bytes) -> int:
        return int.from_bytes(self.done(commands.CommandCode.CONTEXT_LOAD, context)[:4], "big")

    def flush(self, handle: int) -> int:
        return self.send(commands.CommandCode.FLUSH_CONTEXT, u32(handle))[0]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[TpmProcess]:
    need("swtpm")
    (tmp_path / "state").mkdir()
    process = TpmProcess(tmp_path / "state", tmp_path / "log")
    process.startup()
    yield process
    process.kill()


@pytest.fixture
def manager(process: TpmProcess) -> ResourceManager:
    return ResourceManager(process.transact)


@pytest.fixture
def one(manager: ResourceManager) -> Client:
    return Client(manager, 1)


@pytest.fixture
def two(manager: ResourceManager) -> Client:
    return Client(manager, 2)


def test_two_clients_with_three_objects_and_three_sessions_each_alternate(one: Client, two: Client) -> None:
    objects = [[client.create() for _ in range(3)] for client in (one, two)]
    sessions = [[client.session() for _ in range(3)] for client in (one, two)]
    names = [[client.name(handle) for handle in own] for client, own in zip((one, two), objects, strict=True)]
    for round_ in range(200):
        for client, own, known, open_ in zip((one, two), objects, names, sessions, strict=True):
            which = round_ % 3
            assert client.name(own[which]) == known[which]
            assert len(client.policy_digest(open_[which])) == 34


def test_handles_are_virtual_and_each_client_has_the_same_ones(one: Client, two: Client) -> None:
    assert one.create() == two.create() == 0x80FFFFFF


def test_one_client_may_hold_more_objects_than_the_tpm_has_slots(one: Client) -> None:
    handles = [one.create() for _ in range(7)]
    assert len({one.name(handle) for handle in handles}) == 1  # a primary key is the same each time
    assert one.handles(TRANSIENT) == sorted(handles)


def test_a_client_has_at_most_64_objects(one: Client) -> None:
    context = one.save(one.create())
    for _ in range(63):
        one.load(context)
    assert one.send(commands.CommandCode.CONTEXT_LOAD, context)[0] == 0x902
    assert len(one.handles(TRANSIENT)) == 64


def test_another_clients_object_does_not_exist(one: Client, two: Client) -> None:
    handle = one.create()
    assert two.send(READ_PUBLIC, u32(handle))[0] == 0x910
    assert two.flush(handle) == 0x1CB
    assert one.name(handle)


def test_another_clients_session_cannot_be_used_or_flushed(one: Client, two: Client) -> None:
    session = one.session()
    assert two.send(POLICY_GET_DIGEST, u32(session))[0] == 0x910
    area = u32(session) + sized(b"") + u8(1) + sized(b"")
    authorised = u32(4) + u32(len(area)) + area + u32(1) + u16(HashAlg.SHA256) + bytes(32)
    assert two.send(commands.CommandCode.PCR_EXTEND, authorised, commands.SESSIONS)[0] == 0x918
    assert two.flush(session) == 0x1CB
    assert one.policy_digest(session)


def test_a_physical_handle_is_of_no_use(one: Client) -> None:
    one.create()
    assert one.send(READ_PUBLIC, u32(TRANSIENT))[0] == 0x910


def test_a_session_keeps_its_state_while_others_push_it_out(one: Client, two: Client) -> None:
    session = one.session()
    selection = u32(1) + u16(HashAlg.SHA256) + b"\3\1\0\0"
    one.done(POLICY_PCR, u32(session) + sized(b"") + selection)
    digest = one.policy_digest(session)
    for _ in range(5):
        two.session()
    assert one.policy_digest(session) == digest != bytes(len(digest))


def test_each_client_sees_only_its_own_handles(one: Client, two: Client) -> None:
    first, second = one.create(), one.create()
    session, other = one.session(), two.session()
    assert one.handles(TRANSIENT) == [second, first]
    assert one.handles(LOADED_SESSION) == [session]
    assert two.handles(TRANSIENT) == []
    assert two.handles(LOADED_SESSION) == [other]


def test_handles_can_be_read_in_pages(one: Client) -> None:
    second, first = one.create(), one.create()
    more = one.done(commands.CommandCode.GET_CAPABILITY, u32(1) + u32(TRANSIENT) + u32(1))
    assert (more[0], more[-4:]) == (1, u32(first))
    assert one.handles(first + 1) == [second]


def test_reading_handles_under_a_session_is_refused_since_its_answer_could_not_be_authentic(one: Client) -> None:
    area = u32(one.session()) + sized(b"") + u8(1) + sized(b"")
    parameters = u32(len(area)) + area + u32(1) + u32(TRANSIENT) + u32(1)
    assert one.send(commands.CommandCode.GET_CAPABILITY, parameters, commands.SESSIONS)[0] == 0x145


def test_an_object_that_a_client_saved_can_be_loaded_by_another(one: Client, two: Client) -> None:
    handle = one.create()
    assert two.name(two.load(one.save(handle))) == one.name(handle)


def test_a_session_that_a_client_saved_belongs_to_whom_loads_it(
    one: Client, two: Client, manager: ResourceManager
) -> None:
    context = one.save(one.session())
    manager.forget(1)
    session = two.load(context)
    assert two.policy_digest(session)
    assert two.handles(LOADED_SESSION) == [session]


def test_flushing_ends_objects_and_sessions_loaded_or_saved(one: Client, two: Client, process: TpmProcess) -> None:
    mine = [one.create(), one.session()]
    for _ in range(3):
        two.create()
        two.session()  # pushes out what client one has
    for handle in mine:
        assert one.flush(handle) == SUCCESS
        assert one.flush(handle) != SUCCESS
    assert len(_physical(process, LOADED_SESSION) + _physical(process, SAVED_SESSION)) == 3


def test_a_session_that_ends_with_its_command_makes_room(one: Client) -> None:
    for _ in range(70):  # libtpms has 64 sessions in all
        area = u32(one.session(HMAC)) + sized(bytes(16)) + u8(0) + sized(b"")
        extend = u32(4) + u32(len(area)) + area + u32(1) + u16(HashAlg.SHA256) + bytes(32)
        one.done(commands.CommandCode.PCR_EXTEND, extend, commands.SESSIONS)
    assert one.handles(LOADED_SESSION) == []


def test_a_sequence_is_gone_when_it_is_complete(one: Client) -> None:
    body = one.done(HASH_START, sized(b"") + u16(HashAlg.SHA256))
    handle = int.from_bytes(body[:4], "big")
    context = u32(handle) + PASSWORD
    one.done(SEQUENCE_UPDATE, context + sized(b"abc"), commands.SESSIONS)
    body = one.done(SEQUENCE_COMPLETE, context + sized(b"") + u32(NULL), commands.SESSIONS)
    assert HashAlg.SHA256.digest(b"abc") in body
    assert one.handles(TRANSIENT) == []


def _physical(process: TpmProcess, first: int) -> list[int]:
    reader = commands.body(process.transact(commands.get_capability(1, first, 254)), "handles")
    reader.take(5, "more, capability")
    return [reader.u32("handle") for _ in range(reader.u32("count"))]


def test_what_a_client_leaves_behind_is_flushed(
    one: Client, two: Client, manager: ResourceManager, process: TpmProcess
) -> None:
    for client in (one, two, one):
        for _ in range(3):
            client.create()
            client.session()
    manager.forget(1)
    manager.forget(2)
    for first in (TRANSIENT, LOADED_SESSION, SAVED_SESSION):
        assert _physical(process, first) == []


def test_after_a_reset_nothing_is_left(one: Client, manager: ResourceManager, process: TpmProcess) -> None:
    handle, session = one.create(), one.session()
    process.reset()
    manager.forget_all()
    assert one.send(READ_PUBLIC, u32(handle))[0] == 0x910
    assert one.send(POLICY_GET_DIGEST, u32(session))[0] != SUCCESS
    assert one.name(one.create())


def test_an_old_saved_session_survives_more_saves_than_the_tpm_can_count(
    one: Client, two: Client, process: TpmProcess
) -> None:
    """The TPM allows 65,535 saves between saving and loading (TPM2_PT_CONTEXT_GAP_MAX)."""
    old = [one.session(), one.session()]
    assert one.policy_digest(old[0])  # so the other one is saved first
    busy = [two.session() for _ in range(3)]
    assert not set(old) & set(_physical(process, LOADED_SESSION))
    for _ in range(65_500):
        saved = process.transact(commands.context_save(busy[2]))
        assert commands.response_code(process.transact(commands.context_load(saved[10:]))) == SUCCESS
    busy.append(two.session())
    for turn in range(100):
        assert two.policy_digest(busy[turn % 4])
    assert all(one.policy_digest(session) for session in old)


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        ("a handle is missing", u16(0x8001) + u32(10) + u32(READ_PUBLIC)),
        ("the authorisation area is longer than the command", u16(0x8002) + u32(18) + u32(0x182) + u32(4) + u32(99)),
        ("the authorisation area is cut off", u16(0x8002) + u32(20) + u32(0x182) + u32(4) + u32(2) + u16(1)),
        ("capability without parameters", u16(0x8001) + u32(10) + u32(0x17A)),
    ],
)
def test_a_malformed_command_is_answered_and_harms_nobody(one: Client, sentence: str, command: bytes) -> None:
    response = one.manager.execute(1, command)
    assert commands.response_code(response) != SUCCESS, sentence
    assert one.name(one.create())


def test_unknown_commands_get_the_tpms_own_answer(one: Client) -> None:
    assert one.send(0xFFFF)[0] == 0x143  # TPM_RC_COMMAND_CODE


# Through the sockets


def _connect(machine: Machine, suffix: str = "") -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(machine.tcti.removeprefix("swtpm:path=") + suffix)
    return connection


@pytest.fixture
def machine(vendor: TpmVendor) -> Iterator[Machine]:
    with a_machine(vendor) as machine:
        yield machine


def test_locality_0_is_all_that_the_control_socket_grants(machine: Machine) -> None:
    for message, answer in (
        (u32(5) + u8(0), 0),
        (u32(5) + u8(3), 0x3D),
        (u32(2) + u32(0), 9),  # power cycle
        (u32(3), 9),  # shut down
        (u32(14), 9),  # stop
    ):
        with _connect(machine, ".ctrl") as connection:
            connection.sendall(message)
            assert int.from_bytes(connection.recv(4), "big") == answer
    assert len(machine.read_pcrs()) == 24


@pytest.mark.parametrize("size", [0, 9, 4097, 0xFFFFFFFF])
def test_a_command_of_impossible_size_ends_the_connection(machine: Machine, size: int) -> None:
    with _connect(machine) as connection:
        connection.sendall(u16(0x8001) + u32(size) + u32(0x144))
        assert connection.recv(1) == b""
    assert len(machine.read_pcrs()) == 24


def test_a_command_may_come_in_pieces_and_a_slow_client_holds_up_nobody(machine: Machine, tmp_path: Path) -> None:
    command = commands.get_capability(6, 0x100, 1)
    with _connect(machine) as slow:
        slow.sendall(command[:7])
        tool(machine, "tpm2_pcrread", "sha256:0", cwd=tmp_path)
        slow.sendall(command[7:])
        assert commands.response_code(slow.recv(4096)) == SUCCESS


def test_a_machines_reset_takes_all_objects_away(machine: Machine) -> None:
    with _connect(machine) as connection:
        connection.sendall(commands.create_primary(NULL, template("H-2").public))
        assert commands.response_code(connection.recv(4096)) == SUCCESS
        machine.reset()
        connection.sendall(commands.get_capability(1, TRANSIENT, 1))
        assert connection.recv(4096)[15:] == u32(0)


def test_a_client_whose_process_is_killed_leaves_nothing_behind(machine: Machine, tmp_path: Path) -> None:
    code = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(bytes.fromhex(sys.argv[2])); s.recv(4096); print('made', flush=True); time.sleep(60)\n"
    )
    create = commands.create_primary(NULL, template("H-2").public).hex()
    child = subprocess.Popen(
        [sys.executable, "-c", code, machine.tcti.removeprefix("swtpm:path="), create], stdout=subprocess.PIPE
    )
    assert child.stdout
    assert child.stdout.readline() == b"made\n"
    assert machine._server
    manager = machine._server._manager
    assert set(manager._clients) == {child.pid}
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 60
    while manager._clients and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not manager._clients
    assert not manager._loaded
    tool(machine, "tpm2_createprimary", "-c", "p.ctx", cwd=tmp_path)


def test_tools_work_while_an_esys_client_holds_three_objects_and_a_session(machine: Machine, tmp_path: Path) -> None:
    pytss = pytest.importorskip("tpm2_pytss")
    with pytss.ESAPI(machine.tcti) as esys:
        held = [esys.create_primary(None, "ecc")[0] for _ in range(3)]
        names = [esys.read_public(handle)[1] for handle in held]
        session = esys.start_auth_session(
            tpm_key=held[0],
            bind=pytss.ESYS_TR.NONE,
            session_type=pytss.TPM2_SE.POLICY,
            symmetric=pytss.TPMT_SYM_DEF(algorithm=pytss.TPM2_ALG.NULL),
            auth_hash=pytss.TPM2_ALG.SHA256,
        )
        for command in (
            "tpm2_createprimary -C e -G ecc -c primary.ctx",
            "tpm2_createek -G ecc -c ek.ctx -u ek.pub",
            "tpm2_createak -C ek.ctx -G ecc -g sha256 -s ecdsa -c ak.ctx -u ak.pub",
            "tpm2_pcrextend 8:sha256=" + 32 * "01",
            "tpm2_quote -c ak.ctx -l sha256:0,8 -q 0102 -m attest -s signature -o pcrs -g sha256",
            "tpm2_checkquote -u ak.pub -m attest -s signature -f pcrs -q 0102 -g sha256",
            "tpm2_startauthsession --policy-session -S session.ctx",
            "tpm2_policypcr -S session.ctx -l sha256:0",
            "tpm2_flushcontext session.ctx",
            "tpm2_flushcontext -t",
            "tpm2_flushcontext -l",
            "tpm2_pcrread sha256:0,8",
        ):
            tool(machine, *command.split(), cwd=tmp_path)
            assert [esys.read_public(handle)[1] for handle in held] == names
            esys.policy_get_digest(session)
        for handle in (*held, session):
            esys.flush_context(handle)


ROUNDS = """
import sys, tpm2_pytss
with tpm2_pytss.ESAPI(sys.argv[1]) as esys:
    held = [esys.create_primary(None, kind)[0] for kind in ("ecc", "ecc", "ecc384")]
    names = [bytes(esys.read_public(handle)[1]) for handle in held]
    for turn in range(200):
        assert bytes(esys.read_public(held[turn % 3])[1]) == names[turn % 3]
"""


def test_two_processes_with_three_objects_each_alternate_for_200_rounds(machine: Machine) -> None:
    pytest.importorskip("tpm2_pytss")
    processes = [subprocess.Popen([sys.executable, "-c", ROUNDS, machine.tcti]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
