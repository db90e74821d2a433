"""The true value of a parameter at a PLC scan: pure, seeded, so that anybody can recompute it.

`Moment` holds what a signal may depend on; nothing else enters. Time in seconds is
`t = plc_scan · plc_scan_ms / 1000`. Every kind is described, with its formula, in docs/signals.md.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plcsim.signals.counts import Constant, Counter, PlcScan, StepUp, Trend
from plcsim.signals.events import Dip, Spike
from plcsim.signals.machine import ProcessNumber, ProcessRunning, ProcessStateNumber, ProcessStep, Steps
from plcsim.signals.moment import BaseSignal, Leg, Moment, Values
from plcsim.signals.noise import Noise, RandomWalk, noise_key, uniform
from plcsim.signals.replay import Replay
from plcsim.signals.set_values import Follow, Lag
from plcsim.signals.special import FreezeAfter, Missing, Text
from plcsim.signals.waves import Ramp, Sine, Square, Triangle

__all__ = [
    "BaseSignal",
    "Constant",
    "Counter",
    "Dip",
    "Follow",
    "FreezeAfter",
    "Lag",
    "Leg",
    "Missing",
    "Moment",
    "Noise",
    "PlcScan",
    "ProcessNumber",
    "ProcessRunning",
    "ProcessStateNumber",
    "ProcessStep",
    "Ramp",
    "RandomWalk",
    "Replay",
    "Signal",
    "SignalField",
    "Sine",
    "Spike",
    "Square",
    "StepUp",
    "Steps",
    "Text",
    "Trend",
    "Triangle",
    "Values",
    "noise_key",
    "uniform",
]

Signal = (
    Constant
    | Sine
    | Ramp
    | Noise
    | Counter
    | Steps
    | Follow
    | PlcScan
    | ProcessRunning
    | ProcessStep
    | ProcessNumber
    | Triangle
    | Square
    | RandomWalk
    | Spike
    | Dip
    | Trend
    | StepUp
    | Lag
    | FreezeAfter
    | Replay
    | Text
    | Missing
    | ProcessStateNumber
)

SignalField = Annotated[Signal, Field(discriminator="kind")]
