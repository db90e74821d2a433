"""The machine's process: idle, then the steps of a recipe one after the other, then idle again.

One execution is `idle_s` of idling and the recipe's steps. An automatic process repeats it for ever; PLC
scan 0 is the first idle scan of process number 1. A commanded one idles until it is told to start. What
commands and failures make of it is a row of `Stage`s, so that where the machine stands stays a pure
function of the PLC scan and the commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Scans = NDArray[np.int64]

IDLE = "idle"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Step(_Strict):
    """One step of a recipe: what the machine does and for how long."""

    name: str = Field(min_length=1)
    seconds: float = Field(gt=0)


class Phase(_Strict):
    """Steps that run in turn, the whole row `times` over."""

    times: int = Field(default=1, ge=1, le=1_000_000)
    steps: list[Step] = Field(min_length=1)


class Command(StrEnum):
    """What an operator can tell the machine."""

    START = "start"
    STOP = "stop"
    ACKNOWLEDGE = "acknowledge"


class CommandSpec(_Strict):
    """Full names of the writable bools that are the machine's push buttons: a write of true presses one."""

    start: str | None = None
    """Idle: run the recipe. Hold: go on."""
    stop: str | None = None
    """Running: hold. Hold: abort, idle."""
    acknowledge: str | None = None
    """Fault: idle."""

    def named(self) -> dict[Command, str]:
        """The full names by command."""
        names = {command: getattr(self, command.value) for command in Command}
        return {command: name for command, name in names.items() if name is not None}


class FailureSpec(_Strict):
    """Where an execution fails: so long after a step began for the first time in it."""

    step: str
    after_s: float = Field(default=0.0, ge=0)
    execution: int | None = Field(default=None, ge=1, le=10**9)
    """Number of the only execution that fails …"""
    every: int | None = Field(default=None, ge=1, le=10**9)
    """… or of those whose number this divides."""

    @model_validator(mode="after")
    def _says_which(self) -> FailureSpec:
        if (self.execution is None) == (self.every is None):
            raise PydanticCustomError("which", "Give either execution or every")
        return self

    def next_execution(self, number: int) -> int | None:
        """The first execution from `number` on that fails here."""
        if self.every is not None:
            return -(-number // self.every) * self.every
        return self.execution if self.execution is not None and self.execution >= number else None


class ProcessSpec(_Strict):
    """The recipe and the parameters by which a logger sees it run."""

    recipe: str = Field(min_length=1)
    running: str
    """Full name of the parameter that is non-zero while the recipe runs."""
    number: str
    """Full name of the parameter that counts the executions."""
    idle_s: float = Field(default=10.0, gt=0)
    phases: list[Phase] = Field(default_factory=list)
    mode: Literal["automatic", "commanded"] = "automatic"
    """Whether an execution begins after idle_s, or at the start command."""
    commands: CommandSpec = CommandSpec()
    failures: list[FailureSpec] = Field(default_factory=list)


class Mode(IntEnum):
    """What a stage does; but for MOVING these are the numbers of the signal `process_state`."""

    IDLE = 0
    MOVING = 1
    """Through idling and recipe, for ever: `running` in the recipe, idle before it."""
    HOLD = 2
    FAULT = 3


class Stage(NamedTuple):
    """What the machine does from one PLC scan on, until the next stage."""

    first: int
    mode: Mode
    place: int
    """In PLC scans from the start of the execution's idle part, at `first`."""
    number: int
    """Of the execution, at `first`."""


class ProcessState(NamedTuple):
    """Where the process stands at given PLC scans; arrays of one shape."""

    running: NDArray[np.bool_]
    """In the recipe, held or not."""
    step: NDArray[np.int64]
    """0 while idle or at fault, otherwise the step's number in `Process.step_names`."""
    number: NDArray[np.int64]
    """Counts executions from 1; a new one begins with its idle part."""
    state: NDArray[np.int64]
    """0 idle, 1 running, 2 hold, 3 fault."""


class Process:
    """Tells the state of the process at any PLC scan."""

    def __init__(self, spec: ProcessSpec | None, plc_scan_s: float) -> None:
        rows = [] if spec is None else _rows(spec)
        self.step_names: list[str] = list(dict.fromkeys([IDLE, *(name for name, _ in rows)]))
        lengths = [max(1, round(seconds / plc_scan_s)) for _, seconds in rows] or [1]
        steps = [self.step_names.index(name) for name, _ in rows] or [0]
        self._step_at = np.repeat(np.array(steps, dtype=np.int64), lengths)
        self._idle_scans = lengths[0]
        self.cycle_scans = len(self._step_at)
        """PLC scans from the start of one execution's idle part to the next."""
        self._commanded = spec is not None and spec.mode == "commanded"
        self._failures = [] if spec is None else [(f, self._place_of(f, plc_scan_s)) for f in spec.failures]
        first = Stage(0, Mode.IDLE if self._commanded else Mode.MOVING, 0, 1)
        self.stages: Sequence[Stage] = self._with_what_follows([first])
        """Without any commands."""

    @staticmethod
    def scans_of(spec: ProcessSpec, plc_scan_s: float) -> float:
        """About how many PLC scans one execution takes, told without laying them out."""
        seconds = sum(p.times * sum(step.seconds for step in p.steps) for p in spec.phases)
        steps = sum(p.times * len(p.steps) for p in spec.phases)
        return steps + (spec.idle_s + seconds) / plc_scan_s

    def state_at(self, plc_scans: Scans, stages: Sequence[Stage] | None = None) -> ProcessState:
        """State at each of the given PLC scans (any shape), of the stages that commands made."""
        first, mode, start, begun = np.array(stages or self.stages, dtype=np.int64).T
        stage = np.maximum(np.searchsorted(first, plc_scans, side="right") - 1, 0)
        moving = mode[stage] == Mode.MOVING
        place = start[stage] + np.where(moving, plc_scans - first[stage], 0)
        step = self._step_at[place % self.cycle_scans]
        state = np.where(moving, step > 0, mode[stage])
        running = (state == Mode.MOVING) | (state == Mode.HOLD)
        number = begun[stage] + place // self.cycle_scans
        return ProcessState(running, np.where(running, step, 0), number, state)

    def commanded(
        self, stages: Sequence[Stage], plc_scan: int, pressed: frozenset[Command]
    ) -> Sequence[Stage]:
        """The stages, after commands that were given in one PLC scan and hold from the next one on.

        Acknowledge counts before stop, and stop before start: start is ignored where stop is pressed too.
        """
        at = plc_scan + 1
        reached = [stage for stage in stages if stage.first <= at]
        now = self._moved_to(reached[-1], at)
        for command in (Command.ACKNOWLEDGE, Command.STOP, Command.START):
            if command in pressed and not (command is Command.START and Command.STOP in pressed):
                now = self._told(now, command)
        if now == self._moved_to(reached[-1], at):
            return stages
        return self._with_what_follows([*(stage for stage in reached if stage.first < at), now])

    def renumbered(self, stages: Sequence[Stage], plc_scan: int, new: int) -> Sequence[Stage]:
        """What goes on from a PLC scan, as if that scan had another number."""
        now = [stage for stage in stages if stage.first <= plc_scan][-1]
        return self._with_what_follows([self._moved_to(now, plc_scan)._replace(first=new)])

    def _told(self, now: Stage, command: Command) -> Stage:
        mode = now.mode
        if mode is Mode.MOVING and now.place < self._idle_scans:
            mode = Mode.IDLE
        has_recipe = self.cycle_scans > self._idle_scans
        match command, mode:
            case (Command.START, Mode.IDLE) if has_recipe:
                return now._replace(mode=Mode.MOVING, place=self._idle_scans)
            case Command.START, Mode.HOLD:
                return now._replace(mode=Mode.MOVING)
            case Command.STOP, Mode.MOVING:
                return now._replace(mode=Mode.HOLD)
            case (Command.STOP, Mode.HOLD) | (Command.ACKNOWLEDGE, Mode.FAULT):
                return self._next_execution(now.first, now.number)
        return now

    def _moved_to(self, stage: Stage, plc_scan: int) -> Stage:
        if stage.mode is not Mode.MOVING:
            return stage._replace(first=plc_scan)
        more, place = divmod(stage.place + plc_scan - stage.first, self.cycle_scans)
        return Stage(plc_scan, stage.mode, place, stage.number + more)

    def _with_what_follows(self, stages: list[Stage]) -> list[Stage]:
        """The stages, and those that come of themselves: the end of an execution, a failure."""
        last = stages[-1]
        if last.mode is not Mode.MOVING:
            return stages
        failing = [
            Stage(last.first + (number - last.number) * self.cycle_scans + place - last.place, *what)
            for failure, place in self._failures
            for number in [failure.next_execution(last.number + (place < last.place))]
            if number is not None
            for what in [(Mode.FAULT, place, number)]
        ]
        if self._commanded:
            end = last.first + self.cycle_scans - last.place
            failing.append(self._next_execution(end, last.number))
        return [*stages, min(failing)] if failing else stages

    def _next_execution(self, plc_scan: int, number: int) -> Stage:
        return Stage(plc_scan, Mode.IDLE if self._commanded else Mode.MOVING, 0, number + 1)

    def _place_of(self, failure: FailureSpec, plc_scan_s: float) -> int:
        """Where an execution fails, in PLC scans; within the step, for what else would be failing?"""
        step = self.step_names.index(failure.step)
        first = int(np.argmax(self._step_at == step))
        length = int(np.argmin(np.append(self._step_at[first:] == step, False)))
        return first + min(round(failure.after_s / plc_scan_s), length - 1)


def _rows(spec: ProcessSpec) -> list[tuple[str, float]]:
    rows = [(IDLE, spec.idle_s)]
    for phase in spec.phases:
        rows += [(step.name, step.seconds) for step in phase.steps] * phase.times
    return rows
