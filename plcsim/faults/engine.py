"""The faults in force on one device: which of them hit a request, how often, and what has landed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from plcsim.errors import InputError
from plcsim.faults.event import FaultEvent, Record, utc_now
from plcsim.faults.image_rules import Images
from plcsim.faults.rules import ClockJump, FaultRule, Restart
from plcsim.faults.selection import OnRequest, Windowed, span_of
from plcsim.protocol.pdu import Request

_KEPT_EVENTS = 1_000
"""Events of a device that stay in memory, about 0.5 MB; a journal file has them all."""

RuleT_co = TypeVar("RuleT_co", bound=Windowed, covariant=True)


@dataclass(slots=True)
class ActiveFault(Generic[RuleT_co]):
    """A rule, and what has come of it so far."""

    name: str
    rule: RuleT_co
    added_at: float
    dice: Random
    fitted: int = 0
    """Requests that it was meant for."""
    fired: int = 0
    """Of these, the ones that `every` and `probability` chose."""
    landed: int = 0
    """Of these, the ones that it did change; or how often it hit the device or its connections."""
    frozen: Images | None = None
    """What the device showed when it hit for the first time."""

    @property
    def opens_at(self) -> float:
        return self.added_at + self.rule.after_s

    @property
    def closes_at(self) -> float:
        return math.inf if self.rule.for_s is None else self.opens_at + self.rule.for_s

    def is_open(self, now: float) -> bool:
        return self.opens_at <= now < self.closes_at

    @property
    def is_used_up(self) -> bool:
        """Whether it has done all that it ever will."""
        if isinstance(self.rule, OnRequest):
            return self.rule.count is not None and self.landed >= self.rule.count
        return isinstance(self.rule, Restart | ClockJump) and self.rule.for_s is None and self.landed > 0


@dataclass(frozen=True, slots=True)
class FaultStatus:
    """What is told of a fault to people and programs."""

    name: str
    kind: str
    in_force: bool
    fitted: int
    fired: int
    landed: int
    rule: dict[str, object] = field(default_factory=dict)


class FaultEngine:
    """Keeps the fault rules of one device. Not thread-safe; lives in the device's event loop.

    The same seed and the same requests give the same faults: probabilities and amounts come from
    dice that are seeded with seed, device and name of the rule.
    """

    def __init__(
        self,
        device_id: str,
        seed: int,
        record: Record | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device_id = device_id
        self._seed = seed
        self._record = record
        self._clock = clock
        self._faults: list[ActiveFault[FaultRule]] = []
        self._watchers: list[Callable[[], None]] = []
        self.events: deque[FaultEvent] = deque(maxlen=_KEPT_EVENTS)
        """The latest faults that landed."""
        self.landed = 0
        """All that landed since the start, those of removed rules too."""

    def __bool__(self) -> bool:
        return bool(self._faults)

    def start(self) -> None:
        """Let the windows of the rules that are there count from now, when the device begins to be served."""
        now = self._clock()
        for fault in self._faults:
            fault.added_at = now

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever rules come or go."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Call `changed` no more; nothing happens if it is not called anyway."""
        self._watchers = [each for each in self._watchers if each != changed]

    def add(self, rule: FaultRule) -> str:
        """Add a rule, whose window counts from now; its name. Raises InputError if the name is taken."""
        taken = {fault.name for fault in self._faults}
        name = rule.name or next(n for n in _names(rule.kind) if n not in taken)
        if name in taken:
            raise InputError(f"fault {name!r}: {self._device_id} has one of this name already")
        dice = Random(f"{self._seed}/{self._device_id}/{name}")
        self._faults.append(ActiveFault(name, rule, self._clock(), dice))
        self._tell()
        return name

    def remove(self, name: str) -> None:
        """Remove a rule. Raises InputError if there is none of this name."""
        kept = [fault for fault in self._faults if fault.name != name]
        if len(kept) == len(self._faults):
            names = ", ".join(fault.name for fault in self._faults) or "none"
            raise InputError(f"fault {name!r}: {self._device_id} has no such fault; it has {names}")
        self._faults = kept
        self._tell()

    def clear(self) -> int:
        """Remove all rules; how many there were."""
        count = len(self._faults)
        self._faults = []
        self._tell()
        return count

    def rules(self) -> list[FaultStatus]:
        """All rules in the order in which they were added."""
        now = self._clock()
        return [
            FaultStatus(
                fault.name,
                fault.rule.kind,
                fault.is_open(now) and not fault.is_used_up,
                fault.fitted,
                fault.fired,
                fault.landed,
                fault.rule.model_dump(mode="json", exclude_unset=True),
            )
            for fault in self._faults
        ]

    def of(self, *kinds: type[RuleT_co]) -> Sequence[ActiveFault[RuleT_co]]:
        """The faults of some kinds, whether their window is open or not."""
        return [fault for fault in self._faults if isinstance(fault.rule, kinds)]  # type: ignore[misc]

    def open_now(self, *kinds: type[RuleT_co]) -> Sequence[ActiveFault[RuleT_co]]:
        """The faults of some kinds whose window is open."""
        now = self._clock()
        return [fault for fault in self.of(*kinds) if fault.is_open(now)]

    def due_once(self, *kinds: type[RuleT_co]) -> Sequence[ActiveFault[RuleT_co]]:
        """The faults of some kinds whose window has opened and which have not landed yet."""
        now = self._clock()
        return [fault for fault in self.of(*kinds) if not fault.landed and now >= fault.opens_at]

    def hits(self, request: Request) -> Iterator[ActiveFault[FaultRule]]:
        """The faults that hit a request, in the order in which they were added; each draws its dice."""
        now = self._clock()
        for fault in self._faults:
            rule = fault.rule
            if not isinstance(rule, OnRequest) or not fault.is_open(now) or fault.is_used_up:
                continue
            if not rule.fits(request):
                continue
            fault.fitted += 1
            if fault.fitted % rule.every == 0 and fault.dice.random() < rule.probability:
                fault.fired += 1
                yield fault

    def until_next_edge(self) -> float | None:
        """Seconds until a window opens or closes; None if none will."""
        now = self._clock()
        edges = [edge for fault in self._faults for edge in (fault.opens_at, fault.closes_at)]
        return min((edge - now for edge in edges if now < edge < math.inf), default=None)

    def has_landed(
        self,
        fault: ActiveFault[Windowed],
        plc_scan: int,
        request: Request | None = None,
        peer: str | None = None,
    ) -> None:
        """Count and record that a fault changed something: the answer to a request, what happened to the
        connection of a peer, or the device."""
        if request is None:
            fault.fired += 1
        fault.landed += 1
        self.landed += 1
        address, quantity = (request and span_of(request)) or (None, None)
        event = FaultEvent(
            at=utc_now(),
            device=self._device_id,
            fault=fault.name,
            kind=str(getattr(fault.rule, "kind", "")),
            plc_scan=plc_scan,
            peer=request.peer if request else peer,
            transaction_id=request.transaction_id if request else None,
            unit_id=request.unit_id if request else None,
            function_code=request.function_code if request else None,
            address=address,
            quantity=quantity,
        )
        self.events.append(event)
        if self._record:
            self._record(event)

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()


def _names(kind: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{kind}-{number}"
