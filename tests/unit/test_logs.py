"""Log lines: one event is one line, whatever others put into it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from nodeseal.logs import LogStyle, configure_logs

HOSTILE = "x\nadmin logged in\r\x1b[2J\x00\u2028"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("style", LogStyle)
def test_hostile_text_stays_inside_its_event(style: LogStyle, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(style)
    structlog.get_logger().info(f"refused {HOSTILE}", hostname=HOSTILE, findings=[HOSTILE])
    written = capsys.readouterr().err
    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_records_of_libraries_take_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogStyle.JSON)
    logging.getLogger("grpc").error("failed: %s", HOSTILE)
    assert "admin logged in" in json.loads(capsys.readouterr().err)["event"]


def test_a_failure_keeps_its_traceback_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogStyle.JSON)
    structlog.get_logger().error("call failed", exc_info=ValueError("inside"))
    assert "ValueError: inside" in json.loads(capsys.readouterr().err)["exception"]


def test_a_long_traceback_keeps_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogStyle.JSON)
    structlog.get_logger().error("call failed", exc_info=ValueError("x" * 5000 + " the cause"))
    assert json.loads(capsys.readouterr().err)["exception"].endswith("the cause")
