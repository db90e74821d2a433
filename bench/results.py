"""Result files: versioned JSON, on disk before anything else happens.

A result without a chosen name goes to a file of its own. An older result in a file that the user chose is
replaced, but only by a whole new one; what is no result of ours (a plan, a recording) is never written over.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plcsim.errors import InputError, PlcsimError

FORMAT = "plcbench-result"
VERSION = 1
FOLDER = Path("plcbench-results")
_HEAD = re.compile(rb'\s*\{\s*"format"\s*:\s*"plcbench-result"')
_URL = re.compile(r"^(--[a-z-]+=)?postgres(?:ql)?://.*", re.DOTALL)


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def is_result(path: Path) -> bool:
    """Whether a file begins as a result does; what cannot be read does not."""
    try:
        with path.open("rb") as file:
            return _HEAD.match(file.read(200)) is not None
    except OSError:
        return False


def command_line() -> list[str]:
    """What followed `plcbench`, for a result; a database, in which a password may stand, is left out."""
    told: list[str] = []
    for argument in sys.argv[1:]:
        if told and told[-1] == "--database":
            told.append("…")
        elif argument.startswith("--database="):
            told.append("--database=…")
        else:
            told.append(_URL.sub(r"\1postgresql://…", argument))
    return told


def result_path(kind: str, chosen: Path | None) -> Path:
    """Where a result goes: the chosen file, or a new one in ./plcbench-results.

    Raises InputError if it cannot be written there, or what stands there is no result; so ask before
    measuring.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = chosen or FOLDER / f"{kind}-{stamp}-{os.getpid()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if _is_special(path):
            if not os.access(path, os.W_OK):  # to open a pipe would wait for its reader
                raise PermissionError(0, "Permission denied")
        else:
            if path.exists():
                path.open("ab").close()
            tempfile.TemporaryFile(dir=path.resolve().parent).close()
            if path.exists() and path.stat().st_size and not is_result(path):
                raise FileExistsError(
                    0, "the file that stands there is no result of plcbench; choose another name"
                )
    except OSError as exc:
        raise InputError(f"the result cannot be written to {path}: {exc.strerror}") from None
    return path


def write_result(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a result durably: a temporary file beside it, fsync, rename, fsync of the folder.

    What is no number (a mean of nothing) becomes null, for JSON has no other word for it. A pipe or a
    device such as /dev/stdout is written to as it is. Raises PlcsimError.
    """
    whole = {"format": FORMAT, "version": VERSION, "kind": kind, **content}
    text = json.dumps(sayable(whole), indent=1, allow_nan=False) + "\n"
    try:
        if _is_special(path):
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as exc:
        raise PlcsimError(f"the result cannot be written to {path}: {exc.strerror}") from exc


def sayable(value: Any) -> Any:
    """The same with None where JSON has no number: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: sayable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [sayable(each) for each in value]
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
