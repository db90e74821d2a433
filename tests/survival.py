"""`plclogger` as a process that is started often, ended in any way, and judged by what it stored.

What a test takes out to see itself fail is in spoiled.py; it is done in the new process before it begins.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fix_logger import DEADLINE_S, ENVIRONMENT, Ended
from fix_postgres import Schema
from long.harness import in_spool, scans_at

from bench.oracle.verify import Verification, verify
from logger.cli import main
from logger.database import connect
from logger.scan import StreamKey

Spoil = Callable[[], None]
Times = dict[StreamKey, set[int]]
"""By stream: when scans were read, microseconds since 1970."""

_fork = multiprocessing.get_context("forkserver")


class Life:
    """One process of the logger."""

    def __init__(self, words: list[str], said: Path, *spoils: Spoil) -> None:
        self._said, self._complaints = said, said.with_suffix(".err")
        arguments = (words, self._said, self._complaints, spoils)
        self.process = _fork.Process(target=_program, args=arguments)
        self.process.start()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()

    @property
    def complaints(self) -> str:
        """What it has said on stderr up to now."""
        return self._complaints.read_text() if self._complaints.exists() else ""

    def end(self) -> Ended:
        """SIGTERM, and what it left behind."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> Ended:
        self.process.join(DEADLINE_S)
        code = self.process.exitcode
        assert code is not None, f"plclogger did not end: {self.complaints}"
        return Ended(code, self._said.read_text(), self.complaints)


def _program(words: list[str], said: Path, complaints: Path, spoils: tuple[Spoil, ...]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for descriptor, path in enumerate((said, complaints), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    for spoil in spoils:
        spoil()
    sys.argv = ["plclogger", *words]
    main()


class Lives:
    """One logger after the other on one spool; what the killed ones had accepted is remembered."""

    def __init__(self, schema: str, folder: Path, device_file: Path, conninfo: str, *options: object) -> None:
        self.spool = folder / "spool"
        self._folder = folder
        self._words = [
            "run", str(device_file), "--database", conninfo, "--schema", schema,
            "--spool", str(self.spool), "--json", *map(str, options),
        ]  # fmt: skip
        self.accepted: Times = {}
        self.lives: list[Life] = []

    def start(self, *spoils: Spoil) -> Life:
        self.lives.append(Life(self._words, self._folder / f"life-{len(self.lives)}", *spoils))
        return self.lives[-1]

    def remember(self) -> None:
        """Note what the dead logger's files hold: read by their records, without its own recovery."""
        for key, found in in_spool(self.spool).items():
            self.accepted.setdefault(key, set()).update(found.values())

    def scans_waiting(self) -> int:
        return sum(map(len, in_spool(self.spool).values()))

    def lost(self, schema: Schema) -> int:
        """Scans that were accepted and are not stored."""
        there = scans_at(schema)
        return sum(len(times - there.get(key, set())) for key, times in self.accepted.items())


@contextmanager
def lives(schema: str, folder: Path, device_file: Path, conninfo: str, *options: object) -> Iterator[Lives]:
    """Loggers until the end of the block."""
    made = Lives(schema, folder, device_file, conninfo, *options)
    try:
        yield made
    finally:
        for life in made.lives:
            life.kill()


def judged(schema: Schema) -> Verification:
    """I1 to I6, through a connection of its own."""
    with connect(schema.conninfo, schema.name) as connection:
        return verify(connection)


def check(schema: Schema) -> None:
    """Every invariant holds, of something."""
    verification = judged(schema)
    assert verification.violations == 0, verification.to_json()
    assert verification.rows > 0


def stored_twice(schema: Schema) -> int:
    """Scans that are there under more than one number: they were read at the same microsecond."""
    return int(
        schema.value(
            "SELECT count(*) FROM (SELECT FROM parameter_value_history WHERE parameter_id = 1"
            " GROUP BY device_id, stream_id, recorded_at HAVING count(*) > 1) doubled"
        )
    )


def numbers_stored(schema: Schema) -> int:
    """Numbers that all streams have, scans and gaps; 0 while there are none."""
    return int(schema.value("SELECT coalesce(sum(last_scan), 0) FROM logging_streams WHERE stream_id > 0"))
