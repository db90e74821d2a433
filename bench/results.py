"""Result files: versioned JSON, on disk before anything else happens.

A result without a chosen name goes to a file of its own. A file that the user chose is replaced, but
only by a whole new result.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plcsim.errors import InputError, PlcsimError

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
        if path.exists():
            path.open("ab").close()
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if not _is_special(path):
            tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as exc:
        raise InputError(f"the result cannot be written to {path}: {exc.strerror}") from None
    return path


def write_result(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a result durably: a temporary file beside it, fsync, rename, fsync of the folder.

    What is no number (a mean of nothing) becomes null, for JSON has no other word for it. A pipe or a
    device such as /dev/stdout is written to as it is. Raises PlcsimError.
    """
    whole = {"format": FORMAT, "version": VERSION, "kind": kind, **content}
    text = json.dumps(_sayable(whole), indent=1, allow_nan=False) + "\n"
    try:
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as exc:
        raise PlcsimError(f"the result cannot be written to {path}: {exc.strerror}") from exc


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sayable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
