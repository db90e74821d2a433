"""Result files: versioned JSON, on disk before anything else happens, never overwritten."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plcsim.errors import InputError

FORMAT = "plcbench-result"
VERSION = 1
FOLDER = Path("plcbench-results")


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def result_path(kind: str, chosen: Path | None) -> Path:
    """Where a result goes: the chosen file, or a new one in ./plcbench-results.

    Raises InputError if it cannot be written there; so ask before measuring.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = chosen or FOLDER / f"{kind}-{stamp}-{os.getpid()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as exc:
        raise InputError(f"the result cannot be written to {path}: {exc.strerror}") from None
    if path.stat().st_size == 0:
        path.unlink()
    return path


def write_result(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a result durably: a temporary file beside it, fsync, rename, fsync of the folder."""
    whole = {"format": FORMAT, "version": VERSION, "kind": kind, **content}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(whole, file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
