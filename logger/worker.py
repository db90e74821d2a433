"""One worker of a logger of several processes: the process, and the post that it fills for its parent."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from logger.figures import Figures
from logger.service import run_logger
from logger.settings import Settings
from logger.status_file import read_status
from plcsim.errors import InputError, PlcsimError

PAUSES_S = (0.1, 5.0)
"""Before a worker that died is started again: the first, and the longest."""

_spawn = multiprocessing.get_context("spawn")


@dataclass
class Worker:
    """One worker, whichever process that is at the moment."""

    settings: Settings
    process: BaseProcess | None = None
    pipe: Connection | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    """When it is to be started, by the monotonic clock."""
    pause_s: float = PAUSES_S[0]
    restarts: int = 0
    is_done: bool = False
    newest: Figures | None = field(default=None)

    def start(self) -> None:
        ours, theirs = _spawn.Pipe()
        # The parent says when to stop, so that a worker which was restarted does not run longer.
        settings = replace(self.settings, duration_s=None)
        self.process = _spawn.Process(
            target=work, args=(settings, theirs), name=f"worker-{settings.worker}", daemon=True
        )
        self.process.start()
        theirs.close()
        self.pipe = ours
        self.started_at = time.monotonic()

    def look(self) -> Figures | None:
        """What this worker wrote last, if it is from this process."""
        with suppress(InputError):
            figures = read_status(self.settings.spool)
            if self.process and figures.pid == self.process.pid:
                self.newest = figures
        return self.newest

    def error(self) -> tuple[str, int] | None:
        """What a worker that has ended said of it."""
        with suppress(EOFError, OSError):
            if self.pipe and self.pipe.poll():
                message, code = self.pipe.recv()
                return str(message), int(code)
        return None


def work(settings: Settings, pipe: Connection) -> None:
    """A worker process: logs until its parent says stop, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to hear
    logging.basicConfig(
        level=logging.WARNING,
        format=f"plclogger: %(levelname)s: worker {settings.worker}: %(message)s",
        stream=sys.stderr,
    )
    try:
        run_logger(settings, parent=pipe.fileno())
    except PlcsimError as exc:
        with suppress(OSError):
            pipe.send((str(exc), exc.exit_code))
        sys.exit(exc.exit_code)
