"""Part scalability: connections past the knee, on rows of their own and on the same rows; and parameters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.analysis.finding import Finding, usl_findings
from bench.analysis.scaling import UslFit, fit_usl, scaling_difference
from bench.analysis.statistics import mean_interval
from bench.arms.spec import parse_arm
from bench.report.table import Table
from bench.section import Section
from bench.stress.crowd import Crowd, crowd
from bench.stress.crowd_worker import CrowdSettings, crowd_machine
from bench.suite.context import Suite
from bench.suite.levels import GENERATOR_LIMIT, Level, measured_level
from bench.suite.plan import SuitePlan
from bench.suite.waits import Waits, watched_waits
from bench.sweep.backends import marked

NAME = "scalability"
TITLE = "connections past the knee, on rows of their own and on the same rows; parameters of a scan"

_PROCESSES = 2
"""Of each arm, to share its connections: one is held back by its interpreter before the server is."""
_SETTLE_S = 0.1
_STARTING_S = 4.0
_ROWS = ("disjoint", "same")


def planned_seconds(plan: SuitePlan) -> float:
    mine = plan.scalability
    a_level = mine.slots * (mine.slot_s + _SETTLE_S + 0.1)
    connections = len(mine.connections) * 2 * a_level + 2 * (mine.slot_s + 0.3)
    parameters = len(mine.parameters) * 2 * (mine.slots * (mine.parameters_slot_s + _SETTLE_S) + 0.3)
    return len(_ROWS) * (_STARTING_S + connections) + _STARTING_S + parameters


def run(bench: Suite, section: Section) -> None:
    """Both arms at each level, the levels in an order that the seed draws."""
    for rows in _ROWS:
        _connections(bench, section, rows)
    _parameters(bench, section)


@contextmanager
def _crowds(
    bench: Suite, section: Section, shared: bool, machines: int, name: str, processes: int
) -> Iterator[dict[str, tuple[Crowd, str]]]:
    """A crowd and its schema for each arm; verified at the end."""
    parameters = bench.plan.parameters
    configs = [crowd_machine(n, parameters, shared) for n in range(machines)]
    if name == "parameters":
        configs = [crowd_machine(0, n, shared) for n in bench.plan.scalability.parameters]
    with ExitStack() as stack:
        crowds = {}
        for letter, arm in bench.letters:
            schema = stack.enter_context(bench.schema(configs, arm, "scale"))
            mark = marked(bench.conninfo, schema)
            settings = CrowdSettings(mark, schema, arm, parameters, shared)
            crowds[letter] = stack.enter_context(crowd(settings, processes)), schema
        yield crowds
        for letter, arm in bench.letters:
            writers, schema = crowds[letter]
            rows = None if name == "parameters" else writers.stored() * parameters
            if parse_arm(arm).is_ours:
                bench.verified(section, f"{name}, {letter}", schema, rows)
            else:
                why = f"{name}, {letter}: I1 to I6, for the oracle knows only our tables"
                section.figures.setdefault("not_measured", []).append(why)


def _connections(bench: Suite, section: Section, rows: str) -> None:
    mine, shared = bench.plan.scalability, rows == "same"
    most = max(mine.connections)
    levels: dict[str, dict[int, Level]] = {letter: {} for letter, _ in bench.letters}
    with _crowds(bench, section, shared, 1 if shared else most, f"{rows} rows", _PROCESSES) as crowds:
        for letter, (writers, _) in crowds.items():
            if refused := writers.resize(most):
                note = f"{letter}: {refused} of {most} connections were refused; the levels have fewer"
                section.figures.setdefault("not_measured", []).append(note)
        bench.say(f"scalability: {rows} rows", _STARTING_S)
        order, draw = list(mine.connections), random.Random(bench.seed)
        for _ in range(mine.slots):
            draw.shuffle(order)
            for connections in order:
                for letter in draw.sample("AB", 2):
                    level = levels[letter].setdefault(connections, Level(connections))
                    measured_level(crowds[letter][0], level, _SETTLE_S, mine.slot_s)
                    bench.say(f"scalability: {rows} rows", mine.slot_s + _SETTLE_S + 0.1)
        waits = {}
        for letter, (writers, schema) in crowds.items():
            with watched_waits(bench.conninfo, application_name=schema) as seen:
                writers.run(mine.slot_s)
            waits[letter] = seen
    figures: dict[str, Any] = {
        letter: [level.to_json() for level in _sorted(found)] for letter, found in levels.items()
    }
    section.figures[f"{rows}_rows"] = figures
    figures["waits_share"] = {letter: seen.shares for letter, seen in waits.items()}
    section.tables.append(_levels_table(bench, rows, levels))
    section.tables.append(_waits_table(rows, most, waits))
    _findings(bench, section, rows, levels)
    _law(bench, section, rows, levels)


def _sorted(levels: dict[int, Level]) -> list[Level]:
    return [levels[connections] for connections in sorted(levels)]


def _levels_table(bench: Suite, rows: str, levels: dict[str, dict[int, Level]]) -> Table:
    table = Table(
        f"Connections on {rows} rows, {bench.plan.parameters} parameters a scan",
        ["connections", "A [tx/s]", "B [tx/s]", "B loses", "A, B stored", "A, B p95 service [ms]",
         "A, B generator [cores]"],
        note="So many at work, each as fast as it goes; the others are open and idle. Generator and server "
        "share this machine's cores. Where the busiest "
        f"process of the generator takes {GENERATOR_LIMIT:.0%} of a core or more, it is the limit, marked *.",
    )  # fmt: skip
    for connections in sorted(levels["A"]):
        a, b = (levels[letter][connections] for letter in "AB")
        table.rows.append(
            [
                str(connections),
                a.in_words(),
                b.in_words(),
                f"{1 - b.per_s / a.per_s:+.1%}" if a.per_s else "-",
                f"{a.success:.1%}, {b.success:.1%}",
                f"{a.p95_in_words}, {b.p95_in_words}",
                f"{a.cores:.2f}, {b.cores:.2f}",
            ]
        )
    return table


def _waits_table(rows: str, connections: int, waits: dict[str, Waits]) -> Table:
    """What the server's processes do and wait for at the highest level: the reason of the knee."""
    table = Table(f"What {connections} connections on {rows} rows wait for", ["wait event", "A", "B"])
    shares = {letter: seen.shares for letter, seen in waits.items()}
    events = dict.fromkeys(event for letter in "AB" for event in list(shares[letter])[:4])
    for event in events:
        table.rows.append([event, *(f"{shares[letter].get(event, 0.0):.0%}" for letter in "AB")])
    return table


def _findings(bench: Suite, section: Section, rows: str, levels: dict[str, dict[int, Level]]) -> None:
    for letter, arm in bench.letters:
        for level in _sorted(levels[letter]):
            if level.is_generator_limited:
                continue  # it says what our side can do, not what the server can
            value, low, high = mean_interval(level.slots_per_s)
            at = {
                "repository": arm,
                "connections": level.connections,
                "rows": rows,
                "parameters": bench.plan.parameters,
            }
            cell = f"{NAME}, {rows} rows, {level.connections} connections, {letter}"
            section.findings.append(Finding("throughput", value, low, high, "tx/s", cell, at))
    for letter, found in levels.items():
        for level in _sorted(found):
            if level.failures:
                section.figures.setdefault("failures", {})[f"{rows}, {letter}, {level.connections}"] = (
                    level.failures
                )


def _law(bench: Suite, section: Section, rows: str, levels: dict[str, dict[int, Level]]) -> None:
    """The Universal Scalability Law of both arms, and how they differ.

    Only of levels that stored something and at which the server, not our side, was the limit. Where Little's
    law does not hold, our side had a part of the connections' time: that is said.
    """
    fits: dict[str, UslFit] = {}
    ours: list[str] = []
    for place, (letter, arm) in enumerate(bench.letters):
        usable = [
            level
            for level in _sorted(levels[letter])
            if min(level.slots_per_s) > 0 and not level.is_generator_limited
        ]
        if len(usable) < 3:
            section.figures.setdefault("not_measured", []).append(
                f"the scalability law of {letter} on {rows} rows: fewer than three levels stored anything "
                "without the load generator at its limit"
            )
            continue
        if held := [level for level in usable if not level.little.holds]:
            ours += [f"{letter} {level.little.share:.0%} of {level.connections}" for level in held]
        numbers = [float(level.connections) for level in usable]
        fits[letter] = fit = fit_usl(numbers, [level.slots_per_s for level in usable], bench.seed + place)
        cell = f"{NAME}, {rows} rows, law, {letter}"
        section.findings += usl_findings(fit, cell, arm, rows, max(numbers))
    if not fits:
        return
    laws = section.figures[f"{rows}_rows"]["law"] = {letter: fit.to_json() for letter, fit in fits.items()}
    said = [f"{letter}: {'; '.join(fit.limits)}." for letter, fit in fits.items()]
    if len(fits) == 2:
        difference = scaling_difference(fits["A"], fits["B"])
        laws["difference"] = difference.to_json()
        said.append(f"B against A: {difference}.")
    if ours:
        said.append(f"By Little's law (N = X R) transactions held other than 95 to 105 %: {', '.join(ours)}.")
    section.tables.append(_law_table(rows, fits, said))


def _law_table(rows: str, fits: dict[str, UslFit], said: list[str]) -> Table:
    table = Table(
        f"Universal Scalability Law on {rows} rows",
        ["arm", "lambda [tx/s]", "sigma", "kappa", "peak [connections]"],
        note="X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)); 95 % intervals by a bootstrap of the "
        "slots. On few cores the generator takes a part of what the law calls contention. " + " ".join(said),
    )
    for letter, fit in fits.items():
        peak = _estimate(fit.peak_n, ".0f") if fit.peak_n else "not told"
        lam, sigma = _estimate(fit.lam, ",.0f"), _estimate(fit.sigma, ".3f")
        table.rows.append([letter, lam, sigma, _estimate(fit.kappa, ".2g"), peak])
    return table


def _estimate(estimate: Any, form: str) -> str:
    value, low, high = (format(x, form) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _parameters(bench: Suite, section: Section) -> None:
    mine = bench.plan.scalability
    levels: dict[str, dict[int, Level]] = {letter: {} for letter, _ in bench.letters}
    with _crowds(bench, section, False, 1, "parameters", 1) as crowds:
        bench.say("scalability: parameters", _STARTING_S)
        order, draw = list(mine.parameters), random.Random(bench.seed)
        draw.shuffle(order)
        for parameters in order:
            for writers, _ in crowds.values():
                writers.resize(1, parameters=parameters)
            for _ in range(max(2, mine.slots)):
                for letter in draw.sample("AB", 2):
                    level = levels[letter].setdefault(parameters, Level(1, parameters))
                    measured_level(crowds[letter][0], level, _SETTLE_S, mine.parameters_slot_s)
            bench.say(
                "scalability: parameters", 2 * (mine.slots * (mine.parameters_slot_s + _SETTLE_S) + 0.3)
            )
    table = Table(
        "Parameters of a scan, one connection",
        ["parameters", "A [tx/s]", "B [tx/s]", "A [values/s]", "B [values/s]", "B loses"],
        note="One scan a transaction. Exploratory: no class.",
    )
    for parameters in sorted(levels["A"]):
        a, b = (levels[letter][parameters] for letter in "AB")
        values = [f"{level.per_s * parameters:,.0f}" for level in (a, b)]
        loss = f"{1 - b.per_s / a.per_s:+.1%}" if a.per_s else "-"
        table.rows.append([f"{parameters:,}", a.in_words(), b.in_words(), *values, loss])
        for letter, arm in bench.letters:
            value, low, high = mean_interval(
                [parameters * per_s for per_s in levels[letter][parameters].slots_per_s]
            )
            at = {"repository": arm, "parameters": parameters, "scans": 1}
            cell = f"{NAME}, {parameters} parameters, {letter}"
            section.findings.append(Finding("parameters_per_s", value, low, high, "values/s", cell, at))
    section.figures["parameters"] = {
        letter: [level.to_json() for level in _sorted(found)] for letter, found in levels.items()
    }
    section.tables.append(table)
