"""A suite as short as it goes, run on the tests' server; fixture `suite_path` says where its result goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import wait_for

from bench.suite.plan import SuitePlan, load_suite
from bench.suite.run import SuiteRun, SuiteSettings, run_suite
from logger.database import connect

CONFIG = Path(__file__).parent.parent / "configs" / "bench" / "suite.yaml"

SMALL: dict[str, Any] = {
    "parameters": 7,
    "baseline": {
        "cases": [{"name": "quick one", "parameters": 7, "interval_s": 0.05}],
        "machines": 1,
        "seconds": 1.0,
    },
    "impact": {
        "pairs": 2,
        "slot_s": 0.2,
        "noise_pairs": 2,
        "modbus_pairs": 0,
        "modbus_s": 1.0,
        "modbus_interval_s": 0.05,
    },
    "why": {"transactions": 40},
    "strategies": {"parameters": [5, 7], "slot_s": 0.03, "slots": 2},
    "overhead": {"pairs": 2, "slot_s": 0.05},
    "scalability": {
        "connections": [1, 2, 3],
        "slot_s": 0.15,
        "slots": 1,
        "parameters": [5, 9],
        "parameters_slot_s": 0.1,
    },
}


def small_plan() -> SuitePlan:
    """The parts of this file, as short as they go; the others as they are in the short plan."""
    return SuitePlan.model_validate({**load_suite(CONFIG, short=True).model_dump(), **SMALL})


def schemas_left(postgres: str) -> list[str]:
    with connect(postgres) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%'")
        return [name for (name,) in rows]


def spawned() -> list[str]:
    return [
        line
        for child in psutil.Process().children(recursive=True)
        if "spawn_main" in (line := " ".join(child.cmdline()))
    ]


@pytest.fixture
def suite_path(tmp_path: Path) -> Path:
    return tmp_path / "suite.json"


def run_small(postgres: str, path: Path, *only: str, **more: Any) -> tuple[SuiteRun, dict[str, Any]]:
    """Run parts; everything that they made must be gone."""
    told: list[str] = []
    settings = SuiteSettings(small_plan(), url=postgres, only=only, **more)
    done = run_suite(
        settings,
        path,
        lambda section: told.append(json.loads(path.read_text())["sections"][-1]["name"]),
        lambda what, seconds: None,
    )
    assert told == [section.name for section in done.sections]  # on disk before anybody was told
    assert schemas_left(postgres) == []
    wait_for(lambda: not spawned())
    return done, json.loads(path.read_text())
