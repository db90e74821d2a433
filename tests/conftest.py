"""Names the fixture plugins: each fix_*.py beside this file brings one kind of real thing."""

from __future__ import annotations

pytest_plugins = ["fix_emulator", "fix_postgres", "fix_proxy", "fix_scans"]
