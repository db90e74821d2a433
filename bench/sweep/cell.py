"""One trial of a sweep: every condition that may be varied, and which of them go together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.arms.spec import parse_arm
from plcsim.errors import InputError
from plcsim.faults.rules import FaultRule

PLC, MADE = "plc", "made"
"""Where scans come from: emulators over Modbus TCP through loggers, or made in the process that stores."""
MOST_VALUES = 50_000_000
"""Of one trial: what is stored is read back and checked value by value."""


@dataclass(frozen=True)
class Trial:
    """One cell of a sweep."""

    interval_s: float
    """Each device is polled so often."""
    devices: int
    """Machines at once, in all; each emulated by a process of its own."""
    repository: str
    """An arm: a repository, a class, a SQL file, with settings."""
    parameters: int
    """Of each device."""
    duration_s: float
    """Of the logging, warm-up included."""
    loggers: int = 0
    """Processes that share the devices; 0: one for each device."""
    source: str = PLC
    scans: int = 1
    """Of a device in one transaction; a logger decides that itself, by what waits."""
    connections: int = 0
    """Of each process; 0: what a logger takes by itself, one where scans are made."""
    update_strategy: str = ""
    """How current values are updated; empty: as the repository does it."""
    synchronous_commit: str = ""
    """Empty: as the server has it."""
    faults: str = ""
    """Name of the profile that all emulators have; empty: none."""
    running: bool = True
    """Whether a process runs, so that process rows are written too."""
    plc_scan_ms: float = 100.0
    warm_up_s: float = 0.0
    """Scans due earlier are stored and verified, but not measured."""
    repeat: int = 1
    fault_rules: tuple[FaultRule, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        """All that differs from a plain trial."""
        more = [
            _count(self.loggers, "logger"),
            "scans made" if self.source == MADE else "",
            f"{self.scans} scans a transaction" if self.scans > 1 else "",
            _count(self.connections, "connection"),
            f"updates by {self.update_strategy}" if self.update_strategy else "",
            f"synchronous_commit {self.synchronous_commit}" if self.synchronous_commit else "",
            f"faults {self.faults}" if self.faults else "",
            "" if self.running else "process idle",
            f"PLC scan {self.plc_scan_ms:g} ms" if self.plc_scan_ms != 100 else "",
            f"run {self.repeat}" if self.repeat > 1 else "",
        ]
        first = (
            f"{self.devices} × {self.parameters} parameters every {self.interval_s:g} s, {self.repository}"
        )
        return ", ".join([first, *(each for each in more if each)])

    @property
    def arm(self) -> str:
        """The repository with what other fields say of it, as one arm specification."""
        base, *settings = self.repository.split("+")
        if self.update_strategy:
            base = f"strategy:{self.update_strategy}"
        if self.synchronous_commit:
            settings.append(f"synchronous_commit={self.synchronous_commit}")
        return "+".join([base, *settings])

    @property
    def processes(self) -> int:
        """That store."""
        return self.loggers or self.devices

    @property
    def window_s(self) -> float:
        """What is measured of the logging."""
        return self.duration_s - self.warm_up_s

    @property
    def offered_per_s(self) -> float:
        """Values that are due each second."""
        return self.devices * self.parameters / self.interval_s

    def conditions(self) -> dict[str, Any]:
        """Everything but the rules of the faults, for a result; a Trial again by `Trial(**conditions)`."""
        conditions = asdict(self)
        del conditions["fault_rules"]
        return conditions


def _count(count: int, what: str) -> str:
    return "" if count == 0 else f"{count} {what}{'' if count == 1 else 's'}"


def problem_of(trial: Trial) -> tuple[str, str] | None:
    """What makes a trial impossible: the field to change, and why; None if it can run."""
    if trial.loggers > trial.devices:
        return (
            "loggers",
            f"{trial.loggers} loggers cannot share {trial.devices} devices; {trial.devices} at most",
        )
    if trial.source == PLC and trial.scans > 1:
        return "scans", (
            f"{trial.scans} scans a transaction need source: made; a logger stores what waits, at most 20"
        )
    if trial.source == MADE and trial.faults:
        return "faults", f"{trial.faults!r} hits the connection to a PLC, which source: made has none of"
    if trial.update_strategy and trial.repository.split("+")[0] != "synchronizing":
        return "update_strategy", (
            f"{trial.update_strategy!r} is a way of repository synchronizing, not of {trial.repository!r}"
        )
    needed_s = trial.warm_up_s + trial.interval_s * trial.scans
    if trial.duration_s < needed_s:
        return "duration_s", (
            f"{trial.duration_s:g} s hold no transaction: {trial.warm_up_s:g} s of warm-up and {trial.scans} "
            f"scans every {trial.interval_s:g} s need {needed_s:g} s or more"
        )
    if trial.offered_per_s * trial.duration_s > MOST_VALUES:
        return "duration_s", (
            f"{trial.offered_per_s:,.0f} values/s for {trial.duration_s:g} s are more than the "
            f"{MOST_VALUES:,} that can be verified"
        )
    return _problem_of_arm(trial)


def _problem_of_arm(trial: Trial) -> tuple[str, str] | None:
    try:
        arm = parse_arm(trial.arm)
    except InputError as exc:
        return ("update_strategy" if trial.update_strategy else "repository"), str(exc)
    if trial.source == PLC and not arm.is_ours:
        return "repository", (
            f"{trial.arm!r} is {arm.kind.value}: a logger stores through subclasses of Repository; "
            "with source: made it can be swept"
        )
    if trial.source == PLC and arm.settings.pool is not None:
        return (
            "repository",
            f"{trial.arm!r}: a logger's writers keep a connection each; say connections instead",
        )
    return None
