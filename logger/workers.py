"""A logger of several processes: starts them, starts them again when they die, and adds up their figures.

Each worker is a logger of its share of the devices with a spool of its own, and writes its status there
once a second: that file is all that the parent knows of it. A pipe tells a worker that its parent is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from types import FrameType

from logger.figures import Figures
from logger.settings import Settings
from logger.status_file import write_status
from logger.worker import PAUSES_S, Worker
from logger.worker_figures import of_workers
from plcsim.errors import PlcsimError

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_STEADY_S = 10.0
"""A worker that lived so long is restarted after the first pause again."""
_LAST_WORD_S = 5.0
"""How much longer than for draining a worker may take to end."""

OnStatus = Callable[[Figures, Sequence[Figures]], None]


class WorkerFailed(PlcsimError):
    """A worker ended with an error that starting it again does not mend."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_workers(settings: Settings, parts: Sequence[Settings], on_status: OnStatus) -> Figures:
    """Log with a process for each part until told to stop; `on_status` gets all together, and each.

    Raises WorkerFailed as soon as one worker has failed for good; the others drain first.
    """
    return _Parent(settings, parts, on_status).run()


class _Parent:
    def __init__(self, settings: Settings, parts: Sequence[Settings], on_status: OnStatus) -> None:
        self._settings = settings
        self._posts = [Worker(part) for part in parts]
        self._on_status = on_status
        self._stops = 0
        self._stop_at = float("inf")
        self._kill_at = float("inf")
        self._failure: WorkerFailed | None = None

    def run(self) -> Figures:
        before = {n: signal.signal(n, self._told) for n in (signal.SIGINT, signal.SIGTERM)}
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        fd_before = signal.set_wakeup_fd(wake)
        try:
            for post in self._posts:
                post.start()
            self._until_done(woken)
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._end_all()
            os.close(woken)
            os.close(wake)
        figures = self._report(ended=True)
        if self._failure:
            raise self._failure
        return figures

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _until_done(self, woken: int) -> None:
        asked = 0
        look_at = time.monotonic() + _LOOK_S
        while not all(post.is_done for post in self._posts):
            sentinels = [post.process.sentinel for post in self._posts if post.process]
            wait([woken, *sentinels], max(0.0, min(look_at, self._next_start()) - time.monotonic()))
            with suppress(BlockingIOError):
                os.read(woken, 1000)
            for post in self._posts:
                self._keep(post)
            now = time.monotonic()
            if now >= self._stop_at:
                self._stops, self._stop_at = max(self._stops, 1), float("inf")
            if self._stops > asked:
                asked = self._stops
                self._stop()
            if now >= self._kill_at:
                self._kill()
            if now >= look_at:
                look_at = now + _LOOK_S
                self._report()
                self._count_down()

    def _next_start(self) -> float:
        return min(
            (post.start_at for post in self._posts if not post.process and not post.is_done), default=1e18
        )

    def _count_down(self) -> None:
        """The duration of a run begins when all workers log."""
        duration = self._settings.duration_s
        if duration is None or self._stops or self._stop_at < float("inf"):
            return
        if all(post.newest for post in self._posts):
            self._stop_at = time.monotonic() + duration

    def _keep(self, post: Worker) -> None:
        """Start a worker again that has died, and take note of one that is done."""
        if post.process is None:
            if not post.is_done and self._stops:
                post.is_done = True
            elif not post.is_done and time.monotonic() >= post.start_at:
                post.start()
            return
        code = post.process.exitcode
        if code is None:
            return
        post.look()
        error = post.error()
        post.process = None
        if code == 0 or self._stops:
            post.is_done = True
        if error:
            post.is_done = True
            self._fail(*error)
        elif code != 0 and not post.is_done:
            self._restart(post, code)
        elif code != 0:
            log.warning(
                "worker %d %s while it stopped; what it did not store is in its spool",
                post.settings.worker,
                _how(code),
            )

    def _restart(self, post: Worker, code: int) -> None:
        if time.monotonic() - post.started_at > _STEADY_S:
            post.pause_s = PAUSES_S[0]
        log.warning("worker %d %s: it starts again in %g s", post.settings.worker, _how(code), post.pause_s)
        post.start_at = time.monotonic() + post.pause_s
        post.pause_s = min(2 * post.pause_s, PAUSES_S[1])
        post.restarts += 1

    def _fail(self, message: str, code: int) -> None:
        if self._failure is None:
            self._failure = WorkerFailed(message, code)
            self._stops = max(self._stops, 1)

    def _stop(self) -> None:
        """Tell the workers to stop; the second time they do not drain."""
        self._kill_at = min(self._kill_at, time.monotonic() + self._settings.drain_s + _LAST_WORD_S)
        for post in self._posts:
            if post.process:
                post.process.terminate()

    def _kill(self) -> None:
        for post in self._posts:
            if post.process:
                post.process.kill()

    def _end_all(self) -> None:
        for post in self._posts:
            if post.process:
                post.process.kill()
                post.process.join()
            if post.pipe:
                post.pipe.close()

    def _report(self, ended: bool = False) -> Figures:
        each = [figures for post in self._posts if (figures := post.look())]
        together = of_workers(self._settings.name, each, sum(post.restarts for post in self._posts))
        together.pid, together.ended = os.getpid(), ended
        with suppress(OSError):
            write_status(self._settings.spool, together)
        self._on_status(together, each)
        return together


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
