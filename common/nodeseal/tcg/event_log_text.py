"""What boot log events say, in one line each, *for reading only*: nothing here is evidence.

Data is read by the event's claimed type (TCG PC Client Platform Firmware Profile v1.06, "Event Types", and its
structures). Whether any of it is proved is a question to :mod:`nodeseal.tcg.event_log_binding`. The text is inert:
control characters, invisible and bidirectional ones are spelled out, so that a terminal shows a log and obeys nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from nodeseal.errors import MalformedInput
from nodeseal.tcg.buffer import Reader
from nodeseal.tcg.device_path import decode_device_path
from nodeseal.tcg.event_log import NO_PCR, Event
from nodeseal.tcg.event_log_types import EventType
from nodeseal.tcg.guid import guid_text

_MAX_TEXT: Final = 512
_MAX_HEX: Final = 16
_VARIABLE: Final = struct.Struct("<16sQQ")
_IMAGE: Final = struct.Struct("<QQQQ")
_BLOB: Final = struct.Struct("<QQ")
_TAG: Final = struct.Struct("<II")
_GPT: Final = struct.Struct("<56x16s20xQ")
_U64: Final = struct.Struct("<Q")
_PARTITION: Final = struct.Struct("<16s16sQQQ72s")
_LOAD_OPTION: Final = struct.Struct("<IH")
_NAMED_GUIDS: Final = {
    "8be4df61-93ca-11d2-aa0d-00e098032b8c": "",
    "d719b2cb-3d3a-4596-a3bc-dad00e67656f": "",
    "605dab50-e046-4300-abb6-3dd810dd8b23": "shim ",
    "77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft ",
}
"""Vendors of variables: EFI_GLOBAL_VARIABLE and the image security database need no mention (UEFI)."""
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What tells binary data from text, which may have tabs and several lines."""
_STARTUP_LOCALITY: Final = b"StartupLocality\0"
_SEPARATORS: Final = {bytes(4): "separator", b"\xff" * 4: "separator", b"\1\0\0\0": "separator after an error"}
_BOOT_OPTION: Final = "Boot0123456789ABCDEFabcdef"


def describe_event(event: Event) -> str:
    """Return one inert line that says what the event's data claims; data that does not decode is shown in hex."""
    try:
        text = _READERS.get(event.claimed_type, _plain)(event.data)
    except (MalformedInput, UnicodeDecodeError, struct.error):
        text = _hex(event.data)
    if event.pcr == NO_PCR:
        text = f"appended by Windows, {len(event.data)} bytes"
    return inert(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")


def inert(text: str) -> str:
    r"""Return ``text`` with every character spelled out (``\x1b``) that a terminal could obey or hide."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _plain(data: bytes) -> str:
    """Read data that may be text in UTF-8 or UTF-16."""
    text = _text(data)
    return text if text is not None else _hex(data)


def _text(data: bytes) -> str | None:
    wide = len(data) % 2 == 0 and any(data[::2]) and not any(data[1::2])
    try:
        text = data.decode("utf-16-le" if wide else "utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return text if text and not _CONTROLS.search(text) else None


def _hex(data: bytes) -> str:
    shown = f"{data[:_MAX_HEX].hex()}{'…' if len(data) > _MAX_HEX else ''}"
    return f"{len(data)} bytes {shown}" if data else "no data"


def _no_action(data: bytes) -> str:
    if data.startswith(_STARTUP_LOCALITY):
        return f"startup locality {data[len(_STARTUP_LOCALITY) :].hex() or 'missing'}"
    signature = _text(data[:16])
    return f"{signature}, {len(data)} bytes" if signature else _hex(data)


def _separator(data: bytes) -> str:
    return _SEPARATORS.get(data) or f"separator {_plain(data)}"


def _version(data: bytes) -> str:
    return f"version {guid_text(data) if len(data) == 16 and _text(data) is None else _plain(data)}"  # noqa: PLR2004


def _variable(data: bytes) -> str:
    reader = Reader(data, "variable")
    vendor, characters, size = reader.unpack(_VARIABLE, "header")
    name = reader.take(2 * characters, "name").decode("utf-16-le").rstrip("\0")
    guid = guid_text(vendor)
    return f"{_NAMED_GUIDS.get(guid, f'{guid} ')}{name}: {_variable_content(name, reader.take(size, 'content'))}"


def _variable_content(name: str, content: bytes) -> str:
    if name == "BootOrder":
        numbers = struct.unpack(f"<{len(content) // 2}H", content[: len(content) // 2 * 2])
        return " ".join(f"{number:04X}" for number in numbers) or "empty"
    if name.startswith("Boot") and set(name) <= set(_BOOT_OPTION) and len(content) > _LOAD_OPTION.size:
        return _load_option(content)
    if len(content) == 1:
        return str(content[0])
    return _plain(content) if len(content) <= _MAX_HEX or _text(content) else f"{len(content)} bytes"


def _load_option(content: bytes) -> str:
    """Read an EFI_LOAD_OPTION (UEFI)."""
    reader = Reader(content, "load option")
    _, size = reader.unpack(_LOAD_OPTION, "header")
    rest = reader.rest()
    end = next((at for at in range(0, len(rest) - 1, 2) if rest[at : at + 2] == b"\0\0"), None)
    if end is None:
        raise MalformedInput("load option: its description has no end")
    return f'"{rest[:end].decode("utf-16-le")}" {decode_device_path(rest[end + 2 : end + 2 + size]).text}'


def _image(data: bytes) -> str:
    """Read a UEFI_IMAGE_LOAD_EVENT (PFP)."""
    reader = Reader(data, "image load")
    _, length, _, size = reader.unpack(_IMAGE, "header")
    path = decode_device_path(reader.take(size, "path")).text
    return f"image of {length} bytes: {path or 'no path'}"


def _blob(data: bytes) -> str:
    base, length = _BLOB.unpack(data)
    return f"firmware at 0x{base:x}, {length} bytes"


def _named(data: bytes) -> str:
    """Read a structure that begins with a described size: BLOB2 and tables2 (PFP)."""
    reader = Reader(data, "description")
    return _text(reader.take(reader.u8("size"), "text")) or _hex(data)


def _post_code(data: bytes) -> str:
    return _blob(data) if len(data) == _BLOB.size and _text(data) is None else _plain(data)


def _tables(data: bytes) -> str:
    (count,) = _U64.unpack_from(data)
    return f"{count} tables, the first is {guid_text(data[_U64.size :])}"


def _partition_table(data: bytes) -> str:
    """Read a UEFI_GPT_DATA (PFP): the header of the table, then the partitions in use."""
    reader = Reader(data, "partition table")
    disk, count = reader.unpack(_GPT, "header")
    names = (
        reader.unpack(_PARTITION, "partition")[5].decode("utf-16-le").split("\0")[0] or "unnamed" for _ in range(count)
    )
    return f"disk {guid_text(disk)}, {count} partitions: {', '.join(names)}"


def _tagged(data: bytes) -> str:
    """Read a TCG_PCClientTaggedEvent (PFP); Windows and systemd-stub write them."""
    if len(data) < _TAG.size or _text(data):
        return _plain(data)
    tag, size = _TAG.unpack_from(data)
    return f"tag 0x{tag:08x}: {_plain(data[_TAG.size : _TAG.size + size])}"


_READERS: Final[dict[int, Callable[[bytes], str]]] = {
    EventType.POST_CODE: _post_code,
    EventType.NO_ACTION: _no_action,
    EventType.SEPARATOR: _separator,
    EventType.EVENT_TAG: _tagged,
    EventType.S_CRTM_VERSION: _version,
    EventType.EFI_VARIABLE_DRIVER_CONFIG: _variable,
    EventType.EFI_VARIABLE_BOOT: _variable,
    EventType.EFI_VARIABLE_BOOT2: _variable,
    EventType.EFI_VARIABLE_AUTHORITY: _variable,
    EventType.EFI_SPDM_DEVICE_POLICY: _variable,
    EventType.EFI_SPDM_DEVICE_AUTHORITY: _variable,
    EventType.EFI_BOOT_SERVICES_APPLICATION: _image,
    EventType.EFI_BOOT_SERVICES_DRIVER: _image,
    EventType.EFI_RUNTIME_SERVICES_DRIVER: _image,
    EventType.EFI_GPT_EVENT: _partition_table,
    EventType.EFI_GPT_EVENT2: _partition_table,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB: _blob,
    EventType.EFI_PLATFORM_FIRMWARE_BLOB2: _named,
    EventType.EFI_HANDOFF_TABLES: _tables,
    EventType.EFI_HANDOFF_TABLES2: _named,
}
