from __future__ import annotations

import pickle

import pytest

from nodeseal import errors
from nodeseal.findings import Finding, FindingId

NONCE = Finding(id=FindingId.QUOTE_NONCE, expected="an open challenge", seen="a closed one")
UNEXTENDED = Finding(id=FindingId.PCR_UNEXTENDED, expected="a value", seen="zeros", where="sha256:4")


@pytest.mark.parametrize("refusal", [errors.ProofFailed, errors.PolicyRefused])
def test_a_refusal_says_every_finding(refusal: type[errors.ProofFailed | errors.PolicyRefused]) -> None:
    error = refusal(NONCE, UNEXTENDED)
    assert error.findings == (NONCE, UNEXTENDED)
    assert str(error) == f"{NONCE}; {UNEXTENDED}"


def test_a_refusal_has_the_remedy_of_its_first_finding() -> None:
    assert errors.ProofFailed(UNEXTENDED, NONCE).remedy == UNEXTENDED.remedy


@pytest.mark.parametrize("refusal", [errors.ProofFailed, errors.PolicyRefused])
def test_a_refusal_without_a_finding_cannot_be_made(refusal: type[errors.ProofFailed | errors.PolicyRefused]) -> None:
    with pytest.raises(ValueError, match="at least one finding"):
        refusal()


def test_an_error_has_no_remedy_unless_given() -> None:
    assert errors.NotFound("no node").remedy == ""
    assert errors.NotFound("no node", remedy="enrol it").remedy == "enrol it"


def test_tracebacks_end_with_what_to_do() -> None:
    assert errors.NotFound("no node", remedy="enrol it").__notes__ == ["do: enrol it"]
    assert errors.ProofFailed(NONCE, UNEXTENDED, NONCE).__notes__ == [f"do: {NONCE.remedy}", f"do: {UNEXTENDED.remedy}"]
    assert not hasattr(errors.NotFound("no node"), "__notes__")


@pytest.mark.parametrize(
    "error", [errors.ProofFailed(NONCE, UNEXTENDED), errors.NotFound("no node", remedy="enrol it")]
)
def test_an_error_crosses_processes_whole(error: errors.NodesealError) -> None:
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    assert (type(arrived), str(arrived), arrived.remedy) == (type(error), str(error), error.remedy)
    assert arrived.__notes__ == error.__notes__


def _public_errors() -> list[type[Exception]]:
    found = vars(errors).values()
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]


def test_every_error_is_in_the_tree_that_the_docstring_draws() -> None:
    drawn = errors.__doc__ or ""
    for kind in _public_errors():
        assert issubclass(kind, errors.NodesealError)
        assert kind.__name__.startswith("_") or kind.__name__ in drawn
