"""A spool for one run, which nothing is left of afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logger.database.embedded import data_folder


@contextmanager
def own_spool() -> Iterator[Path]:
    """A folder for a spool on the disk where a logger has its own, removed at the end of the block."""
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spool-", dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)
