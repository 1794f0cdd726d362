"""Stretches of logs: put together in order, within bounds of message, log, node and verifier."""

from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput, TooManyRequests
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, MAX_LOG_PIECE, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.ids import NodeId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.rounds.log_collector import _USUAL, MAX_ANSWER, MAX_MESSAGES, LogBudget, LogCollector, log_size

NODE, OTHER = NodeId("n-" + "a" * 26), NodeId("n-" + "b" * 26)
LAST = Evidence(claims=b"{}", attest=b"attest", signature=b"signature", pcr_values=(b"value",))
FULL = bytes(MAX_LOG_PIECE)


def stretch(boot_log: bytes = b"", ima: ImaDelta | None = None) -> Evidence:
    return Evidence(claims=b"", attest=b"", signature=b"", pcr_values=None, boot_log=boot_log or None, ima=ima)


def ima(offset: int, entries: bytes, bank: HashAlg = HashAlg.SHA1) -> ImaDelta:
    return ImaDelta(offset=offset, entries=entries, bank=bank)


def a_collector(size: int = 2 * MAX_ANSWER, node: NodeId = NODE) -> tuple[LogCollector, LogBudget]:
    budget = LogBudget(size)
    return LogCollector(node, budget), budget


def test_evidence_without_logs_passes_as_it_is() -> None:
    logs, budget = a_collector()
    assert logs.add(LAST, more=False) is LAST
    assert budget.waiting == 0


def test_stretches_are_put_together_in_order_and_end_with_the_quote() -> None:
    logs, budget = a_collector()
    assert logs.add(stretch(b"boot "), more=True) is None
    assert logs.add(stretch(b"log", ima(100, b"first")), more=True) is None
    assert logs.add(stretch(ima=ima(105, b"second")), more=True) is None
    assert budget.waiting == 19
    whole = logs.add(LAST, more=False)
    assert whole is not None
    assert (whole.boot_log, whole.ima) == (b"boot log", ima(100, b"firstsecond"))
    assert whole._replace(boot_log=None, ima=None) == LAST
    assert log_size(whole) == 19
    logs.clear()
    assert budget.waiting == 0


def test_the_last_message_may_bring_a_stretch_itself() -> None:
    logs, _ = a_collector()
    logs.add(stretch(ima=ima(0, b"first")), more=True)
    last = Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None, ima=ima(5, b"second"))
    whole = logs.add(last, more=False)
    assert whole is not None
    assert whole.ima == ima(0, b"firstsecond")


def test_an_ima_log_with_nothing_new_is_not_a_missing_one() -> None:
    logs, _ = a_collector()
    last = Evidence(claims=b"c", attest=b"a", signature=b"s", pcr_values=None, ima=ima(700, b""))
    assert logs.add(last, more=False) == last


def test_a_collector_serves_one_answer_after_the_other() -> None:
    logs, _ = a_collector()
    for _ in range(2):
        logs.add(stretch(b"boot", ima(7, b"x")), more=True)
        whole = logs.add(LAST, more=False)
        assert whole is not None
        assert (whole.boot_log, whole.ima) == (b"boot", ima(7, b"x"))
        logs.clear()


@pytest.mark.parametrize(
    "piece",
    [
        stretch(),
        stretch(ima=ima(0, b"")),
        Evidence(claims=b"{}", attest=b"", signature=b"", pcr_values=None, boot_log=b"x"),
        Evidence(claims=b"", attest=b"a", signature=b"", pcr_values=None, boot_log=b"x"),
        Evidence(claims=b"", attest=b"", signature=b"s", pcr_values=None, boot_log=b"x"),
        Evidence(claims=b"", attest=b"", signature=b"", pcr_values=(b"v",), boot_log=b"x"),
    ],
    ids=["nothing", "no entries", "claims", "quote", "signature", "values"],
)
def test_a_message_that_others_follow_carries_logs_and_nothing_else(piece: Evidence) -> None:
    logs, _ = a_collector()
    with pytest.raises(MalformedInput, match="and nothing else"):
        logs.add(piece, more=True)


@pytest.mark.parametrize("more", [True, False])
def test_a_message_brings_no_more_than_a_piece(more: bool) -> None:  # noqa: FBT001 - the case
    logs, budget = a_collector()
    with pytest.raises(MalformedInput, match=f"at most {MAX_LOG_PIECE}"):
        logs.add(stretch(FULL, ima(0, b"x")), more=more)
    assert budget.waiting == 0


@pytest.mark.parametrize(
    "second",
    [ima(104, b"x"), ima(106, b"x"), ima(0, b"x"), ima(105, b"x", HashAlg.SHA256)],
    ids=["overlaps", "skips", "starts again", "is of another bank"],
)
def test_a_stretch_of_the_ima_log_follows_on(second: ImaDelta) -> None:
    logs, _ = a_collector()
    logs.add(stretch(ima=ima(100, b"first")), more=True)
    with pytest.raises(MalformedInput, match="not 105, or of another bank"):
        logs.add(stretch(ima=second), more=True)


def test_a_boot_log_without_end_is_refused_at_its_limit() -> None:
    logs, budget = a_collector()
    for _ in range(MAX_BOOT_LOG // MAX_LOG_PIECE):
        logs.add(stretch(FULL), more=True)
    with pytest.raises(MalformedInput, match=f"boot log: more than {MAX_BOOT_LOG} bytes"):
        logs.add(stretch(b"x"), more=True)
    logs.clear()
    assert budget.waiting == 0


def test_an_ima_log_without_end_is_refused_at_its_limit() -> None:
    logs, budget = a_collector()
    for number in range(MAX_IMA_DELTA // MAX_LOG_PIECE):
        logs.add(stretch(ima=ima(number * MAX_LOG_PIECE, FULL)), more=True)
    with pytest.raises(MalformedInput, match=f"IMA log: more than {MAX_IMA_DELTA} bytes"):
        logs.add(stretch(ima=ima(MAX_IMA_DELTA, b"x")), more=True)
    logs.clear()
    assert budget.waiting == 0


def test_a_flood_of_tiny_messages_is_refused() -> None:
    logs, _ = a_collector()
    for _ in range(2):  # each answer counts for itself
        for number in range(MAX_MESSAGES - 1):
            assert logs.add(stretch(ima=ima(number, b"x")), more=True) is None
        assert logs.add(LAST, more=False) is not None
        logs.clear()
    for number in range(MAX_MESSAGES):
        logs.add(stretch(ima=ima(number, b"x")), more=True)
    with pytest.raises(MalformedInput, match=f"more than {MAX_MESSAGES} messages"):
        logs.add(LAST, more=False)


def test_the_longest_logs_fit_into_the_messages_of_an_answer() -> None:
    assert 3 * MAX_ANSWER // MAX_LOG_PIECE < MAX_MESSAGES


def test_what_all_nodes_send_together_is_bounded_and_comes_free_again() -> None:
    first, budget = a_collector(size=MAX_LOG_PIECE)
    second = LogCollector(OTHER, budget)
    first.add(stretch(FULL), more=True)
    with pytest.raises(TooManyRequests, match="too many nodes") as caught:
        second.add(stretch(b"x"), more=True)
    assert "try again in" in caught.value.remedy
    assert second.add(LAST, more=False) is LAST
    first.clear()
    second.clear()
    assert second.add(stretch(FULL), more=True) is None


def test_one_node_cannot_take_the_whole_budget_with_several_answers() -> None:
    budget = LogBudget(4 * MAX_ANSWER)
    budget.take(NODE, MAX_ANSWER)
    logs = LogCollector(NODE, budget)
    with pytest.raises(TooManyRequests, match="several answers at once"):
        logs.add(stretch(b"x"), more=True)
    assert LogCollector(OTHER, budget).add(stretch(b"x"), more=True) is None


def test_the_longest_logs_leave_room_for_usual_ones() -> None:
    budget = LogBudget(8 * MAX_ANSWER)
    for number in range(6):
        budget.take(NodeId(f"n-{number}"), MAX_ANSWER)
    with pytest.raises(TooManyRequests, match="too many nodes"):
        budget.take(OTHER, _USUAL + 1)
    budget.take(OTHER, _USUAL)
    with pytest.raises(TooManyRequests, match="too many nodes"):
        budget.take(OTHER, 1)


def test_the_smallest_budget_takes_the_longest_logs_of_one_node() -> None:
    LogBudget(MAX_ANSWER).take(NODE, MAX_ANSWER)


def test_clearing_twice_gives_nothing_back_twice() -> None:
    logs, budget = a_collector()
    budget.take(OTHER, 5)
    logs.add(stretch(b"x"), more=True)
    logs.clear()
    logs.clear()
    assert budget.waiting == 5


def test_what_was_refused_is_not_kept_by_the_error() -> None:
    logs, _ = a_collector()
    for _ in range(MAX_BOOT_LOG // MAX_LOG_PIECE):
        logs.add(stretch(FULL), more=True)
    with pytest.raises(MalformedInput) as caught:
        logs.add(stretch(b"x"), more=True)
    logs.clear()
    kept = [value for frame in caught.traceback for value in frame.frame.f_locals.values()]
    assert max(len(value) for value in kept if isinstance(value, bytes | bytearray)) <= MAX_LOG_PIECE
