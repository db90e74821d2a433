"""Why a quick run may not be believed, and what it has not looked at: one line each."""

from __future__ import annotations

from bench.analysis.comparison import Comparison, worker_share
from bench.load.arms import Arm
from bench.load.concurrency import Concurrency
from bench.load.slots import Pair
from bench.oracle.invariants import INVARIANTS, Verification

_CLIENT_LIMITED = 0.85
"""A worker that is at work for a larger share of the time is the limit itself."""


def violations(verifications: dict[str, Verification], concurrency: dict[str, Concurrency]) -> list[str]:
    """What the oracle found wrong, one line an arm: each makes the run invalid."""
    found = [
        f"arm {name}: {verification.violations} violations of the invariants"
        for name, verification in verifications.items()
        if verification.violations
    ]
    return found + [
        f"{check.writers} concurrent writers through {name}: {check.verification.violations} violations"
        for name, check in concurrency.items()
        if check.verification.violations
    ]


def doubts(arms: tuple[Arm, Arm], pairs: list[Pair], verifications: dict[str, Verification]) -> list[str]:
    """Why the run may not be believed: disturbed slots, or a database that holds other rows than we sent."""
    reasons = [
        f"pair {index + 1} was disturbed: {'; '.join(pair.disturbed)}"
        for index, pair in enumerate(pairs)
        if pair.disturbed
    ]
    for arm in arms:
        found = verifications[arm.name].rows
        if arm.is_ours and found != arm.rows:
            reasons.append(f"arm {arm.name} stored {arm.rows:,} history rows, the database holds {found:,}")
    return reasons


def not_checked(arms: tuple[Arm, Arm], verifications: dict[str, Verification]) -> list[str]:
    """What nobody has checked of an arm that is not ours."""
    notes = []
    for arm in arms:
        if arm.is_ours:
            continue
        own = {name: c for name, c in verifications[arm.name].checks.items() if name not in INVARIANTS}
        checked = [name for name, check in own.items() if not check.not_applicable]
        notes.append(
            f"arm {arm.name}: I1 to I6 are not checked, for the oracle knows only our tables; checked was: "
            f"{', '.join(checked)}"
        )
        notes += [
            f"arm {arm.name}: {name} not checked: {check.not_applicable}"
            for name, check in own.items()
            if check.not_applicable
        ]
    return notes


def own_bloat(arms: tuple[Arm, Arm], pairs: list[Pair]) -> list[str]:
    """What an arm's own settings do to its table: measured with it, and no disturbance."""
    notes = []
    for arm in arms:
        slots = [getattr(pair, arm.name.lower()) for pair in pairs]
        ratios = [slot.hot_ratio for slot in slots if slot.hot_ratio is not None]
        if ratios and not arm.expects_hot:
            notes.append(
                f"arm {arm.name}: {sum(ratios) / len(ratios):.0%} of its updates were HOT; that and the "
                "growth of its table are taken as its settings' work, an old snapshot would not be noticed"
            )
    return notes


def client_limits(pairs: list[Pair]) -> list[str]:
    """Where the worker process, and not the server, is what the throughput shows."""
    shares = {"A": worker_share([pair.a for pair in pairs]), "B": worker_share([pair.b for pair in pairs])}
    return [
        f"arm {name}: the worker process was at work for {share:.0%} of the time at saturation: its own "
        "speed limits the throughput, the server may carry more"
        for name, share in shares.items()
        if share > _CLIENT_LIMITED
    ]


def clipped(comparison: Comparison) -> list[str]:
    """Latencies that no histogram holds, so that no tail is cut off in silence."""
    notes = []
    for name, arms in comparison.histograms.items():
        for arm, merged in zip("AB", arms, strict=True):
            if count := sum(latencies.clipped for latencies in merged.slots):
                notes.append(
                    f"arm {arm}: {count:,} values of {name} lie beyond 60 s and count as 60 s in percentiles"
                )
    return notes
