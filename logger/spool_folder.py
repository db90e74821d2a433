"""The folder of a logger's spool: for one logger at a time, and for nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from plcsim.errors import InputError, PlcsimError

_LOCK = "run.lock"
SPOOL = ("segment-*.spool", "streams.json", "streams.json.new", "lock")
"""The files of a spool: all that dealing anew removes."""
_OURS = (*SPOOL, _LOCK, "deal.*", "status.json*", "quarantine", "worker-*", "lost+found", ".*")
"""What a logger's folder may hold."""


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Keep the folder for this logger. Raises InputError if it cannot be used, or another one has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_ours(folder)
        file = (folder / _LOCK).open("a+")
    except OSError as exc:
        raise failure_of(folder, exc) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise InputError(
                f"--spool {folder}: another plclogger (process {pid}) uses it; "
                "give each logger a spool of its own"
            ) from None
        with suppress(OSError):  # the disk is full: the lock holds without our name
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _check_ours(folder: Path) -> None:
    """Raise InputError if others keep files in the folder."""
    others = [path.name for path in folder.iterdir() if not is_among(path.name, _OURS)]
    if others:
        some = ", ".join(sorted(others)[:3]) + (", …" if len(others) > 3 else "")
        raise InputError(
            f"--spool {folder}: holds what is not of a plclogger ({some}): give a folder of its own"
        )


def is_among(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def failure_of(folder: Path, exc: OSError) -> PlcsimError:
    """What a user mends, or what passes: a service is started again after the latter."""
    passes = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    kind = PlcsimError if passes else InputError
    return kind(f"--spool {folder}: cannot be used: {exc.strerror}")


def check_used(folder: Path) -> None:
    """Raise InputError unless a logger has used the folder."""
    if not (folder / _LOCK).exists() and not (folder / "quarantine").exists():
        raise InputError(f"--spool {folder}: no plclogger has used it; plclogger run says which it uses")
