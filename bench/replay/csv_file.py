"""Reads a recording from a CSV file: a row a scan, a column of times, a column for each parameter.

Any historian exports that. Times are seconds or ISO 8601, later from row to row; an empty cell was not
read. Columns are separated by comma, semicolon or tab; where it is no comma, numbers may have one.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.replay.recording import Recording
from logger.scan import Quality
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device
from plcsim.errors import ConfigError

MOST_PARAMETERS = 5000
MOST_BYTES = 4 * 1024**3
_GROUP_SIZE = 31
"""Of float64 in four registers each, what fits a request of 125."""
_NOT_READ = {"", "nan", "null", "none", "bad", "-"}
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_:/ -]+")


class _Columns(NamedTuple):
    """Which column is what."""

    delimiter: str
    names: list[str]
    time: int
    values: list[int]


def read_csv(path: Path, time_column: str = "", process_column: str = "") -> Recording:
    """Read a file; without `time_column` the first column has the times.

    `process_column` holds the number of the process that runs, 0 while none does: its rows are written
    too then. Raises ConfigError: one line that names file, line and column.
    """
    source = str(path)
    reader: Any = None
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"the file is larger than {MOST_BYTES:,} bytes", source=source)
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = _columns(file.readline(), source, time_column)
            names = [columns.names[i] for i in columns.values]
            if process_column and process_column not in names:
                raise ConfigError(
                    f"is not a column of values; there are {_some(names)}",
                    source=source, line=1, key=process_column,
                )  # fmt: skip
            reader = csv.reader(file, delimiter=columns.delimiter, strict=True)
            times, values = _cells(_numbered(reader), columns, source)
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", source=source) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"is not UTF-8 text (byte {exc.start})", source=source) from None
    except csv.Error as exc:
        line = reader.line_num + 1 if reader else 1
        raise ConfigError(f"is not CSV: {exc}", source=source, line=line) from None
    if not len(times):
        raise ConfigError("has no row of values below its names", source=source)
    table = np.array(values, dtype=np.float64).reshape(len(times), len(names))
    quality = np.where(np.isnan(table), Quality.BAD_COMMUNICATION, Quality.GOOD).astype(np.int16)
    return Recording(source, device_of(names, process_column), np.array(times) - times[0], table, quality)


def device_of(names: list[str], process_column: str = "") -> DeviceConfig:
    """A device with these parameters, all float64; no emulator can serve it, and nobody asks one."""
    full_names = _full_names(names)
    specs = [
        {
            "id": i + 1,
            "component": full_name.partition(".")[0],
            "name": full_name.partition(".")[2],
            "type": "float64",
            "address": 4 * i,
        }
        for i, full_name in enumerate(full_names)
    ]
    data: dict[str, Any] = {
        "device": {"device_id": "replayed"},
        "groups": [
            {
                "name": f"group_{n}",
                "table": "input_register",
                "consistent": False,
                "parameters": specs[first : first + _GROUP_SIZE],
            }
            for n, first in enumerate(range(0, len(specs), _GROUP_SIZE), 1)
        ],
    }
    if process_column:
        shown = full_names[names.index(process_column)]
        step = {"name": "recorded", "seconds": 1.0}
        data["process"] = {
            "recipe": "recorded",
            "running": shown,
            "number": shown,
            "idle_s": 1.0,
            "phases": [{"steps": [step]}],
        }
    return parse_device(data, "columns of the recording")


def _columns(header: str, source: str, time_column: str) -> _Columns:
    delimiter = max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header.rstrip("\r\n")], delimiter=delimiter), [])]
    if len(names) < 2:
        raise ConfigError(
            "a row of column names is expected: one of times, one or more of values", source=source, line=1
        )
    for name in names:
        if not name or names.count(name) > 1:
            problem = "is the name of two columns" if name else "a column has no name"
            raise ConfigError(problem, source=source, line=1, key=name)
    if time_column and time_column not in names:
        raise ConfigError(
            f"is not a column; there are {_some(names)}", source=source, line=1, key=time_column
        )
    if len(names) - 1 > MOST_PARAMETERS:
        raise ConfigError(
            f"has {len(names) - 1:,} columns of values, at most {MOST_PARAMETERS:,}", source=source
        )
    time = names.index(time_column) if time_column else 0
    return _Columns(delimiter, names, time, [i for i in range(len(names)) if i != time])


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with their line of the file; the header was line 1."""
    for row in reader:
        if row:
            yield reader.line_num + 1, row


def _cells(rows: Iterator[tuple[int, list[str]]], columns: _Columns, source: str) -> tuple[Any, Any]:
    """Times and values, the latter row by row."""
    times, values = array("d"), array("d")
    for line, row in rows:
        if len(row) != len(columns.names):
            raise ConfigError(
                f"the row has {len(row)} cells, the first line {len(columns.names)}", source=source, line=line
            )
        at = _seconds(row[columns.time], source, line, columns.names[columns.time])
        if times and not at > times[-1]:
            raise ConfigError(
                f"{row[columns.time]!r}: must be later than the row before",
                source=source, line=line, key=columns.names[columns.time],
            )  # fmt: skip
        times.append(at)
        for i in columns.values:
            values.append(_number(row[i], columns.delimiter, source, line, columns.names[i]))
    return times, values


def _number(cell: str, delimiter: str, source: str, line: int, column: str) -> float:
    text = cell.strip()
    if text.lower() in _NOT_READ:
        return math.nan
    with suppress(ValueError):
        number = float(text if delimiter == "," else text.replace(",", "."))
        if math.isfinite(number):
            return number
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    raise ConfigError(
        f"{text!r}: must be a number, or empty where nothing was read", source=source, line=line, key=column
    )


def _seconds(cell: str, source: str, line: int, column: str) -> float:
    text = cell.strip()
    with suppress(ValueError):
        number = float(text)  # first, because 17121231.05 would pass for a time, too
        if math.isfinite(number):
            return number
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    raise ConfigError(
        f"{text!r}: must be seconds or a time such as 2026-01-31T13:05:00",
        source=source,
        line=line,
        key=column,
    )


def _full_names(names: list[str]) -> list[str]:
    """Column names as component.name, each once, of the characters that a name may have."""
    found: list[str] = []
    for i, name in enumerate(names):
        component, _, rest = name.partition(".")
        parts = (component, rest) if rest else ("recorded", component)
        clean = [_NOT_A_NAME.sub("_", part).strip(" :/-")[:55].strip() or "value" for part in parts]
        full_name = ".".join(clean)
        found.append(full_name if full_name not in found else f"{full_name}_{i + 1}")
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
