"""What tests take out of a logger to see themselves fail; done in its process before it begins.

Each says which promise of docs/reliability.md is gone without it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from logger.forwarding import anchoring
from logger.forwarding.deadline import Watchdog
from logger.forwarding.settings import ForwarderSettings
from logger.reading import line, wire
from logger.reading.reply import Asked
from logger.spool.rounds import Rounds

NO_MOUNT = 77
"""Exit code of a process that was not allowed to mount."""
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x00020000, 0x4000, 0x40000
"""Of linux/sched.h and linux/mount.h."""


def asks_nobody() -> None:
    """After a crash or an unknown outcome everything that waits is sent again behind whatever is there."""

    def careless(connection: Any, spool: Any, lane: Any, row: Any, on_trimmed: Any) -> anchoring.Plan:
        lane.unknown.clear()
        last_scan = row.last_scan if row else 0
        return anchoring.Plan(lane, last_scan, last_scan + 1 - spool.first_unreleased(lane.key), True)

    anchoring._plan = careless  # type: ignore[assignment]


def waits_for_ever() -> None:
    """No deadline of our own on calls of the database."""
    Watchdog.start = lambda self: None  # type: ignore[method-assign]


def dies_of_a_full_disk() -> None:
    """A full disk is an error of the disk like any other."""

    def fail(self: Rounds, exc: Exception) -> None:
        raise exc

    Rounds._fill_up = fail  # type: ignore[assignment]


def takes_any_reply() -> None:
    """Replies are used without being checked: too short, too long, of another request."""

    def unchecked(frame: bytes, asked: Asked) -> bytes:
        block = asked.block
        expected = (block.count + 7) // 8 if block.table.is_bits else 2 * block.count
        return frame[9 : 9 + expected].ljust(expected, b"\0")

    wire.checked = unchecked


def one_line_for_all() -> None:
    """All devices wait for each other's replies."""
    shared = asyncio.Lock()
    made = line.Line.__init__

    def together(self: line.Line, *arguments: Any, **keys: Any) -> None:
        made(self, *arguments, **keys)
        self._lock = shared

    line.Line.__init__ = together  # type: ignore[method-assign]


class ScansATransaction:
    """Not damage: another limit for the scans of a stream in one transaction."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self) -> None:
        own, most = ForwarderSettings.limits.fget, self.most  # type: ignore[attr-defined]
        ForwarderSettings.limits = property(lambda self: replace(own(self), scans=most))  # type: ignore[assignment]


class SmallDisk:
    """Not damage either: a tmpfs of so many bytes at a folder, which only this process sees.

    It is gone when the process is. Where mounting is not allowed the process ends with NO_MOUNT.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __call__(self) -> None:
        libc = ctypes.CDLL(None)
        self.folder.mkdir(exist_ok=True)
        if (
            libc.unshare(_CLONE_NEWNS)
            or libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
            or libc.mount(
                b"tmpfs", os.fsencode(self.folder), b"tmpfs", ctypes.c_ulong(0), b"size=%d" % self.size
            )
        ):
            sys.exit(NO_MOUNT)
