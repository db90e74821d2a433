"""What runs in a worker process of a replay: plays a piece of the recording into one arm's schema.

Paced, each scan is due when it was recorded, on a clock that runs so many times as fast; as fast as it
goes, one follows the other. A scan that fails is lost and counted: the next one is due by the clock.
"""

from __future__ import annotations

import gc
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load.failures import DATABASE_ERRORS, failure_of, reason_of
from bench.load.link import Link
from bench.load.loops import STORED, Attempt, open_loop_at
from bench.load.work import Loop, WorkerSettings
from bench.measuring.latency import by_interval, latencies_of
from bench.measuring.resources import is_postgres, process_use
from bench.replay.recording import RecordedScans, Recording, load_recording
from logger.scan import ScanLayout


@dataclass(frozen=True)
class PlayerSettings:
    """What to play, and into what."""

    conninfo: str
    schema: str
    arm: str
    """Its spec."""
    folder: Path
    """Of the recording."""


@dataclass(frozen=True)
class Piece:
    """Scans of the recording from `first` up to but without `end`."""

    first: int
    end: int
    speed: float | None
    """Times as fast as it happened; None: as fast as it goes."""


@dataclass(frozen=True)
class PieceResult:
    """What playing it did."""

    loop: Loop
    played: tuple[int, ...]
    """Places in the recording of the scans that were stored, in their order; those included that turned
    out to be stored although nobody told us."""
    in_doubt: int
    cpu_s: float
    """Of this process."""
    worker_bytes: int
    """Private memory above what the worker had before it opened the arm."""
    backend_bytes: int | None


class Player:
    """The state that a worker process keeps between pieces."""

    def __init__(self, settings: PlayerSettings) -> None:
        self._recording: Recording = load_recording(settings.folder)
        layout = ScanLayout(self._recording.config)
        self._source = RecordedScans(self._recording, layout)
        self._key = layout.size
        self._played: list[int] = []
        latencies_of([1])  # what our own recording needs belongs to the level that is subtracted
        self._bytes_before = _private_bytes()
        work = WorkerSettings(settings.conninfo, settings.schema, settings.arm, (), layout.shows_process)
        self.link = Link(work, {self._key: self._source}, {self._key: layout})

    def play(self, piece: Piece) -> PieceResult:
        """Play a piece. Raises DatabaseError if the database is away when it ends."""
        self._played, self.link.in_doubt = [], 0
        cpu_before = time.process_time()
        attempt = self._attempts(piece)
        loop = self._paced(attempt, piece) if piece.speed else in_turn(attempt, piece.end - piece.first)
        if not self.link.is_open:
            self.link.open()
        self._count_found()
        self.link.flush_statistics()
        return PieceResult(
            loop,
            tuple(self._played),
            self.link.in_doubt,
            time.process_time() - cpu_before,
            _private_bytes() - self._bytes_before,
            self.link.backend_bytes() if all(map(is_postgres, self.link.backends())) else None,
        )

    def _paced(self, attempt: Callable[[], Attempt], piece: Piece) -> Loop:
        assert piece.speed is not None
        at_s = self._recording.at_s[piece.first : piece.end]
        offsets = ((at_s - at_s[0]) / piece.speed * 1e9).round().astype("int64").tolist()
        seconds = (float(at_s[-1] - at_s[0]) + self._recording.step_s) / piece.speed
        return open_loop_at(attempt, offsets, seconds)

    def _attempts(self, piece: Piece) -> Callable[[], Attempt]:
        """Stores the piece's next scan each time; after a lost connection it connects anew."""
        positions: Iterator[int] = iter(range(piece.first, piece.end))
        link, source = self.link, self._source

        def attempt() -> Attempt:
            position = next(positions)
            try:
                if not link.is_open:
                    link.open()
                    self._count_found()
                source.position = position
                link.writers[self._key].store_next()
            except DATABASE_ERRORS as exc:
                failure = failure_of(exc)
                link.after(failure, self._key)
                return Attempt(failure, reason_of(exc))
            self._played.append(source.position)
            return STORED

        return attempt

    def _count_found(self) -> None:
        """The scan that was being stored when the connection was lost may be there: opening again tells."""
        if self.link.found_scans:
            self._played.append(self._source.position)
        self.link.found = self.link.found_scans = 0


def _private_bytes() -> int:
    gc.collect()
    use = process_use()
    return use.private_bytes if use else 0


def in_turn(attempt: Callable[[], Attempt], count: int) -> Loop:
    """So many attempts, one after the other: a closed loop whose end is its work, not a time."""
    at, service, failed = array("q"), array("q"), array("q")
    failures: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unix_ns = time.time_ns() - time.perf_counter_ns()
    start = now = time.perf_counter_ns()
    cpu_before = time.process_time()
    for _ in range(count):
        made = attempt()
        done = time.perf_counter_ns()
        if made.is_stored:
            at.append(now + unix_ns)
            service.append(done - now)
        else:
            failed.append(done - now)
            failures[made.failure.value] += 1
            reasons[made.reason] += 1
        now = done
    none = latencies_of([])
    return Loop(
        (now - start) / 1e9,
        len(service),
        dict(failures),
        0,
        latencies_of(service),
        none,
        none,
        latencies_of(failed),
        reasons=dict(reasons),
        cpu_s=time.process_time() - cpu_before,
        by_second=tuple(by_interval(at, service)),
    )


_player: Player | None = None


def prepare(settings: PlayerSettings) -> int:
    """Connect and get ready; called once in each worker process. Returns its process id."""
    global _player
    _player = Player(settings)
    return os.getpid()


def play(piece: Piece) -> PieceResult:
    """Play a piece in the prepared worker."""
    assert _player is not None
    return _player.play(piece)
