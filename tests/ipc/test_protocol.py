"""docs/protocol.md says what is spoken: kinds, fields, defaults, limits, and every byte of its example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import NODEFAULT, Raw

from regrow.ipc import hub_wire, wire
from regrow.ipc.hub_wire import decode_from_hub, decode_to_hub
from regrow.ipc.may import VIEWING
from regrow.workers.system.hub_outlet import MAX_CREDIT, QUEUE, QUEUE_BYTES, UNDERWAY_BYTES
from regrow.workers.system.hub_peer import LIMITS

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
_ROW = re.compile(r"^\| (0x[0-9a-f]{2}) \| ([A-Z]+) \| ([^|]*)\|", re.MULTILINE)
NAMES = {"Refusal": "REFUSED"}


def spoken(module: Any) -> set[tuple[str, str, str]]:
    """Every message of a module: kind, name, fields with their defaults as the page writes them."""
    found = set()
    for cls in vars(module).values():
        config = getattr(cls, "__struct_config__", None)
        if config is None or config.tag is None:
            continue
        fields = []
        for field in msgspec.structs.fields(cls):
            default: Any = field.default
            if field.default_factory is not NODEFAULT:
                default = field.default_factory()
            required = default is NODEFAULT or config.tag >= 0x50 or 0x20 <= config.tag < 0x30
            default = msgspec.msgpack.decode(default) if isinstance(default, Raw) else default
            default = [] if default == () else default
            fields.append(field.name if required else f"{field.name} = {json.dumps(default)}")
        found.add((f"{config.tag:#04x}", NAMES.get(cls.__name__, cls.__name__.upper()), ", ".join(fields)))
    return found


def test_kinds_and_fields() -> None:
    """The tables have every message with all of its fields, and no other."""
    written = {(kind, name, fields.strip()) for kind, name, fields in _ROW.findall(PAGE)}
    assert written == spoken(hub_wire) | spoken(wire)


def test_limits() -> None:
    """The limits of the page are those that are kept."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", PAGE, re.MULTILINE))
    assert {name: int(number.replace(",", "")) for name, number in rows.items()} == LIMITS
    assert (MAX_CREDIT, QUEUE, QUEUE_BYTES, UNDERWAY_BYTES) == (1_000, 10_000, 64 << 20, 4 << 20)


def test_verbs_that_look() -> None:
    """The page names the verbs that need no operator."""
    looking = re.search(r"look with the verbs (.*?)\. All", PAGE, re.DOTALL)
    assert looking is not None
    assert set(re.findall(r"`(\w+)`", looking[1])) == VIEWING


def steps() -> list[tuple[str, bytes, Any]]:
    """The lines of the example: direction, bytes, meaning."""
    lines = PAGE.partition("### An example")[2].partition("```text\n")[2].partition("```")[0].splitlines()
    found = []
    for line, meaning in zip(lines, [*lines[1:], ""], strict=True):
        if line[0] in "<>" and line[1:]:
            found.append((line[0], bytes.fromhex(line[1:]), json.loads(meaning)))
    return found


@pytest.mark.parametrize(("direction", "frame", "meaning"), steps())
def test_example(direction: str, frame: bytes, meaning: Any) -> None:
    """The bytes are what the line below them says, and what the hub and its clients read."""
    assert msgspec.msgpack.decode(frame) == meaning
    message = decode_to_hub(frame) if direction == ">" else decode_from_hub(frame)
    assert type(message).__struct_config__.tag == meaning[0]


@pytest.mark.parametrize(
    ("kind", "fields", "faulty"),
    [
        (hub_wire.Call, [1, "n" * 500, "h" * 500, [], {}, 86_400], {1: 0, 2: "", 3: "h" * 501, 6: 86_401}),
        (hub_wire.Monitor, [(1 << 64) - 1, "n" * 500], {1: -1, 2: "n" * 501}),
        (hub_wire.Control, [1, "v" * 500], {2: "v" * 501}),
        (hub_wire.Credit, [1], {1: 0}),
        (hub_wire.Replay, [1, 0], {2: -1}),
        (hub_wire.Hello, [1, "t" * 64], {2: "t" * 65}),
        (hub_wire.Post, [1, "n", "h", [], {}, 5, "i" * 200, 0, 0, 253_402_300_799], {7: "i" * 201, 8: -1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_field_may_be(kind: Any, fields: list[Any], faulty: dict[int, Any]) -> None:
    """The bounds of the page are those that are read; a field too many is one that is refused."""
    message = [kind.__struct_config__.tag, *fields]
    assert isinstance(decode_to_hub(msgspec.msgpack.encode(message)), kind)
    for at, value in faulty.items():
        with_fault = [*message[:at], value, *message[at + 1 :]]
        with pytest.raises(wire.WireError):
            decode_to_hub(msgspec.msgpack.encode(with_fault))
    full = [*message, *(None for _ in range(20))]
    with pytest.raises(wire.WireError):
        decode_to_hub(msgspec.msgpack.encode(full))


def test_old_and_other_versions_are_told_apart() -> None:
    """A kind beyond those of version 1 is called another version's."""
    with pytest.raises(wire.WireError, match="another version"):
        decode_to_hub(msgspec.msgpack.encode([0x61, 1]))
