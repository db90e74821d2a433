"""Plays a recording through one arm or two, piece by piece, and checks that what it held was stored.

Two arms take turns (A B B A, …), a piece of the recording each, so that every pair has the same data and
drift of the machine cancels. Whatever stops the run, the section holds the pieces that were played.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import Connection, sql

from bench.analysis.verdict import Targets
from bench.arms.oracle import ArmOracle, OwnCheck
from bench.arms.settings import tables_in
from bench.arms.spec import ArmSpec, parse_arm
from bench.load.arms import bench_schema, spawn_worker, workers_alive
from bench.load.server import bench_server, growing_wal
from bench.load.slots import slot_order
from bench.measuring.environment import environment
from bench.measuring.resources import ServerCounters, server_counters
from bench.oracle.stored_rows import history_chunks
from bench.replay.player import Piece, PieceResult, PlayerSettings, play, prepare
from bench.replay.recording import Recording
from bench.replay.result import Played, fill
from bench.section import Section
from logger.database import connect, mapped_errors
from logger.scan import Text
from plcsim.errors import InputError, PlcsimError

FEWEST_SCANS = 20
_WARM_UP_SCANS = 200
_PIECE_S = 5.0
_PIECE_SCANS = 400
_ENOUGH_PIECES, _MOST_PIECES = 8, 100
_FEWEST_IN_A_PIECE = 25
_SCANS_PER_S = 700.0
"""Of 84 parameters, about, as fast as it goes: to say beforehand how long it takes."""
_WAL_PER_VALUE = 320

Progress = Callable[[str, float], None]
"""Called with what is being done and how many seconds of the plan that was."""


@dataclass(frozen=True)
class ReplaySettings:
    """What to play it through, and how fast."""

    arms: tuple[str, ...]
    """Specs: one, or A and B."""
    speed: float | None
    """Times as fast as it happened; None: as fast as it goes."""
    url: str | None = None
    seed: int = 1
    targets: Targets = field(default_factory=Targets)


@dataclass
class _Arm:
    """One arm of a replay at work."""

    letter: str
    spec: ArmSpec
    schema: str
    worker: ProcessPoolExecutor
    pid: int
    oracle: ArmOracle
    played: list[int]
    """Places in the recording of all scans that were stored, in their order."""
    in_doubt: int = 0

    def play(self, piece: Piece) -> PieceResult:
        """Play a piece in the arm's worker and wait for it."""
        with workers_alive():
            result = self.worker.submit(play, piece).result()
        self.played += result.played
        self.in_doubt += result.in_doubt
        return result


def planned_seconds(recording: Recording, settings: ReplaySettings) -> float:
    """About how long it takes, all arms one after the other, warm-up and check included."""
    total = recording.seconds / settings.speed if settings.speed else _seconds_flat_out(recording)
    return 6.0 + len(settings.arms) * (total + 1 + recording.scans * recording.parameters / 1e6)


def run_replay(
    recording: Recording,
    settings: ReplaySettings,
    section: Section,
    progress: Progress = lambda what, seconds: None,
    on_pair: Callable[[], None] = lambda: None,
    on_environment: Callable[[dict[str, Any]], None] = lambda environment: None,
) -> dict[str, Any]:
    """Play it all, filling the section; returns the environment, which `on_environment` is told before the
    first piece. Raises InputError, DatabaseError."""
    require_enough(recording)
    pieces = pieces_of(recording, settings.speed)
    played: list[Played] = []
    started = time.perf_counter()
    try:
        with (
            bench_server(settings.url) as conninfo,
            connect(conninfo) as monitor,
            growing_wal(
                conninfo, 0 if settings.url else _wal_segments(recording, len(settings.arms))
            ) as grown,
            _arms(recording, settings, conninfo, monitor) as arms,
        ):
            where = environment(monitor)
            on_environment(where)
            _warm_up(arms, recording, monitor)
            grown.result()
            progress("warm-up", 6.0)
            for index, letters in enumerate(_order(len(pieces), arms, settings.seed)):
                for letter in letters:
                    arm = arms[letter]
                    played.append(_watched(arm, index, pieces[index], monitor))
                    progress(f"arm {letter}", played[-1].result.loop.seconds)
                fill(
                    section, recording, settings.arms, settings.speed, settings.targets, settings.seed, played
                )
                on_pair()
            for arm in arms.values():
                _verify(arm, recording, conninfo, section)
                progress("verify", 1.0)
    finally:
        section.seconds = time.perf_counter() - started
    return where


def require_enough(recording: Recording) -> None:
    """Raise InputError for a recording that is too short to play."""
    if recording.scans < FEWEST_SCANS:
        raise InputError(
            f"{recording.source}: {recording.scans} scans are too few, {FEWEST_SCANS} are needed"
        )


def pieces_of(recording: Recording, speed: float | None) -> list[Piece]:
    """The recording in pieces of about 5 s of playing, or of 400 scans.

    They are shorter where that makes fewer than eight, for the interval is that of their pairs; but of 25
    scans or more, and at least two.
    """
    wanted = recording.seconds / speed / _PIECE_S if speed else recording.scans / _PIECE_SCANS
    count = min(_MOST_PIECES, max(_ENOUGH_PIECES, round(wanted)), recording.scans // _FEWEST_IN_A_PIECE)
    edges = np.linspace(0, recording.scans, max(2, count) + 1).round().astype(int).tolist()
    return [Piece(first, end, speed) for first, end in pairwise(edges)]


@contextmanager
def _arms(
    recording: Recording, settings: ReplaySettings, conninfo: str, monitor: Connection[Any]
) -> Iterator[dict[str, _Arm]]:
    """The arms with their schemas and workers, by letter; all gone after, whatever ends the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plcbench-replay-")))
        _save(recording, folder)
        arms: dict[str, _Arm] = {}
        for letter, text in zip("AB", settings.arms, strict=False):
            spec = parse_arm(text)
            schema = stack.enter_context(bench_schema(monitor, conninfo, letter.lower(), [recording.config]))
            with connect(conninfo, schema) as connection:
                spec.prepare_schema(connection, schema)
                oracle = ArmOracle(spec, connection, schema)
            worker = stack.enter_context(spawn_worker())
            with workers_alive():
                pid = worker.submit(prepare, PlayerSettings(conninfo, schema, text, folder)).result()
            arms[letter] = _Arm(letter, spec, schema, worker, pid, oracle, [])
        try:
            yield arms
        except BaseException:
            for arm in arms.values():  # a piece at its own speed may last for minutes
                with suppress(ProcessLookupError):
                    os.kill(arm.pid, signal.SIGTERM)
            raise


def _save(recording: Recording, folder: Path) -> None:
    """Where the workers find it. Raises PlcsimError where it does not fit."""
    try:
        recording.save(folder)
    except OSError as exc:
        needed = recording.values.nbytes + recording.quality.nbytes
        raise PlcsimError(
            f"the recording cannot be written to {folder}, {needed / 1e6:,.0f} MB for the workers: "
            f"{exc.strerror or exc}"
        ) from exc


def _warm_up(arms: dict[str, _Arm], recording: Recording, monitor: Connection[Any]) -> None:
    """Store the first scans once, uncounted, and give the planner statistics."""
    end = min(_WARM_UP_SCANS, max(10, recording.scans // 4))
    for arm in arms.values():
        arm.play(Piece(0, end, None))
        with mapped_errors():
            for table in tables_in(monitor, arm.schema):
                monitor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(arm.schema, table)))


def _order(pieces: int, arms: dict[str, _Arm], seed: int) -> list[tuple[str, ...]]:
    return [*slot_order(pieces, seed)] if len(arms) == 2 else [tuple(arms)] * pieces


def _watched(arm: _Arm, index: int, piece: Piece, monitor: Connection[Any]) -> Played:
    with mapped_errors():
        before: ServerCounters = server_counters(monitor, arm.schema)
    result = arm.play(piece)
    with mapped_errors():
        after = server_counters(monitor, arm.schema)
    return Played(
        arm.letter,
        index,
        result,
        after.wal_bytes - before.wal_bytes,
        after.updates - before.updates,
        after.hot_updates - before.hot_updates,
        after.checkpoints != before.checkpoints or after.checkpoint_lsn != before.checkpoint_lsn,
        after.vacuums != before.vacuums,
    )


def _verify(arm: _Arm, recording: Recording, conninfo: str, section: Section) -> None:
    """The oracle's invariants, and each value against the recording."""
    with connect(conninfo, arm.schema) as connection:
        verification = arm.oracle.verify(connection, len(arm.played), arm.in_doubt)
        if arm.spec.is_ours:
            check = OwnCheck("recorded", what="each stored value is the recorded one, in its order")
            check.unit = "values"
            with mapped_errors(), connection.transaction():
                connection.execute("SET LOCAL statement_timeout = 0")
                _check_recorded(check, connection, recording, np.array(arm.played, dtype=np.int64))
            verification.checks[check.invariant] = check
    section.verifications[f"arm {arm.letter}"] = verification


def _check_recorded(check: OwnCheck, connection: Connection[Any], recording: Recording, played: Any) -> None:
    size, row, texts = recording.parameters, 0, 0
    for rows in history_chunks(connection, recording.config.device.device_id, 1):
        places = np.arange(row, row + len(rows))
        row += len(rows)
        known = places[places < size * len(played)]
        scan, column = played[known // size], known % size
        stored = rows[: len(known)]
        wrong = (stored["quality"] != recording.quality[scan, column]) | ~_equal(
            stored["value"], recording.values[scan, column]
        )
        for i in np.flatnonzero(stored["text_bytes"] >= 0):
            texts += 1
            wrong[i] |= Text(int(column[i]), stored["text"][i]) not in recording.texts.get(int(scan[i]), ())
        check.checked += len(known)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            check.violated(
                f"scan {stored['scan'][first]}, parameter {stored['parameter_id'][first]}: stored "
                f"{stored['value'][first]:g}, recorded {recording.values[scan[first], column[first]]:g}",
                int(wrong.sum()),
            )
    if row != size * len(played):
        check.violated(
            f"{len(played):,} scans of {size} values were stored, the history holds {row:,} values"
        )
    due = sum(len(recording.texts.get(int(scan), ())) for scan in played) if recording.texts else 0
    if texts != due:
        check.violated(f"the history holds {texts:,} texts of {due:,}", abs(texts - due))


def _equal(a: Any, b: Any) -> Any:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _seconds_flat_out(recording: Recording) -> float:
    return recording.scans * max(0.5, recording.parameters / 84) / _SCANS_PER_S


def _wal_segments(recording: Recording, arms: int) -> int:
    """Segments of 16 MB that it will need, made beforehand as a server has them that ran for long."""
    expected = arms * recording.scans * recording.parameters * _WAL_PER_VALUE
    return min(250, 4 + int(expected / 16e6))
