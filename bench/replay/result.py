"""What a replay says: what each arm did with the recording, what B costs over A, and what was planned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analysis.finding import Finding
from bench.analysis.statistics import Impact, mean_interval, paired_impact
from bench.analysis.verdict import Targets, judge_cost, judge_success
from bench.measuring.latency import Latencies, Merged
from bench.replay.player import PieceResult
from bench.replay.recording import Recording
from bench.report.table import Table
from bench.section import Section

PERCENTILES = (50.0, 95.0, 99.0)


@dataclass(frozen=True)
class Played:
    """A piece that an arm played, and what the server counted meanwhile."""

    arm: str
    """A or B."""
    piece: int
    result: PieceResult
    wal_bytes: int
    updates: int
    """Of component_parameters."""
    hot_updates: int
    had_checkpoint: bool
    had_vacuum: bool


def fill(
    section: Section,
    recording: Recording,
    arms: Sequence[str],
    speed: float | None,
    targets: Targets,
    seed: int,
    played: Sequence[Played],
) -> None:
    """Put what was played so far into the section, in place of what was there before."""
    by_arm = {letter: [one for one in played if one.arm == letter] for letter in "AB"[: len(arms)]}
    figures = {letter: _figures(pieces, recording, speed) for letter, pieces in by_arm.items() if pieces}
    section.figures = {
        "recording": {
            "source": recording.source,
            "scans": recording.scans,
            "parameters": recording.parameters,
            "seconds": round(recording.seconds, 3),
            "left_out": recording.left_out,
        },
        "speed": speed,
        "arms": dict(zip("AB", arms, strict=False)),
        "played": figures,
        "pieces_with_checkpoint": sum(one.had_checkpoint for one in played),
        "pieces_with_vacuum": sum(one.had_vacuum for one in played),
        "pieces": [_piece_json(one) for one in played],
        "not_measured": _not_measured(recording, speed),
    }
    cell = f"{section.name} {f'at {speed:g} times its speed' if speed else 'as fast as it goes'}"
    section.findings = [
        _throughput(letter, arms, pieces, recording, cell) for letter, pieces in by_arm.items() if pieces
    ]
    success = [(_stored(pieces), _tried(pieces)) for pieces in by_arm.values() if pieces]
    section.judgements = [judge_success(success, targets.success)]
    cost = _cost(by_arm, speed)
    if cost is not None:
        what, target = ("median response", targets.latency_increase) if speed else (
            "throughput", targets.throughput_loss
        )  # fmt: skip
        floor = targets.latency_floor_ms if speed else 0.0
        a = figures["A"]["response_ms"]["p50"] if speed else math.nan
        judgement = judge_cost(what, cost, target, math.nan if a is None else a, floor)
        section.judgements.insert(0, judgement)
        metric = "latency_increase" if speed else "throughput_loss"
        section.findings.append(
            Finding(metric, cost.effect, cost.low, cost.high, "share", cell, {}, judgement.outcome)
        )
    section.tables = [_table(figures, arms, speed, cost)]


def _cost(by_arm: dict[str, list[Played]], speed: float | None) -> Impact | None:
    """What B costs, from the pieces that both have played; None with one arm, or one piece."""
    if len(by_arm) < 2:
        return None
    both = sorted({one.piece for one in by_arm["A"]} & {one.piece for one in by_arm["B"]})
    if len(both) < 2:
        return None
    a, b = ([_of_piece(one.result, speed) for one in by_arm[letter] if one.piece in both] for letter in "AB")
    impact = paired_impact(a, b)
    return impact if speed else impact.negated()


def _of_piece(result: PieceResult, speed: float | None) -> float:
    """The figure of a piece that is compared: its median response, or its scans a second."""
    if not speed:
        return result.loop.per_second
    merged = Merged([result.loop.response])
    return float(merged.weighted_percentiles_us(50, np.ones((1, 1)))[0]) / 1000 if merged.count else math.nan


def _figures(pieces: Sequence[Played], recording: Recording, speed: float | None) -> dict[str, Any]:
    loops = [one.result.loop for one in pieces]
    stored, seconds = _stored(pieces), sum(loop.seconds for loop in loops)
    recorded_s = recording.seconds * sum(loop.tried for loop in loops) / recording.scans
    updates = sum(one.updates for one in pieces)
    last = pieces[-1].result
    return {
        "scans_stored": stored,
        "scans_skipped": sum(loop.skipped for loop in loops),
        "failures": _added([loop.failures for loop in loops]),
        "reasons": _added([loop.reasons for loop in loops]),
        "seconds": round(seconds, 3),
        "scans_per_s": round(stored / seconds, 3),
        "values_per_s": round(stored * recording.parameters / seconds, 1),
        "times_real_time": round(recorded_s / seconds, 3),
        "response_ms": _percentiles([loop.response for loop in loops]) if speed else None,
        "service_ms": _percentiles([loop.service for loop in loops]),
        "wait_ms": _percentiles([loop.wait for loop in loops]) if speed else None,
        "wal_bytes_per_scan": round(sum(one.wal_bytes for one in pieces) / max(1, stored), 1),
        "hot_share": round(sum(one.hot_updates for one in pieces) / updates, 4) if updates else None,
        "cpu_us_per_scan": round(1e6 * sum(one.result.cpu_s for one in pieces) / max(1, stored), 1),
        "worker_bytes": last.worker_bytes,
        "backend_bytes": last.backend_bytes,
    }


def _percentiles(latencies: Sequence[Latencies]) -> dict[str, float | None]:
    merged = Merged(latencies)
    found = {f"p{percent:g}": merged.percentile_us(percent) / 1000 for percent in PERCENTILES}
    found |= {"mean": merged.mean_us / 1000, "max": merged.max_us / 1000}
    return {name: None if math.isnan(value) else round(value, 4) for name, value in found.items()}


def _throughput(
    letter: str, arms: Sequence[str], pieces: Sequence[Played], recording: Recording, cell: str
) -> Finding:
    """Goodput; paced it is what the clock asked for, as long as the arm keeps up."""
    mean, low, high = mean_interval([one.result.loop.per_second for one in pieces])
    at = {"repository": arms["AB".index(letter)], "connections": 1, "parameters": recording.parameters}
    return Finding("throughput", mean, low, high, "scans/s", cell, at)


def _table(
    figures: dict[str, dict[str, Any]], arms: Sequence[str], speed: float | None, cost: Impact | None
) -> Table:
    rows: list[Sequence[str]] = []

    def row(name: str, *keys: str, scale: float = 1.0) -> None:
        cells = []
        for one in figures.values():
            value: Any = one
            for key in keys:
                value = None if value is None else value[key]
            cells.append("n/a" if value is None else _shown(value * scale))
        rows.append([name, *cells])

    row("scans stored", "scans_stored")
    row("scans a second", "scans_per_s")
    row("times as fast as it happened", "times_real_time")
    for kind in ("response_ms", "wait_ms") if speed else ("service_ms",):
        for name in ("p50", "p95", "p99", "max"):
            row(f"{kind.removesuffix('_ms')} {name} [ms]", kind, name)
    row("WAL a scan [kB]", "wal_bytes_per_scan", scale=1e-3)
    row("HOT share of updates", "hot_share")
    row("CPU of the client a scan [us]", "cpu_us_per_scan")
    row("memory of the client [MB]", "worker_bytes", scale=1e-6)
    row("memory of the backend [MB]", "backend_bytes", scale=1e-6)
    for letter, one in figures.items():
        lost = {**one["failures"], **({"skipped": one["scans_skipped"]} if one["scans_skipped"] else {})}
        rows += [[f"{letter} lost: {name}", *(str(count) if x == letter else "" for x in figures)]
                 for name, count in lost.items()]  # fmt: skip
    said = "" if cost is None else "the difference is judged by pieces that both arms played, in pairs; "
    return Table(
        "The recording through each arm",
        ["figure", *(f"{letter} {arm}" for letter, arm in zip("AB", arms, strict=False))][: len(figures) + 1],
        rows,
        f"{said}one scan a transaction; service time hides what waits for a slow one"
        if not speed
        else f"{said}one scan a transaction; response counts from the recorded time on the replay's clock",
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _piece_json(one: Played) -> dict[str, Any]:
    loop = one.result.loop
    return {
        "arm": one.arm,
        "piece": one.piece,
        "seconds": round(loop.seconds, 4),
        "stored": loop.transactions,
        "skipped": loop.skipped,
        "failures": loop.failures,
        "response": loop.response.to_json() if loop.response.count else None,
        "service": loop.service.to_json(),
        "wal_bytes": one.wal_bytes,
        "disturbed": [what for what, is_so in (("checkpoint", one.had_checkpoint), ("vacuum", one.had_vacuum))
                      if is_so],
    }  # fmt: skip


def _not_measured(recording: Recording, speed: float | None) -> list[str]:
    found = []
    if recording.left_out:
        found.append(
            f"{recording.left_out:,} scans of the recording: not whole, or not later than one before"
        )
    if not recording.config.process:
        found.append("rows of processes: the recording does not show when one ran (--process-column)")
    if not speed:
        found.append(
            "response from a schedule: as fast as it goes, a slow scan delays those behind it unseen"
        )
    return found


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {
        name: sum(one.get(name, 0) for one in counts) for name in sorted({n for one in counts for n in one})
    }


def _stored(pieces: Sequence[Played]) -> int:
    return sum(one.result.loop.transactions for one in pieces)


def _tried(pieces: Sequence[Played]) -> int:
    return sum(one.result.loop.tried for one in pieces)
