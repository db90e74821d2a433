"""Arms that are a machine of known capacity: what a search must find is planted. Not a database at all."""

from __future__ import annotations

import time
from typing import Any

from psycopg import Connection

from logger.scan import Batch

PLANTED_PER_S = 500.0
_CATCHES_UP_NS = 40_000_000
"""By so much may it be behind its own pace: what the system wakes it late is no capacity lost."""


class FiveHundred:
    """Stores 500 batches a second and no more."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._free_ns = 0

    def store(self, batch: Batch) -> None:
        """Answer when a server of that capacity would."""
        earliest = time.monotonic_ns() - _CATCHES_UP_NS
        self._free_ns = max(self._free_ns, earliest) + round(1e9 / PLANTED_PER_S)
        wait_s = (self._free_ns - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            time.sleep(wait_s)


class Unlimited:
    """Stores nothing at once."""

    def __init__(self, connection: Connection[Any]) -> None:
        pass

    def store(self, batch: Batch) -> None:
        """Answer at once."""
