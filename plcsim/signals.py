"""The true value of a parameter at a PLC scan: pure, seeded, so that anybody can recompute it.

`Moment` holds what a signal may depend on; nothing else enters. Time in seconds is
`t = plc_scan · plc_scan_ms / 1000`.

Noise: `u(scan) = (mix(key + scan·G mod 2^64) >> 11) / 2^53` lies in [0, 1), where `mix` is the output
function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, doi:10.1145/2660193.2660195), G is its golden
gamma 0x9E3779B97F4A7C15, and `key` the first 8 bytes, big-endian, of
SHA-256("{seed}/{device_id}/{parameter_id}"). Noise of amplitude a is `a · (2u - 1)`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plcsim.process import ProcessState, Scans

Values = NDArray[np.float64]

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Moment(NamedTuple):
    """The PLC scans asked for, and what holds at each of them; arrays of one shape."""

    plc_scans: Scans
    plc_scan_ms: float
    process: ProcessState
    step_names: list[str]
    noise_key: int
    """Of the parameter whose value is asked for: `noise_key(…)`."""
    setpoint: Values
    """What the parameter's set value was; NaN where it has none."""

    @property
    def seconds(self) -> Values:
        return np.asarray(self.plc_scans * self.plc_scan_ms / 1000.0, dtype=np.float64)


class _Signal(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def at(self, moment: Moment) -> Values:
        """The value at each PLC scan of the moment."""
        raise TypeError(f"{type(self).__name__} does not say its value")


class Constant(_Signal):
    """Always the same; where the parameter is writable: until somebody writes it."""

    kind: Literal["constant"]
    value: float

    def at(self, moment: Moment) -> Values:
        return np.full(moment.plc_scans.shape, self.value)


class Sine(_Signal):
    """mean + amplitude · sin(2π·(t / period_s + phase)) + noise"""

    kind: Literal["sine"]
    mean: float
    amplitude: float
    period_s: float = Field(gt=0)
    phase: float = 0.0
    """In turns: 0.25 starts at the maximum."""
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        turns = moment.seconds / self.period_s + self.phase
        wave = self.mean + self.amplitude * np.sin(2 * np.pi * (turns % 1.0))
        return np.asarray(wave + _noise(moment, self.noise))


class Ramp(_Signal):
    """From `start` to `end` in period_s, then from `start` again."""

    kind: Literal["ramp"]
    start: float
    end: float
    period_s: float = Field(gt=0)

    def at(self, moment: Moment) -> Values:
        share = (moment.seconds / self.period_s) % 1.0
        return np.asarray(self.start + (self.end - self.start) * share)


class Noise(_Signal):
    """Uniform in mean ± amplitude, independent from scan to scan."""

    kind: Literal["noise"]
    mean: float
    amplitude: float = Field(ge=0)

    def at(self, moment: Moment) -> Values:
        return np.asarray(self.mean + _noise(moment, self.amplitude))


class Counter(_Signal):
    """(start + PLC scan · step) modulo wrap"""

    kind: Literal["counter"]
    step: int = Field(default=1, ge=-(2**20), le=2**20)
    start: int = Field(default=0, ge=-(2**53), le=2**53)
    wrap: int = Field(default=2**32, ge=1, le=2**53)

    def at(self, moment: Moment) -> Values:
        return ((self.start + moment.plc_scans * self.step) % self.wrap).astype(np.float64)


class Steps(_Signal):
    """A level for each step of the recipe, `otherwise` in all the others and while idle; plus noise."""

    kind: Literal["steps"]
    levels: dict[str, float] = Field(min_length=1)
    otherwise: float = 0.0
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        table = np.array([self.levels.get(name, self.otherwise) for name in moment.step_names])
        return np.asarray(table[moment.process.step] + _noise(moment, self.noise))


class Follow(_Signal):
    """The parameter's set value plus noise; with `during`, only in these steps, else `otherwise`."""

    kind: Literal["follow"]
    during: list[str] | None = None
    otherwise: float = 0.0
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        value = moment.setpoint
        if self.during is not None:
            active = np.array([name in self.during for name in moment.step_names])
            value = np.where(active[moment.process.step], value, self.otherwise)
        return np.asarray(value + _noise(moment, self.noise))


class PlcScan(_Signal):
    """The PLC scan counter itself, modulo 2^32: it tells which scan a read value belongs to."""

    kind: Literal["plc_scan"]

    def at(self, moment: Moment) -> Values:
        return (moment.plc_scans % 2**32).astype(np.float64)


class ProcessRunning(_Signal):
    """1 while the recipe runs, 0 while idle."""

    kind: Literal["process_running"]

    def at(self, moment: Moment) -> Values:
        return moment.process.running.astype(np.float64)


class ProcessStep(_Signal):
    """Number of the recipe's step (from 1, in the order of first appearance), 0 while idle."""

    kind: Literal["process_step"]

    def at(self, moment: Moment) -> Values:
        return moment.process.step.astype(np.float64)


class ProcessNumber(_Signal):
    """Counts the executions of the recipe, from 1."""

    kind: Literal["process_number"]

    def at(self, moment: Moment) -> Values:
        return moment.process.number.astype(np.float64)


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
)

SignalField = Annotated[Signal, Field(discriminator="kind")]


def noise_key(seed: int, device_id: str, parameter_id: int) -> int:
    """Key of a parameter's noise, as the module's docstring defines it."""
    digest = hashlib.sha256(f"{seed}/{device_id}/{parameter_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def uniform(key: int, plc_scans: Scans) -> Values:
    """u(scan) of the module's docstring, in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + plc_scans.astype(np.uint64) * _GOLDEN_GAMMA
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def _noise(moment: Moment, amplitude: float) -> Values | float:
    if amplitude == 0.0:
        return 0.0
    return amplitude * (2.0 * uniform(moment.noise_key, moment.plc_scans) - 1.0)
