"""kill -9 of the logger, or SIGTERM, again and again: nothing that it accepted is lost or stored twice.

What was accepted is read from the spool's files by their records, without the logger's own recovery; and all
of it must be in the database in the end, by the time at which it was read. The control empties the spool
between two lives: the same judge must then see losses.
python -m long.kill_logger [--count N] [--signal KILL|TERM] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from pathlib import Path

from fix_postgres import Schema
from long.harness import (
    Logger,
    figure,
    finish,
    folder,
    in_spool,
    judge,
    none,
    plant,
    run_words,
    scans_at,
    schema_in,
    server,
    stored,
    until,
)
from long.wire import WireProxy

from logger.scan import StreamKey

INTERVAL_S = 0.02
DEVICES = 2
DRAIN_S = 2.0


class Lives:
    """One logger after the other on one spool."""

    def __init__(self, schema: Schema, proxy: WireProxy, file: Path, place: Path) -> None:
        self.schema, self._proxy, self._place = schema, proxy, place
        self.spool = place / "spool"
        self._words = run_words(
            file, schema, self.spool, "--interval", f"{INTERVAL_S}s", "--drain", f"{DRAIN_S}s",
            conninfo=proxy.conninfo,
        )  # fmt: skip
        self._dice = random.Random(7)
        self.accepted: dict[StreamKey, set[int]] = {}
        self.took: list[float] = []
        self.overdue = 0

    def live(self, by: str, away: bool) -> None:
        """Until it has stored something (or, with the database away, spooled), and a little longer."""
        self._proxy.refuses = away
        if away:
            self._proxy.cut_all()
        stood, size = stored(self.schema), self._spool_size()
        logger = Logger(self._words, self._place / "log")
        if away:
            until(lambda: self._spool_size() > size + 20_000, "scans in the spool")
        else:
            until(lambda: stored(self.schema) > stood + 5 * DEVICES, "scans to be stored")
        time.sleep(self._dice.random() * 0.2)
        if by == "KILL":
            logger.kill()
        elif (took := logger.terminate(DRAIN_S + 3)) is None:
            self.overdue += 1
        else:
            self.took.append(took)
        for key, found in in_spool(self.spool).items():
            self.accepted.setdefault(key, set()).update(found.values())

    def lost(self) -> int:
        """Scans that were accepted and are not stored."""
        there = scans_at(self.schema)
        return sum(len(times - there.get(key, set())) for key, times in self.accepted.items())

    def _spool_size(self) -> int:
        return sum(path.stat().st_size for path in self.spool.rglob("segment-*.spool"))


def run(count: int, by: str, control: int) -> None:
    with server() as postgres, folder() as place, plant(place, DEVICES, 20) as (file, _):
        for name in ("kept", "emptied"):
            (place / name).mkdir()
            proxy = WireProxy(postgres.conninfo)
            with schema_in(postgres.conninfo, name) as schema:
                lives = Lives(schema, proxy, file, place / name)
                for number in range(count if name == "kept" else control):
                    lives.live(by, away=name == "emptied" or number % 3 == 1)
                    if name == "emptied":
                        shutil.rmtree(lives.spool)
                lives.live("TERM", away=False)
                proxy.close()
                if name == "kept":
                    report(lives, count, by)
                else:
                    lost = lives.lost()
                    figure("control: lost where the spool is emptied", lost, "scans", "> 0", lost > 0)


def report(lives: Lives, count: int, by: str) -> None:
    figure(f"loggers ended by SIG{by}", count, "")
    accepted = sum(map(len, lives.accepted.values()))
    figure("accepted scans found in the spools of ended loggers", accepted, "scans", "> 0", accepted > 0)
    none("accepted and lost", lives.lost(), "scans")
    if by == "TERM":
        figure("longest end", max(lives.took), "s", f"<= {DRAIN_S + 1:g}", max(lives.took) <= DRAIN_S + 1)
        none("had to be killed", lives.overdue)
    judge(lives.schema)
    gaps = lives.schema.rows(
        "SELECT last_scan - first_scan + 1, extract(epoch FROM last_at - first_at)::float8 FROM scan_gaps"
    )
    wrong = sum(abs(seconds / INTERVAL_S + 1 - scans) > 1 for scans, seconds in gaps)  # whole scans
    none(f"gaps whose count is not what their time holds, of {len(gaps)}", wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--control", type=int, default=3)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    options = parser.parse_args()
    run(options.count, options.signal, options.control)
    finish()


if __name__ == "__main__":
    main()
