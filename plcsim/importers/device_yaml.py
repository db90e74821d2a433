"""Writes a draft as a device file that an engineer reads and goes on with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plcsim.importers.draft import Draft, Entry
from plcsim.importers.report import Report, printable

MAX_REMARKS = 200
"""Lines of the report that the file repeats at its top."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def device_text(draft: Draft, report: Report) -> str:
    """The device file of a draft; the same draft gives the same text."""
    return "\n".join([*_head(draft, report), *_gaps(draft), *_groups(draft)]) + "\n"


def _head(draft: Draft, report: Report) -> Iterator[str]:
    yield f"# {printable(draft.name)}"
    yield "#"
    yield f"# Made by `plcsim import` from {printable(draft.origin)}."
    yield "# Addresses count from 0. The signals are plausible defaults by unit: change them to your plant's."
    yield f"# {report.summary()}."
    lines = list(report.lines())
    yield from (f"#   {line}" for line in lines[:MAX_REMARKS])
    if len(lines) > MAX_REMARKS:
        yield f"#   ... and {len(lines) - MAX_REMARKS} more"
    yield ""
    yield "device:"
    yield f"  device_id: {scalar(draft.device_id)}"
    yield f"  name: {scalar(draft.name)}"
    yield "  seed: 1                     # of the noise on the signals"
    yield "  plc_scan_ms: 100"
    yield ""
    yield "modbus:"
    yield "  host: 127.0.0.1"
    yield "  port: 5020"
    yield f"  unit_id: {draft.unit_id}"
    yield ""
    yield "logging:"
    yield "  interval_s: 1.0"
    yield ""


def _gaps(draft: Draft) -> Iterator[str]:
    if draft.gaps:
        yield "# Registers without a parameter that the device answers all the same."
        yield "readable_gaps:"
        for gap in draft.gaps:
            yield f"  - {{table: {gap.table.value}, address: {gap.address}, count: {gap.count}}}"
        yield ""


def _groups(draft: Draft) -> Iterator[str]:
    yield "groups:"
    number = 0
    for group in draft.groups:
        common = _commonest(entry.byte_order.value for entry in group.entries)
        yield f"  - name: {scalar(group.name)}"
        yield f"    table: {group.table.value}"
        if not group.table.is_bits:
            yield f"    byte_order: {common}"
        yield "    parameters:"
        for entry in group.entries:
            number += 1
            if entry.comment:
                yield f"      # {printable(entry.comment)}"
            yield f"      - {{{_flow(_keys(entry, number, common))},"
            yield f"         signal: {{{_flow(entry.signal)}}}}}"
        yield ""


def _keys(entry: Entry, number: int, byte_order: str) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "id": number,
        "component": entry.component,
        "name": entry.name,
        "address": entry.address,
        "type": entry.data_type.value,
    }
    if entry.byte_order.value != byte_order and not entry.table.is_bits:
        keys["byte_order"] = entry.byte_order.value
    if entry.length is not None:
        keys["length"] = entry.length
    if entry.scale != 1.0:
        keys["scale"] = entry.scale
    if entry.unit:
        keys["unit"] = entry.unit
    if entry.null_value is not None:
        keys["null_value"] = entry.null_value
    if entry.writable:
        keys["writable"] = True
    return keys


def _commonest(values: Iterable[str]) -> str:
    """The most frequent; of several the first in the alphabet, ABCD."""
    listed = list(values)
    return min(set(listed), key=lambda value: (-listed.count(value), value))


def _flow(keys: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}: {_pattern(value) if key == 'null_value' else scalar(value)}" for key, value in keys.items()
    )


def _pattern(bits: int) -> str:
    """Bits that are no number, the way tables of registers show them."""
    return f"0x{bits:04X}" if bits else "0"


def scalar(value: Any) -> str:
    """A scalar as YAML reads it back, in quotes only where it must be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:
        return "\\uFFFD"  # half of a pair, which no file can hold
    return character if character.isprintable() else f"\\U{code:08X}"
