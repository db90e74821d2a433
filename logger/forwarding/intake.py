"""Spool -> lanes: whichever writer has nothing to do takes what the spool has accepted, for all of them.

No thread of its own: what a lone writer takes it stores at once. What is taken and not stored yet is bounded
by its rows; the rest waits in the spool.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from logger.scan import Scan, StreamKey
from logger.spool import Spool, Spooled

TAKEN_AT_ONCE = 512
_WAIT_S = 0.1
"""After so long an idle writer looks whether it is to stop."""


@dataclass(eq=False)
class Inbox:
    """What was taken for one writer."""

    items: deque[Spooled] = field(default_factory=deque)
    taken_rows: int = 0
    """Counted by whoever takes."""
    done_rows: int = 0
    """Counted by the writer."""


class Intake:
    """Shared by the writers; `owner_of` says whose stream is whose."""

    def __init__(
        self,
        spool: Spool,
        owner_of: Mapping[StreamKey, Inbox],
        max_rows: int,
        on_stranger: Callable[[StreamKey], None],
    ) -> None:
        self._spool = spool
        self._owner_of = owner_of
        self._inboxes = list({id(inbox): inbox for inbox in owner_of.values()}.values())
        self._max_rows = max_rows
        self._on_stranger = on_stranger
        self._changed = threading.Condition()
        self._is_taking = False
        self.is_dry = False
        """Whether the spool had nothing more when it was last asked."""
        self._questions = 0

    @property
    def rows(self) -> int:
        """Taken and not done with."""
        return sum(inbox.taken_rows - inbox.done_rows for inbox in self._inboxes)

    @property
    def is_full(self) -> bool:
        return self.rows >= self._max_rows

    def ask_again(self) -> None:
        """Whatever the spool said, or is just saying: ask it once more."""
        with self._changed:
            self._questions += 1
            self.is_dry = False

    def fetch(self, inbox: Inbox, may_wait: bool) -> None:
        """Let the spool's next items come to their writers; may wait a moment until there are any."""
        with self._changed:
            if self._is_taking:
                if may_wait and not inbox.items:
                    self._changed.wait(_WAIT_S)
                return
            self._is_taking = True
            question = self._questions
        items: list[Spooled] = []
        has_asked = False
        try:
            if not self.is_full:
                items = self._spool.take(TAKEN_AT_ONCE, _WAIT_S if may_wait and not inbox.items else 0.0)
                has_asked = True
            elif may_wait:
                threading.Event().wait(_WAIT_S)
        finally:
            with self._changed:
                self._is_taking = False
                if has_asked and question == self._questions:
                    self.is_dry = not items
                for spooled in items:
                    self._deal(spooled)
                self._changed.notify_all()

    def _deal(self, spooled: Spooled) -> None:
        inbox = self._owner_of.get(spooled.key)
        if inbox is None:
            self._on_stranger(spooled.key)
            return
        inbox.items.append(spooled)
        inbox.taken_rows += rows_of(spooled)


def rows_of(spooled: Spooled) -> int:
    item = spooled.item
    return len(item.values) if isinstance(item, Scan) else 1
