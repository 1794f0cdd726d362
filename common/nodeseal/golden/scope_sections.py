"""The sections of a golden that say for which machines it counts, and when: ``platform``, ``nodes`` and ``valid``."""

from __future__ import annotations

import re

from nodeseal.documents import Fields, Item
from nodeseal.errors import MalformedInput
from nodeseal.golden.parts import take_list, take_window
from nodeseal.golden.rules import EK_ALGORITHMS, PlatformRules, Window
from nodeseal.ids import parse_name

NAME_SHAPE = "1 to 63 of a-z 0-9 . _ - (starting with a letter or digit)"
_MANUFACTURER = re.compile(r"[A-Za-z0-9]{1,4}|id:[0-9A-F]{8}")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){3}")
_LAST_VERSION = 0xFFFF
_MAX_NODE_LABELS = 32


def parse_platform(fields: Fields) -> PlatformRules:
    """Parse the section ``platform``.

    Raises:
        MalformedInput: the section is wrong; the message names source, line and key.
    """
    makers, algorithms = "manufacturers", "ek_algorithms"
    rules = PlatformRules(
        manufacturers=frozenset(take_list(fields, makers, _manufacturer)) if fields.has(makers) else None,
        firmware=_take_firmware(fields) if fields.has("firmware") else None,
        ek_algorithms=frozenset(take_list(fields, algorithms, _ek_algorithm)) if fields.has(algorithms) else None,
    )
    fields.done()
    return rules


def parse_valid(fields: Fields) -> Window:
    """Parse the section ``valid``.

    Raises:
        MalformedInput: the section is wrong; the message names source, line and key.
    """
    window = take_window(fields)
    fields.done()
    return window


def parse_nodes(fields: Fields) -> dict[str, str]:
    """Parse the section ``nodes``.

    Raises:
        MalformedInput: too many labels, or a label that is not a name; the message names source, line and key.
    """
    labels = fields.keys()
    if len(labels) > _MAX_NODE_LABELS:
        raise fields.wrong(labels[-1], f"one of at most {_MAX_NODE_LABELS} labels")
    return {label: _take_label(fields, label) for label in labels}


def _take_label(fields: Fields, label: str) -> str:
    try:
        parse_name(label, "label")
        return parse_name(fields.text(label), "label")
    except MalformedInput as error:
        raise fields.wrong(label, f"a label and a value of {NAME_SHAPE}") from error


def _manufacturer(item: Item) -> str:
    if not isinstance(item.value, str) or not _MANUFACTURER.fullmatch(item.value):
        raise item.wrong("a TCG vendor id, such as IFX, or id: and eight hex digits")
    return item.value


def _ek_algorithm(item: Item) -> str:
    if item.value not in EK_ALGORITHMS:
        raise item.wrong(f"one of {', '.join(EK_ALGORITHMS)}")
    return str(item.value)


def _take_firmware(fields: Fields) -> tuple[int, int, int, int]:
    text = fields.text("firmware")
    if _VERSION.fullmatch(text):
        first, second, third, fourth = map(int, text.split("."))
        if max(first, second, third, fourth) <= _LAST_VERSION:
            return (first, second, third, fourth)
    raise fields.wrong("firmware", 'a version as "7.2.3.1", of four numbers up to 65535')
