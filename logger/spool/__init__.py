"""Where scans wait until they are stored: files that survive the logger."""

from logger.spool.backlog import Spooled
from logger.spool.limits import SpoolFigures, SpoolLimits
from logger.spool.quarantine import Quarantine, Quarantined
from logger.spool.spool import Spool
from logger.spool.streams import Last, StreamState

__all__ = [
    "Last",
    "Quarantine",
    "Quarantined",
    "Spool",
    "SpoolFigures",
    "SpoolLimits",
    "Spooled",
    "StreamState",
]
