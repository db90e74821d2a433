"""What a logger's process says of itself without a PLC and a database: the alarms of its disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_scans import MAP
from fix_spool import scan_of

from logger.reporting import Reporter
from logger.scan import StreamKey
from logger.settings import Settings, logged_streams
from logger.spool import Quarantine, Spool
from logger.storing import Storing
from plcsim.device_file import parse_device

OVEN = parse_device({"device": {"device_id": "oven-1"}, **MAP})
KEY = StreamKey("oven-1")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    spool.open()
    yield spool
    spool.close()


def reporter_of(spool: Spool, *, most_quarantined: int = 10) -> tuple[Reporter, Storing]:
    settings = Settings((OVEN,), "", spool.folder)
    streams = logged_streams(settings)
    storing = Storing(settings, streams, spool, lambda stored: None)
    storing.quarantine = Quarantine(spool.folder, max_count=most_quarantined)
    return Reporter(settings, streams, spool, storing), storing


@pytest.mark.parametrize("full", [False, True])
def test_quarantine_that_fills_up_is_an_alarm(spool: Spool, full: bool) -> None:
    reporter, storing = reporter_of(spool, most_quarantined=5)
    for number in range(1, 5 if full else 4):
        storing.quarantine.add(KEY, scan_of(number), number, "refused", "23514")
    expected = ["the quarantine is 80 % full: see plclogger quarantine list"] if full else []
    assert reporter.figures().alarms == expected


def test_what_waits_of_a_stream_that_nobody_logs_is_an_alarm(spool: Spool) -> None:
    stranger, stored = StreamKey("oven-2"), StreamKey("oven-3")
    spool.put(KEY, scan_of(1))
    for number in (1, 2):
        spool.put(stranger, scan_of(number))
    spool.put(stored, scan_of(1))
    spool.flush(10)
    spool.release([each for each in spool.take(10, 1.0) if each.key == stored])
    reporter, _ = reporter_of(spool)
    assert reporter.figures().alarms == [
        "scans wait that are not stored, because nobody logs their stream now: 2 of oven-2, stream 1"
    ]


def test_a_process_may_open_as_many_files_as_the_system_lets_it() -> None:
    program = (
        "import resource; from logger.service import raise_file_limit;"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard)); raise_file_limit();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    soft, hard = map(int, done.stdout.split())
    assert soft == (min(hard, 65_536) if hard > 0 else 65_536)
