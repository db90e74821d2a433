"""Names the fixture plugins: each fix_*.py brings one kind of real thing; imported ones stand first."""

from __future__ import annotations

pytest_plugins = [
    "fix_emulator",
    "fix_faults",
    "fix_fleet",
    "fix_postgres",
    "fix_proxy",
    "fix_scans",
    "fix_server",
    "fix_tls",
    "fix_types",
    "fix_forwarder",
    "fix_logger",
    "fix_plant",
    "fix_refused",
    "fix_suite",
]
