"""Was the same asked in both runs? Settings, plan and recording of two results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.analysis.fingerprint import Difference
from bench.compare.stored import Stored

MUST_BE_EQUAL = (
    *("parameters", "process_running", "over_modbus", "scans_per_transaction", "tables", "rows_copied"),
    *("speed", "own_server"),
)
"""Settings of which another value is another question."""
_MAY_BE_THE_CHANGE = ("a", "b", "short")
_PLAN = ("parameters", "impact.share_of_capacity")
"""The same in a plan; other parts of it say how long and how far, and findings carry their conditions."""
_MOST_NAMES = 4


def scope_differences(a: Stored, b: Stored) -> list[Difference]:
    """What was asked differently; the arms may differ, for that is what one changes."""
    return [*_settings(a, b), *_plan(a, b), *_recording(a, b)]


def _settings(a: Stored, b: Stored) -> Iterator[Difference]:
    for key in dict.fromkeys([*a.settings, *b.settings]):
        before, after = a.settings.get(key), b.settings.get(key)
        if _differ(before, after) and key in (*MUST_BE_EQUAL, *_MAY_BE_THE_CHANGE):
            known = (
                key in a.settings and key in b.settings
            )  # what an older result did not record forbids nothing
            yield Difference(f"settings.{key}", before, after, key in MUST_BE_EQUAL and known)


def _plan(a: Stored, b: Stored) -> Iterator[Difference]:
    if a.kind not in ("suite", "stress"):
        return
    before, after = (dict(_flat(each.content.get("plan") or {})) for each in (a, b))
    for key in _PLAN:
        if _differ(before.get(key), after.get(key)):
            yield Difference(f"settings.plan.{key}", before.get(key), after.get(key), True)
    others = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    others = [key for key in others if key not in (*_PLAN, "seed")]
    if others:
        more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
        yield Difference(f"plan ({', '.join(others[:_MOST_NAMES])}{more})", "one", "another", False)


def _recording(a: Stored, b: Stored) -> Iterator[Difference]:
    """Of a replay: what was played, wherever its file lies now."""
    if a.kind != "replay":
        return
    before, after = (
        {
            key: value
            for section in each.content.get("sections", ())
            for key, value in (section["figures"].get("recording") or {}).items()
            if key not in _WHERE_IT_LIES
        }
        for each in (a, b)
    )
    if before != after:
        yield Difference("settings.recording", before, after, True)


_WHERE_IT_LIES = ("source", "path", "file")


def _differ(before: Any, after: Any) -> bool:
    """An empty value and none at all are the same."""
    return (before or None) != (after or None)


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
