"""What the types of SunSpec points become in a device file, and what "not implemented" is in each."""

from __future__ import annotations

from plcsim.importers.sunspec_model import Point
from plcsim.parameters import DataType

TYPES = {
    **dict.fromkeys(("uint16", "raw16", "acc16", "enum16", "bitfield16", "count"), DataType.UINT16),
    **dict.fromkeys(("uint32", "acc32", "enum32", "bitfield32", "ipaddr"), DataType.UINT32),
    **dict.fromkeys(("uint64", "acc64", "bitfield64", "eui48"), DataType.UINT64),
    **{name: DataType(name) for name in ("int16", "int32", "int64", "float32", "float64", "string")},
    "sunssf": DataType.INT16,
}
NULLS = {
    **dict.fromkeys(("int16", "sunssf"), 0x8000),
    **dict.fromkeys(("uint16", "enum16", "bitfield16", "count"), 0xFFFF),
    "int32": 0x8000_0000,
    **dict.fromkeys(("uint32", "enum32", "bitfield32"), 0xFFFF_FFFF),
    "int64": 0x8000_0000_0000_0000,
    **dict.fromkeys(("uint64", "bitfield64"), 0xFFFF_FFFF_FFFF_FFFF),
    **dict.fromkeys(("acc16", "acc32", "acc64"), 0),
    "eui48": 0xFFFF_FFFF_FFFF,
}
"""What "not implemented" looks like; a float has NaN, a string NULs."""

LEFT_OUT = {
    "pad": "padding, not a value; its register is answered with 0",
    "ipv6addr": "128 bits are no type of a device file; its registers are answered with 0",
}
CHANGED = {
    "ipaddr": "an IPv4 address became its number, uint32",
    "eui48": "a MAC address became its number, uint64",
    "raw16": "raw bits became uint16",
}
_AT_WORK = ("MPPT", "ON", "RUNNING", "NORMAL", "CONNECTED", "ENABLED")
"""States in which a device measures something: an enum starts in the first of them that it has."""


def first_state(point: Point) -> int:
    """The value with which an enum starts."""
    values = {symbol.name.upper(): symbol.value for symbol in point.symbols}
    state = next((values[name] for name in _AT_WORK if name in values), point.symbols[0].value)
    return state if 0 <= state < 2**16 - 1 else 0


def symbols_of(point: Point) -> str:
    """The names of its values as a comment."""
    listed = ", ".join(f"{symbol.value} {symbol.name}" for symbol in point.symbols)
    what = "bits" if point.type.startswith("bitfield") else "values"
    return f"{point.name[:60]}, {what}: {listed}" if listed else ""
