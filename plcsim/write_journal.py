"""What clients wrote to an emulated PLC, one JSON object a line: the truth is recomputed from it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import IO

from plcsim.errors import InputError
from plcsim.truth import Write


def append_write(file: IO[str], write: Write) -> None:
    """Append one write and hand it to the operating system."""
    file.write(json.dumps(asdict(write)) + "\n")
    file.flush()


def read_writes(path: Path) -> list[Write]:
    """All writes of a journal, in order. Raises InputError if it is not one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path}: cannot be read: {exc}") from None
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
