"""``nodeseal log show`` on the boot log of every real machine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from typer.testing import CliRunner

from nodeseal.cli.log import app
from nodeseal.errors import MalformedInput
from nodeseal.uefi.event_log import EventLog, decode_event_log
from support.data import shared_data


def logs() -> list[tuple[Path, EventLog]]:
    found = []
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        with contextlib.suppress(MalformedInput):
            found.append((path, decode_event_log(path.read_bytes())))
    assert len(found) > 50
    return found


def shown(path: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["show", str(path), *options])
    assert result.exit_code == 0, path.name
    return result.stdout


def test_every_log_is_shown_whole_by_pcr_and_in_order() -> None:
    for path, log in logs():
        for options in ((), ("--by", "order")):
            lines = shown(path, *options).splitlines()
            assert all(line.isprintable() for line in lines)
            assert sum(" EV_" in line or " 0x0000" in line for line in lines) >= len(log.events), path.name


def test_every_log_has_all_its_events_in_json() -> None:
    for path, log in logs():
        document = json.loads(shown(path, "--json"))
        assert [(each["number"], each["data"]) for each in document["events"]] == [
            (number, event.data.hex()) for number, event in log.numbered()
        ]
