"""Shares of the log: they are used up, refill over a day, and belong to one node each."""

from __future__ import annotations

import pytest

from nodeseal.errors import TooManyRequests
from nodeseal.verifier.ledger.shares import Shares
from support.acts import NODE, OTHER_NODE

DAY = 24 * 3600.0


def used_up(shares: Shares, now: float) -> bool:
    try:
        shares.require(NODE, now)
    except TooManyRequests:
        return True
    return False


def test_a_refusal_names_the_node_and_says_what_to_do() -> None:
    shares = Shares(0)
    with pytest.raises(TooManyRequests, match=NODE) as caught:
        shares.require(NODE, 0)
    assert caught.value.remedy


def test_a_share_is_used_up_by_its_last_byte() -> None:
    shares = Shares(1000)
    shares.charge(NODE, 999, 0)
    assert not used_up(shares, 0)
    shares.charge(NODE, 1, 0)
    assert used_up(shares, 0)
    shares.require(OTHER_NODE, 0)


def test_half_of_a_share_is_kept_for_what_a_tpm_has_proved() -> None:
    shares = Shares(1000)
    shares.charge(NODE, 499, 0)
    shares.require(NODE, 0, proved=False)
    shares.charge(NODE, 1, 0)
    with pytest.raises(TooManyRequests, match=NODE):
        shares.require(NODE, 0, proved=False)
    assert not used_up(shares, 0)


@pytest.mark.parametrize(("charged", "hours"), [(1000, 0), (1500, 12), (3000, 48)])
def test_a_share_fills_again_at_an_even_pace(charged: int, hours: int) -> None:
    shares = Shares(1000)
    shares.charge(NODE, charged, 0)
    assert used_up(shares, hours * 3600)
    assert not used_up(shares, hours * 3600 + 90)


def test_a_share_never_holds_more_than_a_day() -> None:
    shares = Shares(1000)
    shares.charge(NODE, 0, 0)
    shares.charge(NODE, 1000, 100 * DAY)
    assert used_up(shares, 100 * DAY)


def test_no_more_than_two_shares_pass_in_a_day_however_they_are_spread() -> None:
    shares, passed = Shares(1000), 0
    for minute in range(24 * 60):
        if not used_up(shares, minute * 60.0):
            shares.charge(NODE, 100, minute * 60.0)
            passed += 100
    assert 1900 <= passed <= 2100


def test_steps_fill_no_more_than_one_leap() -> None:
    stepped, leapt = Shares(1000), Shares(1000)
    for shares in (stepped, leapt):
        shares.charge(NODE, 2000, 0)
    for second in range(0, int(DAY), 600):
        stepped.charge(NODE, 0, second)
    assert used_up(stepped, DAY - 60)
    assert used_up(leapt, DAY - 60)
    assert not used_up(stepped, DAY + 60)
    assert not used_up(leapt, DAY + 60)


def test_a_share_in_bytes_of_a_megabyte() -> None:
    shares = Shares()
    shares.charge(NODE, 1024 * 1024 - 1, 0)
    assert not used_up(shares, 0)
    shares.charge(NODE, 1, 0)
    assert used_up(shares, 0)
