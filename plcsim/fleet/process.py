"""Starts worker processes.

The first ones are forked, before this process has threads or an event loop: so all modules are loaded
once, which is most of the time that a fleet takes to start, and lie in memory once. One that replaces
a dead worker is a new program, because a process that runs threads cannot be forked safely; where the
system's libraries do not bear a fork at all (macOS), all of them are.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

_LOOK_S = 0.005


class Process(Protocol):
    """A child process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker that was started, and our end of the socket pair by which it hears of us.

    It waits for its Assignment and ends when our end of the pair is closed. It has a process group of
    its own, so that Ctrl-C is for the supervisor alone to hear.
    """

    process: Process
    pair: socket.socket


def start_workers(count: int, work: Callable[[socket.socket], int]) -> list[WorkerProcess]:
    """Start the first workers; `work` is what each does with its end of the pair. Call it before this
    process has any thread."""
    workers: list[WorkerProcess] = []
    for _ in range(count):
        workers.append(_forked(work, workers) if sys.platform == "linux" else start_worker())
    return workers


def start_worker() -> WorkerProcess:
    """Start a worker that is a new program."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "plcsim.fleet.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
    return WorkerProcess(process, ours)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Forked:
    """A forked child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._lock = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a worker", timeout or 0.0)
            time.sleep(_LOOK_S)
        return code

    def _poll(self) -> int | None:
        with self._lock:  # it can be waited for in several threads, and reaped once
            if self._code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._code = os.waitstatus_to_exitcode(status) if pid else None
            return self._code

    def kill(self) -> None:
        with self._lock:
            if self._code is None:
                os.kill(self.pid, signal.SIGKILL)


def _forked(work: Callable[[socket.socket], int], others: Sequence[WorkerProcess]) -> WorkerProcess:
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # an end that another worker also held would never be seen to close
            _work_and_exit(work, theirs, [ours, *(worker.pair for worker in others)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()
    return WorkerProcess(_Forked(pid), ours)


def _work_and_exit(
    work: Callable[[socket.socket], int], pair: socket.socket, not_mine: Sequence[socket.socket]
) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        for end in not_mine:
            end.close()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = work(pair)
    finally:
        if sys.exc_info()[0]:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)  # what the parent would do at its exit is not ours to do
