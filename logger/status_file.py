"""The status file in a logger's spool: written once a second, read by `plclogger status` and by a parent."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from logger.figures import Figures
from plcsim.errors import InputError

NAME = "status.json"
STALE_AFTER_S = 5.0
"""A logger that runs writes once a second."""


def write_status(folder: Path, figures: Figures) -> None:
    """Replace the file, so that who reads it never sees half of one. Raises OSError."""
    partial = folder / f"{NAME}.new"
    partial.write_text(json.dumps(figures.to_json(), separators=(",", ":")), encoding="utf-8")
    partial.replace(folder / NAME)


def read_status(folder: Path) -> Figures:
    """What the logger of this spool wrote last. Raises InputError: one line."""
    path = folder / NAME
    try:
        return Figures.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise InputError(
            f"{path}: cannot be read: {exc.strerror}; has a logger run with this spool?"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise InputError(f"{path}: is not the status of a plclogger of this version") from None


def how_it_is(figures: Figures, now: float | None = None) -> str:
    """Whether these figures are of a logger that runs: running, stopping, ended, gone, or silent."""
    if figures.ended:
        return "ended"
    if not _is_alive(figures.pid):
        return "gone"
    age_s = (time.time() if now is None else now) - figures.at
    if age_s > STALE_AFTER_S:
        return "silent"
    return "stopping" if figures.stopping else "running"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
