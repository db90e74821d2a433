"""What the long tests share: a server, a plant, `plclogger` as a process, the judge, and the figures.

Everything that is started ends with its block, also when the part is interrupted: loggers have process groups
of their own, which are killed; folders are removed; the server is the part's own and goes with its folder.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psycopg
import yaml
from fix_emulator import ALD_FILE
from fix_postgres import Schema

from bench.oracle.verify import verify
from logger.database import connect
from logger.database.embedded import EmbeddedPostgres
from logger.scan import Gap, StreamKey
from logger.spool.records import Kind, item_of, records_in
from plcsim.testing import RunningFleet

T = TypeVar("T")

DEADLINE_S = 60.0
STEP_S = 0.01
_short: list[str] = []

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["logger.cli.run", "long.harness"])


def figure(name: str, value: float, unit: str, bound: str = "", ok: bool = True) -> bool:
    """Print a figure as `name value unit bound verdict`; without a bound it is only reported."""
    verdict = ("ok" if ok else "short") if bound else "reported"
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    print(f"{name:<64} {number:>9} {unit:<14} {bound:<10} {verdict}", flush=True)
    if bound and not ok:
        _short.append(name)
    return ok


def none(name: str, value: int, unit: str = "") -> bool:
    """A figure that must be 0."""
    return figure(name, value, unit, "= 0", value == 0)


def finish() -> NoReturn:
    """End the part: exit code 1 if a figure is short of its bound."""
    sys.exit(1 if _short else 0)


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first true thing that the condition says. Raises TimeoutError."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s in vain for {what}")
        time.sleep(STEP_S)
    return value


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that the server's user can enter too."""
    made = Path(tempfile.mkdtemp(prefix="plcsim-long-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def server(settings: dict[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of our own, with fsync, that is gone afterwards. SIGTERM ends the part in order."""
    signal.signal(signal.SIGTERM, _interrupted)
    with (
        folder() as place,
        EmbeddedPostgres(
            place / "postgresql", {"max_connections": "300", "max_wal_size": "4GB", **(settings or {})}
        ) as made,
    ):
        yield made


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def schema_in(conninfo: str, name: str = "long") -> Iterator[Schema]:
    made = Schema(conninfo, name)
    try:
        yield made
    finally:
        with contextlib.suppress(psycopg.Error):
            made.drop()


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens at, below those that the system gives out."""
    for first in range(20_000 + os.getpid() % 97 * 100, 32_000, max(count, 50)):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")


def fleet_file(place: Path, count: int, plc_scan_ms: int = 100, **keys: Any) -> Path:
    """A fleet of the 84-parameter machine at ports of its own, for the emulator and the logger alike."""
    entry = {
        "template": str(ALD_FILE), "count": count, "device_id": "ald-{n:03}", "port": free_ports(count),
        "seed": 1, "overrides": {"plc_scan_ms": plc_scan_ms}, **keys,
    }  # fmt: skip
    path = place / "fleet.yaml"
    path.write_text(yaml.safe_dump({"fleet": {"name": "plant", "processes": 1}, "devices": [entry]}))
    return path


@contextmanager
def plant(
    place: Path, count: int, plc_scan_ms: int = 100, **keys: Any
) -> Iterator[tuple[Path, RunningFleet]]:
    """So many emulated machines; their file, and the fleet that runs."""
    path = fleet_file(place, count, plc_scan_ms, **keys)
    with RunningFleet(path) as running:
        yield path, running


class Logger:
    """`plclogger` in a forked process that has its modules loaded already."""

    def __init__(self, words: Sequence[object], place: Path, *spoils: Callable[[], None]) -> None:
        """`spoils` are done in its process before it begins (spoiled.py)."""
        place.mkdir(exist_ok=True)
        self.said, self.complaints = place / "stdout", place / "stderr"
        arguments = [str(word) for word in words]
        self.process = _fork.Process(target=_program, args=(arguments, self.said, self.complaints, spoils))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        atexit.register(self.kill)

    def kill(self) -> None:
        """kill -9 of the process and all that it started."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        self.process.join()
        atexit.unregister(self.kill)

    def terminate(self, limit_s: float) -> float | None:
        """SIGTERM; the seconds until it ended, or None if it had to be killed."""
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.process.join(limit_s)
        if self.process.exitcode:
            print(self.complaints.read_text()[-2000:], file=sys.stderr)
        took = time.monotonic() - began
        if self.process.exitcode is None:
            self.kill()
            return None
        atexit.unregister(self.kill)
        return took

    @property
    def figures(self) -> dict[str, Any]:
        """The last line that --json prints."""
        found: dict[str, Any] = json.loads(self.said.read_text().splitlines()[-1])
        return found


def _program(words: list[str], said: Path, complaints: Path, spoils: tuple[Callable[[], None], ...]) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for descriptor, path in enumerate((said, complaints), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    for key in [key for key in os.environ if key.startswith(("PG", "PLCSIM_"))]:
        del os.environ[key]
    from logger.cli import main

    for spoil in spoils:
        spoil()
    sys.argv = ["plclogger", *words]
    main()


def run_words(file: Path, schema: Schema, spool: Path, *more: object, conninfo: str = "") -> list[object]:
    """The command line of a logger."""
    return [
        "run", file, "--database", conninfo or schema.conninfo, "--schema", schema.name,
        "--spool", spool, "--json", *more,
    ]  # fmt: skip


@contextmanager
def logging(words: Sequence[object], place: Path, *spoils: Callable[[], None]) -> Iterator[Logger]:
    """A logger until the end of the block."""
    logger = Logger(words, place, *spoils)
    try:
        yield logger
    finally:
        if logger.process.exitcode is None:
            logger.kill()


def stored(schema: Schema) -> int:
    """Numbers that all streams together have in the database, scans and gaps."""
    return int(schema.value("SELECT coalesce(sum(last_scan), 0) FROM logging_streams WHERE stream_id > 0"))


def in_spool(spool: Path) -> dict[StreamKey, dict[int, int]]:
    """What a killed logger left durable, read without its recovery: by stream, number -> read at."""
    found: dict[StreamKey, dict[int, int]] = {}
    for path in sorted(spool.rglob("segment-*.spool")):
        for record in records_in(path.read_bytes(), int(path.stem.rpartition("-")[2])):
            if record.kind in (Kind.SCAN, Kind.GAP):
                key, item = item_of(record)
                if not isinstance(item, Gap):
                    found.setdefault(key, {})[item.number] = int(item.recorded_at.min())
    return found


def scans_at(schema: Schema) -> dict[StreamKey, set[int]]:
    """By stream: when each stored scan was read, microseconds since 1970."""
    found: dict[StreamKey, set[int]] = {}
    for device, stream, at in schema.rows(
        "SELECT device_id, stream_id, (extract(epoch FROM min(recorded_at)) * 1000000)::bigint"
        " FROM parameter_value_history GROUP BY device_id, stream_id, scan"
    ):
        found.setdefault(StreamKey(device, stream), set()).add(at)
    return found


def judge(schema: Schema) -> int:
    """I1 to I6 as figures; returns the violations."""
    with connect(schema.conninfo, schema.name) as connection:
        found = verify(connection)
    for name, check in found.checks.items():
        for example in check.examples:
            print(f"  {name}: {example}", flush=True)
        none(f"{name} violations ({check.checked:,} {check.unit} checked)", check.violations)
    return found.violations
