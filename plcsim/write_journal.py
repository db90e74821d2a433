"""What clients wrote to an emulated PLC, one JSON object a line: the truth is recomputed from it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from plcsim.errors import InputError
from plcsim.truth import Write


def open_journal(path: Path) -> BinaryIO:
    """A new journal, or an empty one. Raises InputError if it cannot be, or holds an earlier run's writes:
    an emulator starts from its device file, so together they would tell a wrong truth."""
    try:
        file = path.open("ab", buffering=0)
    except OSError as exc:
        raise InputError(f"{path}: cannot be written: {exc.strerror}") from None
    if os.fstat(file.fileno()).st_size:
        file.close()
        raise InputError(f"{path}: holds the writes of an earlier run; name a new file")
    return file


def append_write(file: BinaryIO, write: Write) -> None:
    """Append one write and hand it to the operating system. Raises OSError."""
    file.write(json.dumps(asdict(write)).encode() + b"\n")


def read_writes(path: Path) -> list[Write]:
    """All writes of a journal, in order. Raises InputError if it is not one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: it is not UTF-8 text") from None
    writes = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            write = Write(int(record["plc_scan"]), int(record["parameter_id"]), float(record["value"]))
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{path}:{number}: is not {{"plc_scan": …, "parameter_id": …, "value": …}}'
            ) from None
        writes.append(write)
    return writes
