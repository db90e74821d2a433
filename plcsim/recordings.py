"""Reads the recordings that a device file replays: CSV -> times and values, as part of the configuration."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from plcsim.config import DeviceConfig
from plcsim.errors import ConfigError
from plcsim.signals import FreezeAfter, Replay
from plcsim.signals.replay import MAX_SAMPLES

MAX_FILE_BYTES = 64 * 1024 * 1024


def replays(config: DeviceConfig) -> Iterator[tuple[tuple[str | int, ...], Replay]]:
    """Every signal that replays a recording, and where it stands."""
    for g, group in enumerate(config.groups):
        for p, spec in enumerate(group.parameters):
            place = ("groups", g, "parameters", p, "signal")
            if isinstance(spec.signal, Replay):
                yield place, spec.signal
            elif isinstance(spec.signal, FreezeAfter) and isinstance(spec.signal.of, Replay):
                yield (*place, "of"), spec.signal.of


def with_samples(config: DeviceConfig, folder: Path) -> dict[str, Any]:
    """What `DeviceConfig.to_json` gives, with the samples of all recordings in it.

    Their files are relative to the folder. Raises ConfigError: one line that names file, line and column.
    """
    data = config.to_json()
    tables: dict[str, _Table] = {}
    for place, replay in replays(config):
        if replay.file not in tables:
            tables[replay.file] = _read(folder / replay.file)
        table = tables[replay.file]
        signal: Any = data
        for part in place:
            signal = signal[part]
        signal["times"] = _times(table, replay.time_column)
        signal["values"] = [table.number(line, replay.column) for line in table.rows]
    return data


class _Table(NamedTuple):
    source: str
    columns: dict[str, int]
    rows: dict[int, list[str]]
    """By line of the file."""

    def text(self, line: int, column: str) -> str:
        """A cell. Raises ConfigError if there is none."""
        if column not in self.columns:
            names = ", ".join(self.columns)
            raise ConfigError(f"is not a column; there are {names}", source=self.source, line=1, key=column)
        place, row = self.columns[column], self.rows[line]
        if place >= len(row):
            raise ConfigError(
                f"the row has {len(row)} cells; this column is number {place + 1}",
                source=self.source,
                line=line,
                key=column,
            )
        return row[place].strip()

    def number(self, line: int, column: str) -> float:
        """A cell's number. Raises ConfigError if it is none."""
        text = self.text(line, column)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{text!r}: must be a number", source=self.source, line=line, key=column)
        return number


def _read(path: Path) -> _Table:
    source = str(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"the file is larger than {MAX_FILE_BYTES:,} bytes", source=source)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = dict(_numbered(reader))
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", source=source) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"is not UTF-8 text (byte {exc.start})", source=source) from None
    except csv.Error as exc:
        raise ConfigError(f"is not CSV: {exc}", source=source, line=reader.line_num) from None
    if not rows:
        raise ConfigError("a row of column names and a row of values or more are expected", source=source)
    if len(rows) > MAX_SAMPLES:
        raise ConfigError(f"has {len(rows):,} rows; at most {MAX_SAMPLES:,} are replayed", source=source)
    names = [name.strip() for name in header]
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ConfigError("is the name of two columns", source=source, line=1, key=twice[0])
    return _Table(source, {name: i for i, name in enumerate(names)}, rows)


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        if row:
            yield reader.line_num, row


def _times(table: _Table, column: str) -> list[float]:
    times: list[float] = []
    start = _seconds(table, next(iter(table.rows)), column)
    for line in table.rows:
        time = _seconds(table, line, column) - start
        if times and not time > times[-1]:
            raise ConfigError(
                f"{table.text(line, column)!r}: must be later than the row before",
                source=table.source,
                line=line,
                key=column,
            )
        times.append(time)
    return times


def _seconds(table: _Table, line: int, column: str) -> float:
    text = table.text(line, column)
    with suppress(ConfigError):
        return table.number(line, column)  # first, because 17121231.05 would pass for a time, too
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r}: must be seconds or a time such as 2026-01-31T13:05:00",
            source=table.source,
            line=line,
            key=column,
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
