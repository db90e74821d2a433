"""Were two results measured in equal conditions? A fingerprint of machine and server; pure.

What belongs to the machine, the server and its settings must be equal, or absolute figures say more of it
than of what was changed. Code, packages and minor versions may differ: they may be the very change. Load
and the disk's speed differ by chance and leave doubts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_SLOWER = 2.0
_MEMORY_STEP = 1 << 30
UNRECORDED = "path|directory|directories|file|conninfo|command|password|user|name|addresses"
"""Settings of the server whose names match are not recorded: they say where it is and whose, not how fast."""
DEFAULT = "the default"
"""Of a setting of the server that was left as it is."""


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in both results."""

    name: str
    a: Any
    b: Any
    forbids: bool
    """Whether figures cannot be compared because of it."""

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.a)} and {_shown(self.b)}"


def fingerprint(environment: dict[str, Any]) -> dict[str, Any]:
    """What must be equal, by name; a key that an older result lacks is None."""
    postgresql = environment.get("postgresql") or {}
    found: dict[str, Any] = {name: take(environment) for name, take in _MACHINE.items()}
    found["postgresql.version"] = _major(str(postgresql.get("version", "")))
    for name, value in (postgresql.get("settings") or {}).items():
        if name not in _HARMLESS and not re.search(UNRECORDED, name):
            found[f"postgresql.{name}"] = value
    return found


def comparability_key(environment: dict[str, Any]) -> str:
    """Equal for results that may be compared: 16 hexadecimal digits of a SHA-256 over the fingerprint."""
    text = json.dumps(fingerprint(environment), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """Of two environments: what forbids to compare first, then what may be the change.

    What only one of them recorded forbids nothing: nobody knows whether it differs. A setting of the server
    that one of them lacks has its default there, for all others are recorded.
    """
    before, after = fingerprint(a), fingerprint(b)
    if _has_settings(a) and _has_settings(b):
        for name in [*before, *after]:
            if name.startswith("postgresql."):
                before.setdefault(name, DEFAULT)
                after.setdefault(name, DEFAULT)
    names = dict.fromkeys([*before, *after])
    found = [
        Difference(name, before.get(name), after.get(name), None not in (before.get(name), after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    ]
    return sorted(found, key=lambda difference: not difference.forbids) + list(_software(a, b))


def doubts(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differed by chance and may explain a difference of figures."""
    said = []
    for key, what in (("fsync_us", "a small durable write"), ("sleep_overshoot_us", "waking up")):
        before, after = ((each.get(key) or {}).get("p50") for each in (a, b))
        if before and after and max(before, after) > _SLOWER * min(before, after):
            said.append(f"{what} took {before:g} µs in A and {after:g} µs in B (median)")
    for name, each in (("A", a), ("B", b)):
        load, cores = (each.get("load_average") or [0.0])[0], each.get("cores") or 1
        if load > cores:
            said.append(f"the machine was busy before {name} began: load {load:g} on {cores} cores")
    return said


def _has_settings(environment: dict[str, Any]) -> bool:
    return bool((environment.get("postgresql") or {}).get("settings"))


def _software(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for name in ("commit", "platform", "python"):
        if a.get(name) != b.get(name):
            yield Difference(name, a.get(name), b.get(name), False)
    one, other = ((each.get("postgresql") or {}).get("version") for each in (a, b))
    if one != other:
        yield Difference("postgresql.minor_version", one, other, False)
    before, after = a.get("packages") or {}, b.get("packages") or {}
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Difference(f"packages.{name}", before.get(name), after.get(name), False)


def _gigabytes(environment: dict[str, Any]) -> int | None:
    found = environment.get("memory_bytes")
    return None if found is None else round(found / _MEMORY_STEP)


def _major(version: str) -> str:
    return version.partition(".")[0]


def _system(environment: dict[str, Any]) -> str:
    """`Linux-6.18 x86_64` of what Python says of the platform."""
    text = str(environment.get("platform", ""))
    kernel = re.match(r"[A-Za-z]+-\d+\.\d+", text)
    machine = re.search(r"x86_64|aarch64|arm64|AMD64", text)
    return f"{kernel[0] if kernel else text} {machine[0] if machine else ''}".strip()


_MACHINE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cpu": lambda e: e.get("cpu"),
    "cores": lambda e: e.get("cores"),
    "cores_for_us": lambda e: (e.get("host") or {}).get("cores_for_us"),
    "memory_gb": _gigabytes,
    "system": _system,
    "python": lambda e: ".".join(str(e.get("python", "")).split(".")[:2]),
    "cpu_limit": lambda e: (e.get("host") or {}).get("cpu_limit"),
    "file_system": lambda e: (e.get("host") or {}).get("file_system"),
    "clock": lambda e: (e.get("host") or {}).get("clock"),
    "governor": lambda e: (e.get("host") or {}).get("governor"),
}
_HARMLESS = {
    "DateStyle",
    "TimeZone",
    "log_timezone",
    "default_text_search_config",
    "client_encoding",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "log_checkpoints",
    "unix_socket_permissions",
    "port",
}
"""Settings that no figure depends on."""


def _shown(value: Any) -> str:
    return "not recorded" if value is None or value == "" else str(value)
