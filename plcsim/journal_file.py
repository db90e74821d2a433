"""Files that grow by a line of JSON for each event: faults, requests, writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from plcsim.errors import InputError


def open_to_append(path: Path) -> BinaryIO:
    """A journal to append to. Raises InputError."""
    try:
        return path.open("ab", buffering=0)
    except OSError as exc:
        raise InputError(f"{path}: cannot be written: {exc.strerror}") from None


def append_line(file: BinaryIO, text: str) -> None:
    """Append a line and hand it to the operating system. Raises OSError, also if only part of it fits."""
    line = text.encode() + b"\n"
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
