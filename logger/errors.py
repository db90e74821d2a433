"""What can go wrong while logging, as one tree below PlcsimError.

PlcError                     the PLC did not give us a value we may believe
├── PlcUnreachable           no reply in time, or no connection any more
│   └── PlcNotConnected      no connection could be made
├── BadReply                 a reply that does not answer our request
└── ExceptionReply           the PLC refused; carries the exception code
SpoolFailed                  the spool can keep no more scans: its disk fails, or its folder is gone
DatabaseError                the database did not do what we asked
├── DatabaseUnreachable      no connection
├── DatabaseRefused          exit 2: wrong password, no such database, not ours, other device
└── StreamMoved              the stream does not stand where we believed: nothing was stored
"""

from __future__ import annotations

from plcsim.errors import InputError, PlcsimError


class PlcError(PlcsimError):
    """The PLC did not give us a value we may believe."""


class PlcUnreachable(PlcError):
    """No connection, or no reply in time."""


class PlcNotConnected(PlcUnreachable):
    """No connection could be made."""


class BadReply(PlcError):
    """A reply that does not answer our request; the connection's state is unknown."""


class ExceptionReply(PlcError):
    """The PLC refused the request."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class SpoolFailed(PlcsimError):
    """The spool can keep no more scans."""


class DatabaseError(PlcsimError):
    """The database did not do what we asked."""


class DatabaseUnreachable(DatabaseError):
    """No connection to the database, or it was lost."""


class DatabaseRefused(DatabaseError, InputError):
    """The database is not one that we may use as it was given."""

    exit_code = 2


class StreamMoved(DatabaseError):
    """The stream does not stand where we believed; nothing was stored."""
