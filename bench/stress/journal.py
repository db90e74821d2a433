"""What a logger read and stored, scan by scan, in files that outlive its kill -9; for whoever judges it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logger.forwarding.figures import Stored
from logger.reading.schedule import Due
from logger.scan import WORST_USABLE, Scan

RECORD = np.dtype([("read_us", "<i8"), ("due_ns", "<i8"), ("at_ns", "<i8"), ("is_good", "<i8")])
"""A scan: when its first reply came (microseconds since 1970, which names it), when it was due and when it
was read or stored (monotonic clock, one for all processes), and whether every value of it is usable."""

Records = NDArray[np.void]
READ, STORED = "read.journal", "stored.journal"


class Journal:
    """The two journals of one logger; its hooks append to them, a record in one write."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._read, self._stored = (os.open(folder / name, flags, 0o644) for name in (READ, STORED))

    def on_scan(self, due: Due, scan: Scan) -> None:
        os.write(self._read, _records([scan], time.monotonic_ns()).tobytes())

    def on_stored(self, stored: Stored) -> None:
        os.write(self._stored, _records(stored.scans, stored.committed_ns).tobytes())


def _records(scans: tuple[Scan, ...] | list[Scan], at_ns: int) -> Records:
    apart_ns = time.time_ns() - time.monotonic_ns()
    rows = []
    for scan in scans:
        read_us = int(scan.recorded_at.min())
        due_ns = scan.due_ns or 1000 * read_us - apart_ns  # of a run before, it has no due time any more
        rows.append((read_us, due_ns, at_ns, int((scan.quality >= WORST_USABLE).all())))
    return np.array(rows, dtype=RECORD)


def records_in(path: Path) -> Records:
    """All whole records of a journal, in the order in which they were written."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], dtype=RECORD)
