"""Log lines on their way out, against outlets that are slow, stand still, fail, or take a part."""

from __future__ import annotations

import errno
from select import PIPE_BUF
from threading import Event, Thread, Timer

import pytest

from nodeseal import log_sink
from nodeseal.log_sink import LogSink, text_stream

PATIENCE = 60.0


class Outlet:
    """A descriptor that takes writes, or does what a test says."""

    def __init__(self) -> None:
        self.open = Event()
        self.open.set()
        self.asked = Event()
        self.error: OSError | None = None
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.asked.set()
        assert self.open.wait(PATIENCE)
        if self.error:
            raise self.error
        self.writes.append(data)
        return len(data)

    @property
    def lines(self) -> list[str]:
        return b"".join(self.writes).decode().splitlines()


class Jerky(Outlet):
    """An outlet that takes a part of each write, and fails behind the parts that a test names."""

    def __init__(self, part: int, *fails_after: int) -> None:
        super().__init__()
        self._part = part
        self._fails_after = fails_after

    def write(self, data: bytes) -> int:
        if len(self.writes) in self._fails_after:
            self._fails_after = tuple(each for each in self._fails_after if each != len(self.writes))
            raise OSError(errno.ENOSPC, "full")
        return super().write(data[: self._part])


def a_sink(outlet: Outlet) -> LogSink:
    return LogSink(outlet.write, lambda lost: f"{lost} lost")


def stopped(outlet: Outlet, sink: LogSink) -> None:
    """Let the reader stand still, with one line on its way."""
    outlet.open.clear()
    sink.put("on its way")
    assert outlet.asked.wait(PATIENCE)


def test_lines_keep_their_order_and_a_write_holds_whole_lines_that_a_pipe_keeps_together() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    stopped(outlet, sink)
    lines = [f"line {number}" for number in range(2000)]
    for line in lines:
        sink.put(line)
    outlet.open.set()
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["on its way", *lines]
    assert all(write.endswith(b"\n") and len(write) <= PIPE_BUF for write in outlet.writes)
    assert len(outlet.writes) < len(lines) / 100


def test_a_line_that_no_pipe_keeps_together_is_a_write_of_its_own() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    stopped(outlet, sink)
    lines = ["short", "x" * PIPE_BUF, "short"]
    for line in lines:
        sink.put(line)
    outlet.open.set()
    assert sink.flush(PATIENCE)
    assert outlet.writes[1:] == [f"{line}\n".encode() for line in lines]


def test_lines_of_several_threads_stay_whole() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)

    def log(name: str) -> None:
        for number in range(200):
            sink.put(f"{name} {number}")

    threads = [Thread(target=log, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush(PATIENCE)
    for name in "abc":
        assert [line for line in outlet.lines if line[0] == name] == [f"{name} {number}" for number in range(200)]


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EAGAIN, errno.EBADF])
def test_lines_that_cannot_be_written_are_counted_and_the_next_one_says_how_many(code: int) -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    outlet.error = OSError(code, "no")
    for number in range(3):
        sink.put(f"lost {number}")
        assert not sink.flush(PATIENCE)
    outlet.error = None
    sink.put("back")
    assert sink.flush(PATIENCE)
    sink.put("and on")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["3 lost", "back", "and on"]


def test_a_reader_that_stands_still_keeps_nobody_waiting_and_costs_the_oldest_lines() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    stopped(outlet, sink)
    lines = [f"line {number}" for number in range(log_sink.MAX_LINES + 5)]
    for line in lines:
        sink.put(line)
    assert not sink.flush(0)
    outlet.open.set()
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["on its way", "5 lost", *lines[5:]]


def test_what_waits_is_bounded_in_bytes() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    stopped(outlet, sink)
    lines = [str(number) * (log_sink.MAX_BYTES // 4) for number in range(6)]
    for line in lines:
        sink.put(line)
    outlet.open.set()
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["on its way", "3 lost", *lines[3:]]


def test_what_was_written_leaves_room_for_more() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    lines = [str(number) * (log_sink.MAX_BYTES // 2) for number in range(5)]
    for line in lines:
        sink.put(line)
        assert sink.flush(PATIENCE)
    assert outlet.lines == lines


def test_a_flush_waits_for_the_line_that_is_being_written() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    stopped(outlet, sink)
    opening = Timer(0.2, outlet.open.set)
    opening.start()
    assert sink.flush(PATIENCE)
    opening.join()


def test_a_line_beyond_all_bounds_is_lost_alone() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    sink.put("x" * log_sink.MAX_BYTES)
    sink.put("next")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["1 lost", "next"]


def test_a_line_that_is_taken_in_parts_arrives_whole() -> None:
    outlet = Jerky(2)
    sink = a_sink(outlet)
    sink.put("a long line")
    sink.put("another")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["a long line", "another"]


def test_a_torn_line_is_lost_and_does_not_share_its_line_with_the_next() -> None:
    outlet = Jerky(4, 1)
    sink = a_sink(outlet)
    sink.put("torn line")
    assert not sink.flush(PATIENCE)
    sink.put("next")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["torn", "1 lost", "next"]


def test_of_lines_in_one_write_those_are_lost_whose_end_was_not_written() -> None:
    outlet = Jerky(4, 4)
    sink = a_sink(outlet)
    stopped(outlet, sink)
    for line in ("one", "two", "three"):
        sink.put(line)
    outlet.open.set()
    assert not sink.flush(PATIENCE)
    sink.put("next")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["on its way", "one", "2 lost", "next"]


def test_a_line_is_lost_as_well_if_its_count_cannot_be_written() -> None:
    outlet = Outlet()
    sink = LogSink(outlet.write, lambda lost: f"{lost} lost")
    outlet.error = OSError(errno.ENOSPC, "full")
    for _ in range(2):
        sink.put("lost")
        sink.flush(PATIENCE)
    outlet.error = None
    sink.put("back")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["2 lost", "back"]


def test_a_destructor_that_logs_while_a_line_is_put_does_not_wait_for_itself() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    with sink._changed:  # what the thread holds when the collector runs in the middle of put
        sink.put("from a destructor")
    assert sink.flush(PATIENCE)
    assert outlet.lines == ["from a destructor"]


def test_text_that_is_no_utf_8_is_spelled_out() -> None:
    outlet = Outlet()
    sink = a_sink(outlet)
    sink.put("a name \udcff")
    assert sink.flush(PATIENCE)
    assert outlet.lines == [r"a name \udcff"]


def test_a_text_stream_hands_on_whole_lines() -> None:
    taken: list[str] = []
    stream = text_stream(taken.append)
    for piece in ("two", " ", "words", "\n"):  # as print writes
        stream.write(piece)
    stream.write("a traceback\n  of two lines\n\n")
    stream.write("a beginning")
    assert taken == ["two words", "a traceback", "  of two lines"]
    stream.write(" with its end \udcff\n")
    assert taken[3:] == [r"a beginning with its end \udcff"]


def test_a_text_stream_keeps_no_text_without_end() -> None:
    taken: list[str] = []
    stream = text_stream(taken.append)
    for _ in range(100):
        stream.write("x" * 1000)
    assert taken
