"""Starts worker processes; imports next to nothing, so that they start before anything else is done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker that was started, and our end of the socket pair by which it hears of us."""

    process: subprocess.Popen[bytes]
    pair: socket.socket


def start_worker() -> WorkerProcess:
    """Start a worker; it waits for its Assignment and ends when our end of the pair is closed.

    It has a process group of its own, so that Ctrl-C is for the supervisor alone to hear.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "plcsim.fleet.worker", str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
    return WorkerProcess(process, ours)


def dismiss(workers: Sequence[WorkerProcess]) -> None:
    """Let workers that have no assignment end, and wait until they have."""
    for worker in workers:
        worker.pair.close()
    for worker in workers:
        worker.process.wait()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
