"""A result as it was stored: read back, checked to be one of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import FORMAT, VERSION
from plcsim.errors import InputError

KINDS = ("quick", "suite", "stress", "sweep", "replay")

NOT_WHOLE = (AttributeError, LookupError, TypeError, ValueError)
"""What is raised where a result lacks what its kind has, or has something else there."""


@dataclass(frozen=True)
class Stored:
    """A result file."""

    path: Path
    kind: str
    content: dict[str, Any]

    @property
    def environment(self) -> dict[str, Any]:
        found = self.content.get("environment")
        return found if isinstance(found, dict) else {}

    @property
    def settings(self) -> dict[str, Any]:
        found = self.content.get("settings")
        return found if isinstance(found, dict) else {}


@contextmanager
def whole(*results: Stored) -> Iterator[None]:
    """Tells of a result that lacks what its kind must have, or has something else there.

    Results come from disks, and from other versions of plcbench. Raises InputError naming the file.
    """
    try:
        yield
    except NOT_WHOLE as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else f"{type(exc).__name__}: {exc}"
        named = " or ".join(dict.fromkeys(str(each.path) for each in results))
        kind = results[0].kind
        raise InputError(
            f"{named}: is not a whole result of plcbench {kind}: {' '.join(what.split())}"
        ) from exc


def load_stored(path: Path) -> Stored:
    """Read a result; raises InputError naming the file and what would be right."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: is not UTF-8 text (byte {exc.start})") from None
    except json.JSONDecodeError as exc:
        raise InputError(f"{path}:{exc.lineno}: is not JSON: {exc.msg}") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path}: format: {found!r}: must be {FORMAT!r}, as quick, suite, stress, sweep, replay write"
        )
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version: {content.get('version')!r}: this plcbench reads {VERSION}")
    kind = content.get("kind")
    if kind not in KINDS:
        raise InputError(f"{path}: kind: {kind!r}: must be one of {', '.join(KINDS)}")
    return Stored(path, kind, content)
