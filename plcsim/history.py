"""What clients wrote, folded into what the values depend on: held values, legs of lags, stages.

The truth folds a whole journal, the emulated device folds each write as it comes and forgets what no
later PLC scan shows; both by the same arithmetic, so they agree to the last bit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from plcsim.process import Command, Stage
from plcsim.signals import Leg
from plcsim.truth_plan import TruthPlan
from plcsim.writes import Write


class History:
    """Takes writes in the order of their PLC scans. Of several writes of a parameter in one PLC scan the
    last one counts: the next scan sees no more than that."""

    def __init__(self, plan: TruthPlan, writes: Iterable[Write] = ()) -> None:
        self._plan = plan
        self.held: dict[int, list[tuple[int, float]]] = {}
        """By parameter_id: (first PLC scan that shows it, value) of what was written, in order."""
        self._legs: dict[int, list[Leg]] = {}
        self._stages: Sequence[Stage] = plan.process.stages
        """After the commands before `_pressed_at`."""
        self._pressed_at = -1
        """PLC scan of the last commands; below 0 there were none."""
        self._pressed: dict[Command, bool] = {}
        for write in sorted(writes, key=lambda write: write.plc_scan):
            self.add(write)

    def add(self, write: Write) -> None:
        """Take one more write; its PLC scan is not before that of the last one."""
        plan, at = self._plan, write.plc_scan
        if write.parameter_id in plan.commands:
            if at != self._pressed_at:
                self._stages, self._pressed_at, self._pressed = self.stages, at, {}
            self._pressed[plan.commands[write.parameter_id]] = bool(write.value)
            return
        held = self.held.setdefault(write.parameter_id, [])
        if held and held[-1][0] == at + 1:
            held.pop()
        held.append((at + 1, write.value))
        for lag_id, lag in plan.lags_after(write.parameter_id):
            legs = self._legs.setdefault(lag_id, [plan.first_leg(lag_id)])
            if len(legs) > 1 and legs[-1].first == at + 1:
                legs.pop()
            legs.append(lag.next_leg(legs[-1], at, write.value, plan.plc_scan_ms))

    def legs(self, lag_id: int) -> Sequence[Leg]:
        """The way of a lag."""
        return self._legs.get(lag_id) or [self._plan.first_leg(lag_id)]

    @property
    def stages(self) -> Sequence[Stage]:
        """Of the process, after all commands."""
        pressed = frozenset(command for command, value in self._pressed.items() if value)
        if not pressed:
            return self._stages
        return self._plan.process.commanded(self._stages, self._pressed_at, pressed)

    def forget_before(self, plc_scan: int) -> None:
        """Drop what no value at this PLC scan or a later one depends on; no write is to come before it."""
        since = plc_scan - self._plan.look_back
        for held in self.held.values():
            del held[: _in_force(held, since)]
        for legs in self._legs.values():
            del legs[: _in_force(legs, since)]
        if self._pressed_at >= 0:
            if self._pressed_at < plc_scan:
                self._stages, self._pressed = self.stages, {}
            self._stages = self._stages[_in_force(self._stages, since) :]

    def go_back(self, reached: int, plc_scan: int) -> None:
        """Let what was written hold, and the commanded process go on, though the PLC scan number jumped back.

        Lags are at their set values then. PLC scans that come twice are recomputable no more.
        """
        self.held = {key: [(0, held[-1][1])] for key, held in self.held.items()}
        self._legs = {key: [Leg(0, 0, legs[-1].target, legs[-1].target)] for key, legs in self._legs.items()}
        if self._pressed_at >= 0:
            self._stages = self._plan.process.renumbered(self.stages, reached + 1, plc_scan)
            self._pressed_at, self._pressed = 0, {}


def _in_force(parts: Sequence[tuple[int, float] | Leg | Stage], plc_scan: int) -> int:
    """Index of the part that holds at a PLC scan; each starts with its first PLC scan."""
    return max(0, bisect_right(parts, plc_scan, key=lambda part: part[0]) - 1)
