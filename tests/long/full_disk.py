"""A full disk under the spool, in both policies: nothing crashes, and stored + gaps = all that was scheduled.

The spool lies on a small tmpfs in a mount namespace of the logger's own, which is gone when the logger is.
The database is away until the disk is full and a while longer; every other logger has never seen it before.
python -m long.full_disk [--count TIMES] (with PYTHONPATH=tests; needs unshare of util-linux)
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fix_postgres import Schema
from long.harness import (
    figure,
    finish,
    folder,
    judge,
    none,
    plant,
    run_words,
    schema_in,
    server,
    stored,
    until,
)
from long.wire import WireProxy

DISK_BYTES = 2 << 20
FULL_S = 6.0
"""How long it stays full."""


def in_namespace(words: list[object], spool: Path, log: Path) -> subprocess.Popen[bytes]:
    """`plclogger` with a tmpfs at its spool, which only it sees."""
    as_root = ["--map-root-user"] if os.geteuid() else []
    script = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && exec "$@"'
    command = ["unshare", "--mount", *as_root, "sh", "-c", script, str(spool)]
    program = [sys.executable, "-m", "logger", *map(str, words)]
    with log.open("ab") as file:
        return subprocess.Popen([*command, *program], stdout=file, stderr=file, process_group=0)


def free_bytes(process: subprocess.Popen[bytes], spool: Path) -> int:
    """On the disk that the logger sees."""
    try:
        found = os.statvfs(f"/proc/{process.pid}/root{spool}")
    except FileNotFoundError:
        return DISK_BYTES  # it has ended
    return found.f_bavail * found.f_frsize


def is_full(log: Path, policy: str) -> bool:
    """Whether the logger met the full disk, as it says: it leaves some of it to its notes."""
    said = log.read_text() if log.exists() else ""
    return ("the disk is full" if policy == "block" else "dropped: the disk was full") in said


def run(times: int) -> None:
    with server() as postgres, folder() as place, plant(place, 4, 20) as (file, _):
        for policy in ("block", "drop-oldest"):
            for turn in range(2 * times):
                with schema_in(postgres.conninfo, f"s{turn}") as schema:
                    one(schema, file, place / f"{policy}-{turn}", policy, knows=turn % 2 == 0)


def one(schema: Schema, file: Path, place: Path, policy: str, knows: bool) -> None:
    place.mkdir()
    spool = place / "spool"
    spool.mkdir()
    proxy = WireProxy(schema.conninfo)
    proxy.refuses = not knows
    words = run_words(
        file, schema, spool, "--interval", "20ms", "--when-full", policy, conninfo=proxy.conninfo
    )
    process = in_namespace(words, spool, place / "log")
    try:
        if knows:
            until(lambda: stored(schema), "the first scan")
            proxy.refuses = True
            proxy.cut_all()
        until(lambda: is_full(place / "log", policy) or process.poll() is not None, "a full disk")
        figure(f"{policy}: free when it was full", free_bytes(process, spool), "bytes")
        time.sleep(FULL_S)
        none(f"{policy}: loggers that died of it", int(process.poll() is not None))
        proxy.refuses = False
        given_up = "SELECT count(*) FROM scan_gaps WHERE reason LIKE '%full%'"
        until(lambda: schema.value(given_up), "the gap records", 30)
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    except (TimeoutError, FileNotFoundError):
        print((place / "log").read_text()[-2000:])
        raise
    finally:
        process.kill()
        process.wait()
        proxy.close()
    gaps, reasons = schema.rows(
        "SELECT coalesce(sum(last_scan - first_scan + 1), 0), string_agg(DISTINCT reason, '; ')"
        " FROM scan_gaps"
    )[0]
    figure(f"{policy}: scans that were given up", gaps, f"({str(reasons)[:40]})", "> 0", gaps > 0)
    for device, used, seconds in schema.rows(
        "SELECT device_id, max(scan) - min(scan),"
        " extract(epoch FROM max(recorded_at) - min(recorded_at))::float8"
        " FROM parameter_value_history GROUP BY 1"
    ):
        due = seconds / 0.02
        ok = abs(used - due) <= 0.01 * due + 5  # a reply on a busy machine is some intervals late
        figure(f"{policy}: numbers that {device} used, of {due:.0f} that were due", used, "scans", "all", ok)
    judge(schema)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1)
    run(parser.parse_args().count)
    finish()


if __name__ == "__main__":
    main()
