"""How the forwarder stores, and how its threads learn that it is to end."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from logger.forwarding.gathering import Limits
from logger.repositories import Repository


@dataclass(frozen=True)
class ForwarderSettings:
    """How the forwarder stores."""

    repository: type[Repository]
    writers: int = 1
    """Threads with a connection each; streams are dealt to them."""
    max_scans: int = 20
    """Of each stream in one transaction."""
    max_streams: int = 64
    max_rows: int = 20_000
    """Of one transaction."""
    deadline_s: float = 10.0
    """Of every call of the database."""
    max_held_rows: int = 2_000_000
    """Taken from the spool and not stored yet, of all writers; about 26 bytes each."""
    back_off_s: tuple[float, float] = (0.1, 5.0)
    slow_s: float = 10.0
    """Between tries of what a person must mend."""

    @property
    def limits(self) -> Limits:
        return Limits(self.max_scans, self.max_streams, self.max_rows)


class Ending:
    """How the forwarder's threads learn that it is being closed; pauses end with it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        """Store what is left."""
        self.over = threading.Event()
        """Leave what is left."""

    def pause(self, seconds: float) -> None:
        """Wait so long; the beginning of the end, and its end, end it."""
        (self.over if self.begun.is_set() else self.begun).wait(seconds)
