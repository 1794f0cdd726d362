"""Every method of every service has bounds, and the page about limits says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.verifier.people.roles import ALLOWED
from nodeseal.verifier.services.bounds import BOUNDS, address_of

PAGE = Path(__file__).resolve().parents[4] / "docs" / "limits.md"


def test_every_method_that_somebody_may_call_has_bounds_and_no_other() -> None:
    assert set(BOUNDS) == set(ALLOWED)  # and test_roles compares those with the descriptors of all services


def test_no_bound_is_no_bound() -> None:
    assert all(1 <= bound.each <= bound.at_once for bound in BOUNDS.values())


def test_the_page_says_the_bounds_of_every_method() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `/")]
    said = {row[0].strip("`"): (row[1], row[2]) for row in rows}
    said[next(method for method in BOUNDS if "Enrol" in method)] = said.pop("/enrolment")  # our spelling
    assert said == {method: (f"{bound.each:,}", f"{bound.at_once:,}") for method, bound in BOUNDS.items()}
    assert all(row[3] for row in rows)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::1]:5001", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:3::1%5D:5000", "2001:db8:1:3::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::/64"),
        ("unix:/run/x", "unknown"),
        ("", "unknown"),
        ("ipv4:nonsense:1", "unknown"),
    ],
)
def test_an_address_stands_for_one_subscriber(peer: str, address: str) -> None:
    assert address_of(peer) == address
