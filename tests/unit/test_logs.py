"""Log lines: one event is one line, whatever others put into it; and nothing about a line reaches its caller."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import structlog

from nodeseal.log_sink import LogSink
from nodeseal.logs import LogStyle, configure_logs
from support.outputs import OUTPUTS, Output

HOSTILE = "x\nadmin logged in\r\x1b[2J\x00\u2028"
PATIENCE = 60.0
Written = Callable[[], str]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """Restore what logs are configured in, and return how to read what was written."""
    handlers, level = logging.root.handlers[:], logging.root.level
    sinks: list[LogSink] = []
    monkeypatch.setattr("atexit.register", lambda _end, sink, _descriptor: sinks.append(sink))
    monkeypatch.setattr("sys.stderr", sys.stderr)

    def read() -> str:
        assert all(sink.flush(PATIENCE) for sink in sinks)
        return capfd.readouterr().err

    yield read
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("style", LogStyle)
def test_hostile_text_stays_inside_its_event(style: LogStyle, written: Written) -> None:
    configure_logs(style)
    structlog.get_logger().info(f"refused {HOSTILE}", hostname=HOSTILE, findings=[HOSTILE])
    line = written()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_records_of_libraries_take_the_same_form(written: Written) -> None:
    configure_logs(LogStyle.JSON)
    logging.getLogger("grpc").error("failed: %s", HOSTILE)
    line = json.loads(written())
    assert "admin logged in" in line["event"]
    assert line["level"] == "error"


def test_what_python_itself_writes_takes_the_same_form(written: Written) -> None:
    configure_logs(LogStyle.JSON)
    sys.stderr.write(f"{HOSTILE}\n")
    lines = [json.loads(line) for line in written().splitlines()]
    assert [line["text"] for line in lines] == ["x", "admin logged in", r"\x1b[2J\x00"]
    assert {line["event"] for line in lines} == {"standard error"}


def test_a_failure_keeps_its_traceback_on_one_line(written: Written) -> None:
    configure_logs(LogStyle.JSON)
    structlog.get_logger().error("call failed", exc_info=ValueError("inside"))
    logging.getLogger("grpc").error("failed", exc_info=ValueError("inside a library"))
    first, second = (json.loads(line) for line in written().splitlines())
    assert "ValueError: inside" in first["exception"]
    assert "ValueError: inside a library" in second["exception"]


def test_a_long_traceback_keeps_its_end(written: Written) -> None:
    configure_logs(LogStyle.JSON)
    structlog.get_logger().error("call failed", exc_info=ValueError("x" * 5000 + " the cause"))
    assert json.loads(written())["exception"].endswith("the cause")


class Unspeakable:
    """A value without a text."""

    def __str__(self) -> str:
        raise OSError("no text")

    __repr__ = __str__


def _circle() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("fact", "error"),
    [
        pytest.param(Unspeakable(), "OSError", id="a text that raises"),
        pytest.param(10**5000, "ValueError", id="a number that Python does not write"),
        pytest.param(_circle(), "RecursionError", id="a list in itself"),
    ],
)
def test_a_line_that_cannot_be_made_says_so_itself(fact: object, error: str, written: Written) -> None:
    configure_logs(LogStyle.JSON)
    structlog.get_logger().info("node enrolled", fact=fact)
    line = json.loads(written())
    assert (line["event"], line["of"], line["error"]) == ("log line not made", "node enrolled", error)


@pytest.mark.parametrize("style", LogStyle)
@pytest.mark.parametrize(
    ("message", "arguments"), [("lost %d", ("x",)), ("lost %s", (Unspeakable(),)), (Unspeakable(), ())]
)
def test_a_record_that_cannot_be_made_says_so_itself(
    style: LogStyle, message: object, arguments: tuple[object, ...], written: Written
) -> None:
    configure_logs(style)
    logging.getLogger("grpc").error(message, *arguments)
    assert "log line not made" in written()


PROGRAM = """
import sys, threading, warnings
import structlog
from nodeseal.logs import LogStyle, configure_logs

class Late:
    def __del__(self):
        raise ValueError("late")

def fail():
    raise ValueError("in a thread")

configure_logs(LogStyle.JSON)
structlog.get_logger().info("here")
{then}
"""
THEN = {
    "more than can wait": ("for number in range(12_000): structlog.get_logger().info('more', number=number)", 0),
    "a warning": ("warnings.warn('careful')", 0),
    "a thread that fails": ("thread = threading.Thread(target=fail)\nthread.start()\nthread.join()", 0),
    "a destructor that fails": ("Late()", 0),
    "a destructor that fails at the very end": ("keep = Late()", 0),
    "an error that nobody catches": ("fail()", 1),
}


@pytest.mark.parametrize(("then", "status"), THEN.values(), ids=THEN)
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_a_process_ends_with_its_own_status_whatever_has_become_of_its_log(
    output: Callable[[], AbstractContextManager[Output]], then: str, status: int
) -> None:
    with output() as made:
        made.fail()
        program = [sys.executable, "-c", PROGRAM.format(then=then)]
        with subprocess.Popen(program, stdout=made.descriptor, stderr=made.descriptor) as process:
            try:
                assert process.wait(PATIENCE) == status
            finally:
                process.kill()


def test_all_that_a_process_says_is_written_before_it_ends() -> None:
    more = "for number in range(5_000): structlog.get_logger().info('more', number=number)"
    said = "\n".join((more, "warnings.warn('careful')", THEN["a thread that fails"][0], "Late()"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(then=said)], capture_output=True, check=True, timeout=PATIENCE
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["number"] for line in lines if line["event"] == "more"] == list(range(5_000))
    rest = "\n".join(line.get("text", "") for line in lines)
    assert all(each in rest for each in ("careful", "ValueError: in a thread", "ValueError: late"))


OTHER_FILE = """
import os, sys, structlog
from nodeseal.logs import LogStyle, configure_logs
configure_logs(LogStyle.JSON)
file = open(sys.argv[1], "wb", buffering=0)  # open until the last line is written
structlog.get_logger().info("here")
print("and here", file=sys.stderr)
file.write(b"mine")
"""


def test_a_process_without_standard_error_logs_into_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "database"
    closing = ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-']
    subprocess.run([*closing, sys.executable, "-c", OTHER_FILE, file], check=True, timeout=PATIENCE)
    assert file.read_bytes() == b"mine"
