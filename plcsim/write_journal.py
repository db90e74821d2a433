"""What clients wrote to an emulated PLC, one JSON object a line: the truth is recomputed from it.

A line tells all that one write request did, or that the device restarted; see docs/signals.md. Numbers
that JSON does not know are the texts "nan", "inf" and "-inf". A last line without its newline is what an
emulator left that died while it wrote: it is not counted, because the device died before it answered the
request and before a PLC scan followed it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from plcsim.errors import InputError
from plcsim.journal_file import append_line, open_to_append
from plcsim.writes import Event, Restart, Write

_Line = tuple[str, Sequence[Write | Restart]]
"""The device_id and what is told of the device."""


def open_journal(path: Path) -> BinaryIO:
    """A new journal, or an empty one. Raises InputError if it cannot be, or holds an earlier run's writes:
    an emulator starts from its device file, so together they would tell a wrong truth."""
    file = open_to_append(path)
    if os.fstat(file.fileno()).st_size:
        file.close()
        raise InputError(f"{path}: holds the writes of an earlier run; name a new file")
    return file


def append_write(file: BinaryIO, event: Event) -> None:
    """Append one event and hand it to the operating system. Raises OSError."""
    append_line(file, json.dumps(_to_json(event), allow_nan=False, ensure_ascii=False))


def read_writes(path: Path) -> list[Write]:
    """All writes of a journal, in order, of all epochs and devices. Raises InputError if it is not one."""
    return [item for _, items in _lines(path) for item in items if isinstance(item, Write)]


def read_last_epochs(path: Path) -> dict[str, list[Write]]:
    """By device_id: the writes since the last restart of that device. Raises InputError as `read_writes`."""
    epochs: dict[str, int] = {}
    writes: dict[str, list[Write]] = {}
    for device_id, items in _lines(path):
        for item in items:
            if item.epoch > epochs.get(device_id, -1):
                epochs[device_id], writes[device_id] = item.epoch, []
            if isinstance(item, Write) and item.epoch == epochs[device_id]:
                writes[device_id].append(item)
    return writes


def _to_json(event: Event) -> dict[str, Any]:
    head = {"at": datetime.now(UTC).isoformat(), "device": event.device_id}
    if isinstance(event, Restart):
        return {**head, "event": "restart", "epoch": event.epoch, "plc_scan": event.plc_scan}
    return {
        **head,
        "event": "write",
        "from": event.origin.peer,
        "unit_id": event.origin.unit_id,
        "function_code": event.origin.function_code,
        "table": event.table.value,
        "address": event.address,
        "old": event.old,
        "new": event.new,
        "parameters": [
            {
                "plc_scan": change.write.plc_scan,
                "epoch": change.write.epoch,
                "parameter_id": change.write.parameter_id,
                "old": _number(change.old),
                "value": _number(change.write.value),
            }
            for change in event.changes
        ],
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _lines(path: Path) -> list[_Line]:
    try:
        *whole, _ = path.read_bytes().split(b"\n")
        lines = [line.decode() for line in whole]
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: it is not UTF-8 text") from None
    return [_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _parsed(line: str, where: str) -> _Line:
    try:
        record = json.loads(line)
    except ValueError as exc:
        raise InputError(f"{where}: is not JSON: {exc}") from None
    kind = record.get("event") if isinstance(record, dict) else None
    try:
        if kind == "restart":
            device_id = str(record["device"])
            return device_id, [Restart(device_id, int(record["epoch"]), int(record["plc_scan"]))]
        if kind == "write":
            return str(record["device"]), [_write(parameter) for parameter in record["parameters"]]
    except KeyError as exc:
        raise InputError(f"{where}: a {kind} without {exc.args[0]!r}") from None
    except (ValueError, TypeError) as exc:
        raise InputError(f"{where}: is not a {kind} as an emulator records it: {exc}") from None
    raise InputError(f'{where}: is neither a "write" nor a "restart" (key "event")')


def _write(record: dict[str, Any]) -> Write:
    plc_scan, parameter_id, epoch = (record[key] for key in ("plc_scan", "parameter_id", "epoch"))
    for key, number in (("plc_scan", plc_scan), ("parameter_id", parameter_id), ("epoch", epoch)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"{key}: {number!r} is not a whole number from 0 on")
    return Write(plc_scan, parameter_id, float(record["value"]), epoch)
