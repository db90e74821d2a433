"""A logger as a process: started, watched, killed and started again on the same spool."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from pathlib import Path

from bench.arms.spec import parse_arm
from bench.load.emulators import signals_held
from bench.stress.journal import READ, STORED, Journal, Records, records_in
from logger.figures import Figures
from logger.repositories import REPOSITORIES
from logger.scan import Gap
from logger.service import Hooks, run_logger
from logger.settings import Settings
from logger.spool.records import Kind, item_of
from logger.spool.records import records_in as spooled_in
from plcsim.errors import PlcsimError

Before = Callable[[], None]
"""Done in the new process before it logs; can be pickled."""
_LOG, _FIGURES, _STOPPED = "log", "figures.json", "stopped"


class LoggerProcess:
    """One logger after the other on one spool; `place` is an empty folder for what they write of themselves.

    `accepted` names the scans that were accepted, as far as the lives that have ended say: after a kill
    they are read from the spool's own files, without its recovery.
    """

    def __init__(self, settings: Settings, place: Path, before: Sequence[Before] = ()) -> None:
        self.settings = settings
        self.place = place
        self.accepted: Counter[int] = Counter()
        """By when they were read, in microseconds since 1970."""
        self._before = tuple(before)
        self._process: SpawnProcess | None = None
        self._parent: Pipe | None = None
        self._seen = 0
        """Records of the journal of what was read, of the lives that have ended."""

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, ours = context.Pipe(duplex=False)
        arguments = (self.settings, self.place, self._before, theirs)
        process = context.Process(target=_log, args=arguments, daemon=True)
        with signals_held(signal.SIGINT, signal.SIGTERM):
            process.start()
            self._process, self._parent = process, ours
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before it was started."""
        return self._process.exitcode if self._process else None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def kill(self) -> None:
        """kill -9, if it runs. What it had accepted is noted."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.accepted |= Counter(in_spool(self.settings.spool))
            self._seen = len(self.read())
            self._close()

    def end(self, seconds: float = 30.0) -> int | None:
        """SIGTERM: it stores what waits. Its exit code; None if it had to be killed after so long."""
        if self._process is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.kill()
            return None
        read = self.read()
        if code == 0:
            self.accepted |= Counter(read["read_us"][self._seen :].tolist())
        else:
            self.accepted |= Counter(in_spool(self.settings.spool))
        self._seen = len(read)
        self._close()
        return code

    def read(self) -> Records:
        """What it read, of all lives."""
        return records_in(self.place / READ)

    def stored(self) -> Records:
        """What it stored and knows of, of all lives."""
        return records_in(self.place / STORED)

    def figures(self) -> Figures:
        """What it said of itself last; raises PlcsimError if it has said nothing yet."""
        try:
            return Figures.from_json(json.loads((self.place / _FIGURES).read_text()))
        except OSError:
            raise PlcsimError(f"the logger has not begun: {self.complaint()}") from None

    def complaint(self) -> str:
        """Why it stopped, or the last line that it logged."""
        for name in (_STOPPED, _LOG):
            with suppress(OSError):
                if lines := (self.place / name).read_text(errors="replace").strip().splitlines():
                    return lines[-1]
        return "it said nothing"

    def said(self, words: str) -> bool:
        """Whether it has logged these words."""
        with suppress(OSError):
            return words in (self.place / _LOG).read_text(errors="replace")
        return False

    def _close(self) -> None:
        assert self._process is not None
        self._process.close()
        self._process = None
        if self._parent:
            self._parent.close()


def in_spool(folder: Path) -> set[int]:
    """When the scans were read that stand in a spool's files, microseconds since 1970."""
    found = set()
    for path in sorted(folder.rglob("segment-*.spool")):
        for record in spooled_in(path.read_bytes(), int(path.stem.rpartition("-")[2])):
            if record.kind in (Kind.SCAN, Kind.GAP):
                _, item = item_of(record)
                if not isinstance(item, Gap):
                    found.add(int(item.recorded_at.min()))
    return found


def register_arm(spec: str) -> None:
    """Let the loggers of this process store through an arm, by the text of its spec."""
    if spec not in REPOSITORIES:
        REPOSITORIES[spec] = parse_arm(spec).open  # type: ignore[assignment]


def _log(settings: Settings, place: Path, before: Sequence[Before], parent: Pipe) -> None:
    """The process: what it says goes into files; it ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to hear
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.dup2(os.open(place / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    (place / _STOPPED).unlink(missing_ok=True)
    register_arm(settings.repository)
    for each in before:
        each()
    journal = Journal(place)
    hooks = Hooks(
        on_status=lambda figures: _note(place, figures),
        on_scan=journal.on_scan,
        on_stored=journal.on_stored,
    )
    try:
        run_logger(settings, hooks, parent=parent.fileno())
    except PlcsimError as exc:
        (place / _STOPPED).write_text(str(exc))
        sys.exit(exc.exit_code)


def _note(place: Path, figures: Figures) -> None:
    with suppress(OSError):
        partial = place / f"{_FIGURES}.{time.monotonic_ns()}"
        partial.write_text(json.dumps(figures.to_json()))
        partial.replace(place / _FIGURES)
