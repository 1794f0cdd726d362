"""What people call a node, a golden or a model means exactly one thing, or is refused with the candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from nodeseal.client.naming import Directory, Nameable, Use, find_golden, find_model, find_node
from nodeseal.errors import MalformedInput, NotFound
from nodeseal.v1 import admin_pb2 as pb
from nodeseal.wire.messages import state_to_proto

FIRST, SECOND, THIRD = "n-abcdefgh" + "a" * 18, "n-abcdxxxx" + "b" * 18, "n-qqqqqqqq" + "c" * 18
OLD, NEW, OTHER = "abcdef0011" + "0" * 54, "abcdff0022" + "0" * 54, "77" * 32


def node(node_id: str, host: str, state: str = "trusted") -> pb.Node:
    return pb.Node(node_id=node_id, hostname=host, state=state_to_proto(state))


def golden(name: str, digest: str, *, active: bool = True) -> pb.Golden:
    return pb.Golden(name=name, digest=digest, active=active)


def model(name: str, version: int, digest: str, *, retired: bool = False) -> pb.Model:
    made = pb.Model(model_id=name, version=version, digest=digest)
    if retired:
        made.retired.seconds = 1
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What a verifier lists."""

    nodes: list[pb.Node] = field(
        default_factory=lambda: [node(FIRST, "gpu-1"), node(SECOND, "gpu-2"), node(THIRD, "gpu-2", "retired")]
    )
    goldens: list[pb.Golden] = field(
        default_factory=lambda: [
            golden("rack-a", OLD, active=False),
            golden("rack-a", NEW),
            golden("rack-b", OTHER),
        ]
    )
    models: list[pb.Model] = field(
        default_factory=lambda: [model("llama", 1, OLD, retired=True), model("llama", 2, NEW), model("phi", 1, OTHER)]
    )

    def list_nodes(self) -> list[pb.Node]:
        return self.nodes

    def list_goldens(self, *, include_retired: bool = False) -> list[pb.Golden]:
        return [each for each in self.goldens if each.active or include_retired]

    def list_models(self) -> list[pb.Model]:
        return self.models


Find = Callable[[Directory, str, Use], Nameable]


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize(
    ("find", "text", "found"),
    [
        (find_node, "n-abcdef", FIRST),
        (find_node, "n-qqqqqqqqc", THIRD),
        (find_golden, "abcdff00", NEW),
        (find_golden, "abcdef", OLD),
        (find_golden, "rack-b", OTHER),
        (find_golden, "rack-a", NEW),
        (find_model, "777777", OTHER),
        (find_model, "llama@1", OLD),
        (find_model, "llama@2", NEW),
        (find_model, "llama", NEW),
    ],
)
def test_one_thing_is_meant(find: Find, text: str, found: str, use: Use) -> None:
    assert find(Fleet(), text, use).id == found


@pytest.mark.parametrize(
    ("find", "whole"), [(find_node, "n-" + "z" * 26), (find_golden, "9" * 64), (find_model, "9" * 64)]
)
def test_a_whole_id_means_itself_and_nothing_is_listed(find: Find, whole: str) -> None:
    assert find(None, whole, Use.TRUST).id == whole  # type: ignore[arg-type]  # whoever asked it would fail


@pytest.mark.parametrize("use", [Use.LOOK, Use.TAKE_AWAY])
def test_a_host_name_is_enough_to_look_and_to_take_away(use: Use) -> None:
    assert find_node(Fleet(), "gpu-1", use).id == FIRST
    assert find_node(Fleet(), "gpu-2", use).id == SECOND


def test_no_trust_is_given_to_a_host_name_because_a_node_chooses_its_own() -> None:
    with pytest.raises(MalformedInput, match=f"chooses its own.*{FIRST}"):
        find_node(Fleet(), "gpu-1", Use.TRUST)


def test_a_node_that_takes_the_beginning_of_anothers_id_as_its_name_is_not_meant() -> None:
    impostor = Fleet(nodes=[node(FIRST, "gpu-1"), node(THIRD, FIRST[:10])])
    assert find_node(impostor, FIRST[:10], Use.TRUST).id == FIRST
    with pytest.raises(MalformedInput, match="may mean"):
        find_node(impostor, FIRST[:10], Use.TAKE_AWAY)


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize(
    ("find", "text", "candidates"),
    [(find_node, "n-abcd", (FIRST, SECOND)), (find_golden, "abcd", (OLD, NEW)), (find_model, "abcd", (OLD, NEW))],
)
def test_what_may_mean_several_is_refused_with_all_of_them(
    find: Find, text: str, candidates: tuple[str, ...], use: Use
) -> None:
    with pytest.raises(MalformedInput, match="may mean") as refused:
        find(Fleet(), text, use)
    assert all(candidate in str(refused.value) for candidate in candidates)
    assert "give more of" in refused.value.remedy


def test_two_nodes_in_service_with_one_host_name_are_told_apart_by_id() -> None:
    with pytest.raises(MalformedInput, match="may mean"):
        find_node(Fleet(nodes=[node(FIRST, "gpu"), node(SECOND, "gpu")]), "gpu", Use.LOOK)


def test_two_registered_versions_are_told_apart() -> None:
    models = [model("llama", 1, OLD), model("llama", 2, NEW)]
    with pytest.raises(MalformedInput, match=r"llama@1.*llama@2"):
        find_model(Fleet(models=models), "llama", Use.TAKE_AWAY)


@pytest.mark.parametrize("use", [Use.TAKE_AWAY, Use.TRUST])
@pytest.mark.parametrize(
    ("find", "text"), [(find_node, "n-qqqqq"), (find_golden, "77777"), (find_model, "abcdf"), (find_node, "n-q")]
)
def test_five_letters_decide_nothing(find: Find, text: str, use: Use) -> None:
    assert find(Fleet(), text, Use.LOOK).id
    with pytest.raises(MalformedInput, match="too short"):
        find(Fleet(), text, use)


@pytest.mark.parametrize("find", [find_node, find_golden, find_model])
@pytest.mark.parametrize("text", ["", "n-", "n", "zzz", "gpu-3", "llama@3", "n-zzzzzz", "ABCDEF"])
def test_what_means_nothing_is_not_found(find: Find, text: str) -> None:
    nameless = Fleet(nodes=[node(FIRST, ""), node(SECOND, "gpu-2")])
    with pytest.raises(NotFound, match="there is no"):
        find(nameless, text, Use.LOOK)
