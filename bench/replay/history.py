"""Reads a recording from the history of a database that plclogger wrote: one device's stream."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from psycopg import Connection

from bench.oracle.stored_rows import Rows, history_chunks
from bench.replay.recording import Recording
from logger.database import connect, mapped_errors, require_schema, stored_devices
from logger.database.operators import OPERATORS_STREAM
from logger.scan import ScanLayout, Text
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device
from plcsim.errors import InputError

DAY = timedelta(days=1)
MOST_SCANS = 2_000_000

_STREAM = """
SELECT s.stream_id, max(l.last_recorded_at)
FROM logging_streams s JOIN logging_transactions l USING (device_id, stream_id)
WHERE s.device_id = %s AND coalesce(s.poll_group, '') = '' AND s.stream_id <> %s
GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 1"""


def read_history(
    conninfo: str,
    schema: str,
    device_id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Recording:
    """Read what was recorded of a device between two times; by default the last day that there is.

    Of several streams it takes the one that was written last; poll groups other than the device's own
    interval are left out. Reads only. Raises InputError, DatabaseError.
    """
    with mapped_errors(), connect(conninfo, schema, only_reads=True) as connection:
        require_schema(connection, schema)
        config = _device(stored_devices(connection), device_id)
        device_id = config.device.device_id
        found = connection.execute(_STREAM, (device_id, OPERATORS_STREAM)).fetchone()
        if found is None or found[1] is None:
            raise InputError(f"nothing was logged of device {device_id!r} in schema {schema!r}")
        stream_id, newest = found
        between = _between(since, until, newest)
        with connection.transaction():
            _take_time(connection)
            return _read(connection, config, stream_id, between)


def _device(devices: list[DeviceConfig], device_id: str) -> DeviceConfig:
    """The device without its signals: what was recorded is the truth of a replay, not what they say."""
    names = [config.device.device_id for config in devices]
    known = ", ".join(names[:8]) or "none"
    if not device_id and len(devices) != 1:
        raise InputError(f"--device must say which device to replay; there are {known}")
    if device_id and device_id not in names:
        raise InputError(f"--device {device_id!r} is not in this database; there are {known}")
    data = devices[names.index(device_id) if device_id else 0].to_json()
    for group in data["groups"]:
        for parameter in group["parameters"]:
            parameter.pop("signal", None)
    return parse_device(data, "recorded device")


def _between(since: datetime | None, until: datetime | None, newest: datetime) -> tuple[datetime, datetime]:
    """Both ends, in UTC where they say nothing else; the end is before the second."""
    last = _in_utc(until) if until else newest + timedelta(microseconds=1)
    first = _in_utc(since) if since else last - DAY
    if first >= last:
        raise InputError(f"--from {first.isoformat()} is not before --to {last.isoformat()}")
    return first, last


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _take_time(connection: Connection[Any]) -> None:
    """A day takes longer to read than a session of ours may."""
    connection.execute("SET TRANSACTION READ ONLY")
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
        connection.execute("SELECT set_config(name, '0', true) FROM pg_settings WHERE name = %s", (setting,))


def _read(
    connection: Connection[Any], config: DeviceConfig, stream_id: int, between: tuple[datetime, datetime]
) -> Recording:
    layout = ScanLayout(config)
    at, values, quality = [], [], []
    texts: dict[int, tuple[Text, ...]] = {}
    scans = left_out = 0
    for whole, broken in _whole_scans(history_chunks(connection, config.device.device_id, stream_id,
                                                     between=between), layout):  # fmt: skip
        left_out += broken
        at.append(whole["recorded_at"].max(axis=1, initial=0))
        values.append(whole["value"])
        quality.append(whole["quality"])
        for scan, column in np.argwhere(whole["text_bytes"] >= 0):
            texts.setdefault(scans + int(scan), ())
            texts[scans + int(scan)] += (Text(int(column), str(whole["text"][scan, column])),)
        scans += len(whole)
        if scans > MOST_SCANS:
            raise InputError(f"more than {MOST_SCANS:,} scans were recorded then: give --from and --to")
    first, last = (end.isoformat(timespec="seconds") for end in between)
    if not scans:
        raise InputError(f"no whole scan of {config.device.device_id!r} was recorded from {first} to {last}")
    at_us = np.concatenate(at)
    later = np.diff(np.maximum.accumulate(at_us), prepend=at_us[0] - 1) > 0  # a clock was set back, say
    kept = np.flatnonzero(later)
    table = np.concatenate(values)[kept]
    return Recording(
        f"history of {config.device.device_id} from {first} to {last}",
        config,
        (at_us[kept] - at_us[kept[0]]) / 1e6,
        np.where(np.isfinite(table), table, np.nan),
        np.concatenate(quality)[kept],
        {new: texts[int(old)] for new, old in enumerate(kept) if int(old) in texts},
        left_out + scans - len(kept),
    )


def _whole_scans(chunks: Iterator[Rows], layout: ScanLayout) -> Iterator[tuple[Rows, int]]:
    """(rows of whole scans of shape (scans, parameters), how many others) of each chunk.

    A scan that ends in the next chunk goes with that. Not whole is what lacks a parameter, and what an
    operator inserted again.
    """
    carried: Rows | None = None
    for chunk in chunks:
        rows = chunk if carried is None else np.concatenate([carried, chunk])
        end = int(np.searchsorted(rows["scan"], rows["scan"][-1])) if len(rows) else 0
        yield _split(rows[:end], layout)
        carried = rows[end:]
    if carried is not None:
        yield _split(carried, layout)


def _split(rows: Rows, layout: ScanLayout) -> tuple[Rows, int]:
    numbers, starts, counts = np.unique(rows["scan"], return_index=True, return_counts=True)
    candidates = starts[counts == layout.size]
    whole = rows[candidates[:, None] + np.arange(layout.size)]
    right = (whole["parameter_id"] == layout.parameter_ids).all(axis=1)
    return whole[right], len(numbers) - int(right.sum())
