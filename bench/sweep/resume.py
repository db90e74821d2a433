"""Going on with a sweep that was interrupted: its result is read back, and must be of this plan and place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.fingerprint import differences
from bench.arms.spec import source_file
from bench.results import FOLDER, FORMAT, VERSION
from bench.sweep.cell import Trial
from bench.sweep.measured import TrialResult
from bench.sweep.plan import SweepSpec
from plcsim.errors import InputError

_KEYS = {"plan": dict, "cells": list, "environment": dict, "started_at": str, "took_s": int | float}
"""What a result must have to go on with it."""


@dataclass(frozen=True)
class Earlier:
    """What an earlier run of the same plan left."""

    path: Path
    content: dict[str, Any]

    @property
    def started_at(self) -> str:
        return str(self.content["started_at"])

    @property
    def took_s(self) -> float:
        return float(self.content["took_s"])

    def done(self, trials: Sequence[Trial]) -> list[tuple[TrialResult, float]]:
        """Runs of these trials that ended, in the order in which they ran; what failed is run again."""
        wanted = set(trials)
        found = []
        for cell in self.content["cells"]:
            if cell["result"] is None:
                continue
            result = TrialResult.from_json(cell["result"])
            if result.trial in wanted:
                found.append((result, float(cell["seconds"])))
        return found

    def check_environment(self, now: dict[str, Any]) -> None:
        """Raise InputError unless what is to come can be compared with what is there."""
        found = differences(self.content["environment"], now)
        if found:
            raise InputError(
                f"{self.path} cannot be resumed here, its runs would not be comparable: "
                + "; ".join(str(each) for each in found[:3])
            )


def load_earlier(spec: SweepSpec, path: Path) -> Earlier:
    """Read the result to go on with; raises InputError if it is none, or of another plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"{path}: there is nothing to resume: {exc.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: is not JSON, so there is nothing to resume") from None
    if not _is_sweep(content):
        raise InputError(f"{path}: is not the result of a sweep of version {VERSION}")
    changed = _changed(content["plan"], plan_of(spec)) or _changed(content.get("arms", {}), sources_of(spec))
    if changed:
        raise InputError(f"{path}: is of another plan: {', '.join(changed)} changed since; nothing was run")
    earlier = Earlier(path, content)
    try:
        earlier.done(spec.trials())
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise InputError(f"{path}: a cell of it cannot be read: {type(exc).__name__} {exc}") from None
    return earlier


def refuse_unfinished(path: Path) -> None:
    """Raise InputError if a stopped sweep stands there: a new one would begin by dropping its runs."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return  # who writes there says what it is
    if _is_sweep(content) and content.get("unfinished") and content["cells"]:
        raise InputError(
            f"{path}: holds a sweep that did not end: {content['unfinished']}; --resume goes on with it, "
            "another --json FILE begins a new one"
        )


def sources_of(spec: SweepSpec) -> dict[str, str]:
    """Of each arm whose code is the user's, a digest of it: a plan names it, and does not hold it."""
    found = {}
    for trial in spec.trials():
        base = trial.arm.partition("+")[0]
        path = source_file(base)
        if path is not None and base not in found:
            with suppress(OSError):
                found[base] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def newest_of(spec: SweepSpec, folder: Path = FOLDER) -> Path:
    """The newest result of this plan in a folder; raises InputError if there is none."""
    for path in sorted(folder.glob("sweep-*.json"), key=lambda each: each.stat().st_mtime, reverse=True):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if _is_sweep(content) and not _changed(content["plan"], plan_of(spec)):
            return path
    raise InputError(f"{folder} holds no sweep of this plan to resume; name its result by --json FILE")


def plan_of(spec: SweepSpec) -> dict[str, Any]:
    """The plan as a result keeps it: what the file says, no more."""
    plan: dict[str, Any] = json.loads(json.dumps(spec.model_dump(mode="json", exclude_unset=True)))
    return plan


def _is_sweep(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    head = content.get("format"), content.get("version"), content.get("kind")
    return head == (FORMAT, VERSION, "sweep") and all(
        isinstance(content.get(key), kind) for key, kind in _KEYS.items()
    )


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
