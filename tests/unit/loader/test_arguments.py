"""Arguments of ``from_pretrained``: each is honoured or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from nodeseal.loader.arguments import HANDLED, KERNELS, PASSED, not_allowed, refuse_unknown, sort_arguments


def test_arguments_are_sorted_by_who_honours_them() -> None:
    sorted_out = sort_arguments({"dtype": "auto", "variant": "fp16", "num_labels": 3, "revision": "main"})
    assert sorted_out.passed == {"dtype": "auto"}
    assert sorted_out.handled == {"variant": "fp16"}
    assert sorted_out.keywords == {"num_labels": 3}
    assert (sorted_out.text("variant"), sorted_out.text("subfolder")) == ("fp16", "")


def test_no_argument_is_honoured_twice() -> None:
    assert not PASSED & HANDLED
    assert not PASSED & KERNELS
    assert not KERNELS & HANDLED


REFUSED: list[dict[str, Any]] = [
    {"revision": "v2"},
    {"cache_dir": "/tmp"},  # noqa: S108 - refused
    {"token": True},
    {"force_download": True},
    {"proxies": {}},
    {"state_dict": {}},
    {"from_tf": True},
    {"from_flax": True},
    {"gguf_file": "a.gguf"},
    {"offload_folder": "/tmp"},  # noqa: S108 - refused
    {"offload_state_dict": True},
    {"use_safetensors": False},
    {"device_map": {"": "disk"}},
    {"adapter_kwargs": {"subfolder": "lora"}},
    {"use_kernels": True},
    {"kernel_config": {"a": "b"}},
    {"allow_all_kernels": True},
    {"variant": 16},
    {"subfolder": ["a"]},
]


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: next(iter(given)))
def test_what_cannot_be_honoured_is_refused_by_name(given: dict[str, Any]) -> None:
    sort_arguments({"dtype": "auto"})
    with pytest.raises(ValueError, match=next(iter(given))):
        sort_arguments({"dtype": "auto", **given})


@pytest.mark.parametrize("given", [{"use_kernels": True}, {"allow_all_kernels": True}], ids=str)
def test_kernels_are_for_those_who_trust_code_of_a_hub(given: dict[str, Any]) -> None:
    assert sort_arguments(given, trust_remote_code=True).passed == given


@pytest.mark.parametrize(
    "given",
    [
        {"revision": "main", "cache_dir": None, "token": None, "force_download": False, "state_dict": None},
        {"use_safetensors": True, "from_tf": False, "adapter_kwargs": {}, "use_kernels": False},
        {"device_map": {"": "cpu"}, "variant": None, "subfolder": ""},
    ],
    ids=lambda given: next(iter(given)),
)
def test_values_that_ask_for_nothing_are_no_reason_to_refuse(given: dict[str, Any]) -> None:
    assert sort_arguments(given).keywords == {}


def test_a_keyword_that_nobody_has_is_refused() -> None:
    refuse_unknown({"add_pooling_layer": False}, lambda name: name == "add_pooling_layer", "BertModel")
    with pytest.raises(ValueError, match=r"add_poling_layer: .* nor BertModel has it"):
        refuse_unknown({"add_poling_layer": False}, lambda name: name == "add_pooling_layer", "BertModel")


def test_names_are_allowed_one_by_one_or_by_pattern() -> None:
    names = ["lm_head.weight", "mtp.0.w", "mtp.1.w"]
    assert not_allowed(names, []) == names
    assert not_allowed(names, ["mtp.*"]) == ["lm_head.weight"]
    assert not_allowed(names, ["lm_head.weight", "mtp.0.w"]) == ["mtp.1.w"]
    assert not_allowed(names, ["lm_head"]) == names
