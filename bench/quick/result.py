"""What a quick run is asked, what it finds, and what it writes of that."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.analysis.comparison import Comparison, Metric, slot_json
from bench.analysis.plant import plant_units
from bench.analysis.statistics import rounded
from bench.analysis.verdict import Outcome, Targets
from bench.arms.clones import Clones
from bench.load.concurrency import Concurrency
from bench.load.slots import Pair
from bench.oracle.invariants import Verification
from bench.results import command_line, now_utc

PAIR_S = 2.5
"""Length of a pair: long enough for some hundred transactions in each part of a slot."""
FEWEST_PAIRS = 4
BATCH_SIZES = (10, 25, 50, 100, 200)


@dataclass(frozen=True)
class QuickSettings:
    """What to compare and for how long."""

    parameters: int = 84
    duration_s: float = 30.0
    """Of the comparison alone."""
    a: str = "baseline"
    """Arm specs, see bench.arms.spec."""
    b: str = "synchronizing"
    url: str | None = None
    running: bool = True
    """Whether a process runs, so that process rows are written too."""
    plc: bool = False
    """Whether each scan is read from an emulator over Modbus TCP."""
    seed: int = 1
    extras: bool = True
    """Whether batch sizes and concurrent writers are looked at."""
    targets: Targets = field(default_factory=Targets)
    clones: Clones = field(default_factory=Clones)
    """Tables of the user's that both arms get clones of."""

    @property
    def pairs(self) -> int:
        return max(FEWEST_PAIRS, round(self.duration_s / PAIR_S))

    @property
    def machines(self) -> tuple[int, ...]:
        more = BATCH_SIZES if self.extras else ()
        return tuple(sorted({self.parameters, *more}))


@dataclass(frozen=True)
class BatchSize:
    """Both arms at one number of parameters per scan: a first look, without a class."""

    parameters: int
    a_per_s: float
    b_per_s: float
    """Parameters stored a second."""
    loss: float


@dataclass(frozen=True)
class QuickResult:
    """Everything a run has found; `json` is what was written."""

    settings: QuickSettings
    comparison: Comparison
    batch_sizes: list[BatchSize]
    concurrency: dict[str, Concurrency]
    verifications: dict[str, Verification]
    invalid: list[str]
    outcome: Outcome
    json: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What was not measured or not checked, and why: one line each."""

    @property
    def violations(self) -> int:
        """Of the invariants, in everything that was stored."""
        found = [*self.verifications.values(), *(check.verification for check in self.concurrency.values())]
        return sum(verification.violations for verification in found)


def quick_json(
    result: QuickResult, pairs: list[Pair], rate: float, where: dict[str, Any], started: float
) -> dict[str, Any]:
    """The content of a result file of kind quick."""
    settings, comparison = result.settings, result.comparison
    return {
        "finished_at": now_utc(),
        "took_s": round(time.time() - started, 1),
        "command": command_line(),
        "settings": {
            "parameters": settings.parameters,
            "duration_s": settings.duration_s,
            "a": settings.a,
            "b": settings.b,
            "process_running": settings.running,
            "over_modbus": settings.plc,
            "seed": settings.seed,
            "pairs": settings.pairs,
            "fixed_rate_per_s": round(rate, 3),
            "scans_per_transaction": 1,
            "tables": list(settings.clones.tables),
            "rows_copied": settings.clones.copy_rows,
            "targets": asdict(settings.targets),
        },
        "outcome": result.outcome.value,
        "invalid": result.invalid,
        "notes": result.notes,
        "judgements": [judgement.to_json() for judgement in comparison.judgements],
        "metrics": [_metric(metric) for metric in comparison.metrics],
        "success": {"a": list(comparison.success[0]), "b": list(comparison.success[1])},
        "failures": {arm: counts for arm, (counts, _) in comparison.failures.items()},
        "wal_bytes_per_transaction": {
            "a": round(comparison.wal_bytes[0], 1),
            "b": round(comparison.wal_bytes[1], 1),
        },
        "plant": plant_units(comparison),
        "parameters_per_scan": [
            {
                "parameters": size.parameters,
                "a_per_s": round(size.a_per_s, 1),
                "b_per_s": round(size.b_per_s, 1),
                "loss": round(size.loss, 4),
            }
            for size in result.batch_sizes
        ],
        "concurrency": {
            name: {
                "writers": check.writers,
                "per_second": round(check.per_second, 1),
                "transactions": check.transactions,
                "failures": check.failures,
                "deadlocks": check.deadlocks,
                "verification": check.verification.to_json(),
            }
            for name, check in result.concurrency.items()
        },
        "verification": {name: check.to_json() for name, check in result.verifications.items()},
        "environment": where,
        "slots": [slot_json(slot) for pair in pairs for slot in (pair.a, pair.b)],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "unit": metric.unit,
        "a": rounded(metric.a),
        "b": rounded(metric.b),
        "judged": metric.judged,
        "cost": metric.cost.to_json() if metric.cost else None,
    }
