from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from nodeseal.cli import main
from nodeseal.cli.log import app
from nodeseal.errors import MalformedInput
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import NO_PCR, Event, EventLog, EventLogFormat, decode_event_log, encode_event_log, replay
from nodeseal.uefi.event_log_types import EventType
from support import uefi

SHA256 = HashAlg.SHA256
RAW = sample_boot_log(SampleBoot(), (HashAlg.SHA1, SHA256))
LOG = decode_event_log(RAW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "boot.log"
    path.write_bytes(RAW)
    return path


def run(command: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)])


def printed(command: str, *arguments: str | Path) -> Any:
    return json.loads(run(command, *arguments, "--json").stdout)


def write(path: Path, log: EventLog) -> Path:
    path.write_bytes(encode_event_log(log))
    return path


def event(data: bytes, measured: bytes | None = None, claimed_type: int = EventType.IPL, pcr: int = 8) -> Event:
    digest = SHA256.digest(data if measured is None else measured)
    return Event(pcr=pcr, claimed_type=claimed_type, digests={SHA256: digest}, data=data)


def test_show_lists_every_event_with_what_it_says(file: Path) -> None:
    result = run("show", file, "--by", "order")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.split() == ["banks", "sha1,", "sha256"] for line in lines)
    assert numbers(result) == list(range(1, len(LOG.events) + 1))
    assert lines[-1].endswith(" Exit Boot Services Returned with Success")


def test_show_has_a_branch_for_each_pcr_with_the_value_it_replays_to(file: Path) -> None:
    result = run("show", file)
    values = replay(LOG, SHA256)
    heads = [line for line in result.stdout.splitlines() if line.startswith("PCR ")]
    assert [(int(head.split()[1]), head.split()[-1]) for head in heads] == [
        (pcr, values[pcr].hex()) for pcr in sorted(values)
    ]
    assert sorted(numbers(result)) == list(range(1, len(LOG.events) + 1))


def test_show_can_be_narrowed_to_pcrs(file: Path) -> None:
    chosen = [number for number, each in LOG.numbered() if each.pcr in (4, 7)]
    assert sorted(numbers(run("show", file, "--pcr", "4", "--pcr", "7"))) == chosen
    assert [each["number"] for each in printed("show", file, "--pcr", "4", "--pcr", "7")["events"]] == chosen
    assert run("show", file, "--pcr", "24").exit_code == 2


def test_show_spells_out_signatures_and_the_digests_that_say_more_than_their_events(tmp_path: Path) -> None:
    database = uefi.signature_list(uefi.SHA256_KIND, *(bytes([n]) * 32 for n in range(6)))
    events = (
        event(uefi.variable("dbx", database), claimed_type=EventType.EFI_VARIABLE_DRIVER_CONFIG, pcr=7),
        event(b"/vmlinuz\0", b"kernel", pcr=9),
    )
    shown = run("show", write(tmp_path / "a.log", EventLog((SHA256,), events))).stdout
    assert "dbx: 6 sha256" in shown
    assert f"sha256 {'03' * 32}" in shown
    assert f"sha256 {'04' * 32}" not in shown
    assert "… and 2 more" in shown
    assert f"sha256 {SHA256.digest(b'kernel').hex()}" in shown


def numbers(result: Result) -> list[int]:
    found = (re.match(r"[├└]? *(\d+) +(?:[-\d]+ +)?(?:EV_|0x)", line) for line in result.stdout.splitlines())
    return [int(match[1]) for match in found if match]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(event(b"menu"), " menu", id="covered"),
        pytest.param(event(b"grub_cmd: ls\0", b"ls"), " claimed in part: grub_cmd: ls", id="covered in part"),
        pytest.param(event(b"/vmlinuz\0", b"kernel"), " claimed: /vmlinuz", id="not covered"),
        pytest.param(event(b"x", claimed_type=3), " claimed, not measured: x, 1 bytes", id="never extended"),
        pytest.param(event(b"[red]x[/red]"), " [red]x[/red]", id="markup"),
        pytest.param(event(b"a\x1b[2J"), " 5 bytes 611b5b324a", id="an escape sequence"),
        pytest.param(event(b"a\xe2\x80\xaeb"), r" a\u202eb", id="text that would run backwards"),
    ],
)
def test_show_says_claimed_where_the_digest_does_not_cover_the_data(
    shown: Event, expected: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.log", EventLog((SHA256,), (shown,)))
    (described,) = (line for line in run("show", path).stdout.splitlines() if "EV_" in line)
    assert described.endswith(expected)
    assert described.isprintable()


def test_show_in_json_has_everything(file: Path) -> None:
    document = printed("show", file, "--bank", "sha1")
    assert (document["format"], document["shown_bank"]) == ("crypto-agile", "sha1")
    assert (document["banks"], document["banks_not_read"]) == (["sha1", "sha256"], [])
    last = document["events"][-1]
    assert last == {
        "number": len(LOG.events),
        "pcr": 5,
        "claimed_type": "EV_EFI_ACTION",
        "claimed_type_number": 0x80000007,
        "digests": {bank.hashlib_name: digest.hex() for bank, digest in LOG.events[-1].digests.items()},
        "data_bound": "all",
        "description": "Exit Boot Services Returned with Success",
        "decoded": {"words": {"text": "Exit Boot Services Returned with Success"}},
        "data": LOG.events[-1].data.hex(),
    }


def test_show_names_banks_that_were_not_read(tmp_path: Path) -> None:
    raw = encode_event_log(EventLog((SHA256,), ())).replace(
        b"\1\0\0\0\x0b\0\x20\0\0", b"\2\0\0\0\x0b\0\x20\0\x12\0\x20\0\0"
    )
    (tmp_path / "a.log").write_bytes(
        raw[:28] + (int.from_bytes(raw[28:32], "little") + 4).to_bytes(4, "little") + raw[32:]
    )
    assert "bank 0x0012" in run("show", tmp_path / "a.log").stdout
    assert printed("show", tmp_path / "a.log")["banks_not_read"] == ["0x0012"]


def test_a_log_with_an_impossible_startup_locality_can_be_looked_at_but_not_replayed(tmp_path: Path) -> None:
    named = event(b"StartupLocality\0\7", claimed_type=3, pcr=0)
    path = write(tmp_path / "a.log", EventLog((SHA256,), (named,)))
    assert "contradictory or impossible" in run("show", path).stdout
    assert printed("show", path)["startup_locality"] is None
    assert isinstance(run("replay", path).exception, MalformedInput)


def test_show_has_no_pcr_for_what_windows_appends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", EventLog((SHA256,), (event(b"quote", claimed_type=3, pcr=NO_PCR),)))
    assert printed("show", path)["events"][0]["pcr"] is None
    assert run("show", path, "--by", "order").stdout.splitlines()[-1].split()[:2] == ["1", "-"]
    assert "no PCR" in run("show", path).stdout


def test_show_calls_registers_of_a_ccel_by_their_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a", EventLog((SHA256,), (event(b"x", pcr=2),), EventLogFormat.CCEL))
    assert " MR  claimed type" in run("show", path, "--by", "order").stdout
    assert f"MR 2  sha256 {replay(decode_event_log(path.read_bytes()), SHA256)[2].hex()}" in run("show", path).stdout


def test_replay_prints_the_pcrs_of_every_bank_as_yaml(file: Path) -> None:
    result = run("replay", file)
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == {
        bank.hashlib_name: {str(pcr): value.hex() for pcr, value in replay(LOG, bank).items()}
        for bank in LOG.algorithms
    }


def test_replay_in_json_is_by_bank_and_pcr(file: Path) -> None:
    document = printed("replay", file, "--bank", "sha256")
    assert document == {"sha256": {str(pcr): value.hex() for pcr, value in replay(LOG, SHA256).items()}}
    assert list(document["sha256"]) == [str(pcr) for pcr in sorted(replay(LOG, SHA256))]


def test_replay_of_a_log_that_extends_nothing_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", EventLog((SHA256,), ()))
    assert run("replay", path).stdout == "sha256: {}\n"
    assert printed("replay", path) == {"sha256": {}}


def test_logs_that_replay_alike_do_not_differ(file: Path) -> None:
    result = run("diff", file, file)
    assert (result.exit_code, result.stdout) == (0, "no difference in the sha256 bank\n")
    assert printed("diff", file, file) == {"bank": "sha256", "equal": True, "differences": []}


def test_diff_shows_the_first_differing_event_of_each_pcr_side_by_side(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    other.write_bytes(sample_boot_log(SampleBoot(kernel=b"another kernel", command_line="/vmlinuz init=/bin/sh")))
    result = run("diff", file, other, "--json")
    assert result.exit_code == 1
    differences = json.loads(result.stdout)["differences"]
    assert [each["pcr"] for each in differences] == [4, 8, 9]
    command = differences[1]
    assert command["first"]["number"] == command["second"]["number"]
    assert "root=LABEL=root" in command["first"]["description"]
    assert "init=/bin/sh" in command["second"]["description"]
    table = run("diff", file, other)
    assert table.exit_code == 1
    assert "init=/bin/sh" in table.stdout


def test_diff_shows_hardware_addresses_as_they_are(tmp_path: Path) -> None:
    first = write(tmp_path / "a.log", EventLog((SHA256,), (event(b"boot from 0c:ab:7a:a:b"),)))
    second = write(tmp_path / "b.log", EventLog((SHA256,), (event(b"boot from :bomb:"),)))
    shown = run("diff", first, second).stdout
    assert "0c:ab:7a:a:b" in shown
    assert ":bomb:" in shown


def test_diff_says_where_one_log_ends(file: Path, tmp_path: Path) -> None:
    shorter = write(tmp_path / "short.log", replace(LOG, events=LOG.events[:-1]))
    assert "no further event" in run("diff", file, shorter).stdout
    (difference,) = printed("diff", file, shorter)["differences"]
    assert (difference["pcr"], difference["second"]) == (5, None)


def test_diff_says_when_only_the_startup_locality_differs(file: Path, tmp_path: Path) -> None:
    named = Event(pcr=0, claimed_type=3, digests={SHA256: bytes(32)}, data=b"StartupLocality\0\3")
    other = write(tmp_path / "other.log", replace(LOG, events=(named, *LOG.events)))
    shown = run("diff", file, other).stdout
    assert "startup locality 0" in shown
    assert "startup locality 3" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("show", "/nonexistent"), id="a file that is not there"),
        pytest.param(("show", "/"), id="a folder"),
        pytest.param(("replay", __file__, "--bank", "md5"), id="an unknown bank"),
        pytest.param(("diff", __file__), id="one log to compare"),
        pytest.param(("show", __file__, "--force"), id="an unknown option"),
    ],
)
def test_misuse_exits_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("show", __file__), "is text, no log", id="text"),
        pytest.param(("show", "noise"), "a boot log is binary_bios_measurements", id="what is neither kind of log"),
        pytest.param(("replay", "boot.log", "--bank", "sha512"), "has no sha512 bank", id="a bank that it lacks"),
        pytest.param(("show", "boot.log", "--bank", "sha512"), "has no sha512 bank", id="showing a bank that it lacks"),
        pytest.param(
            ("diff", "boot.log", "old.log", "--bank", "sha256"), "has no sha256 bank", id="a bank of one only"
        ),
    ],
)
def test_refusals_exit_1_and_say_why(
    arguments: tuple[str, ...],
    said: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(file.parent)
    write(
        Path("old.log"),
        EventLog((HashAlg.SHA1,), (replace(event(b""), digests={HashAlg.SHA1: bytes(20)}),), EventLogFormat.SHA1),
    )
    Path("noise").write_bytes(b"\xa5" * 4096)
    monkeypatch.setattr("sys.argv", ["nodeseal", "log", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


def test_an_error_names_the_file(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.log"
    broken.write_bytes(RAW[:-1])
    error = run("diff", file, broken).exception
    assert isinstance(error, MalformedInput)
    assert f"{broken}: event log: event {len(LOG.events)} at byte" in str(error)


@pytest.mark.parametrize("command", ["show", "replay", "diff"])
def test_a_bank_that_a_log_has_not_is_refused_with_the_name_of_the_file(command: str, file: Path) -> None:
    error = run(command, *[file] * (2 if command == "diff" else 1), "--bank", "sha512").exception
    assert isinstance(error, MalformedInput)
    assert str(error).startswith(f"{file}")


def test_a_file_beyond_the_limit_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.log"
    with path.open("wb") as huge:
        huge.write(RAW)
        huge.truncate(100_000_000_000)
    error = run("replay", path).exception
    assert isinstance(error, MalformedInput)
    assert "more than 16777216 bytes" in str(error)
