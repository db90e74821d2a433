"""The suite's parts of measuring, each a small real run: what they say follows from what they measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_suite import run_small
from hdrh.histogram import HdrHistogram

from bench.suite import scalability
from bench.suite.run import histogram_folder


@pytest.mark.long
def test_parts_that_compare_strategies_and_statements(postgres: str, suite_path: Path) -> None:
    done, content = run_small(postgres, suite_path, "strategies", "overhead", "why")
    why, strategies, overhead = done.sections
    for section in done.sections:
        assert (section.error, section.invalid) == ("", [])
        assert section.verifications
        assert not any(one.violations for one in section.verifications.values())
    updates = strategies.figures["by_parameters"]
    assert set(updates) == {"5", "7"}
    assert "update_us" not in updates["7"]["baseline"]
    for name in ("synchronizing", "array_join", "in_case", "row_by_row", "temporary_table", "skip_unchanged"):
        one = updates["7"][name]
        assert one["update_us"] == pytest.approx(
            sum(
                b - a
                for a, b in zip(updates["7"]["baseline"]["slots_mean_us"], one["slots_mean_us"], strict=True)
            )
            / 2,
            abs=0.2,
        )
    assert strategies.figures["skip_unchanged_wrong_values"] == 0
    assert strategies.figures["skip_unchanged_i2_violations_by_design"] > 0
    advised = {finding.at["strategy"] for finding in strategies.findings}
    assert "skip_unchanged" not in advised
    assert {"in_case", "synchronizing"} <= advised
    assert len(overhead.figures["contrasts"]) == 5
    counters = why.figures["counters"]
    assert counters["A"]["rows_updated"] == 0
    assert counters["B"]["rows_updated"] == pytest.approx(7, abs=0.01)
    # a stream's row, a ledger's row and seven rows of history and of the process
    assert counters["A"]["rows_inserted"] == counters["B"]["rows_inserted"] == pytest.approx(15, abs=0.3)
    assert counters["B"]["wal_bytes"] > counters["A"]["wal_bytes"]
    split = why.figures["split"]["three tables"]
    steps = [figure["mean"] for name, figure in split.items() if name not in ("whole_us", "round trip_us")]
    assert 0 < sum(steps) <= split["whole_us"]["mean"]
    assert split["current values_us"]["mean"] > 0
    assert content["unfinished"] == ""


@pytest.mark.long
def test_impact_is_judged_only_beside_its_own_noise(postgres: str, suite_path: Path) -> None:
    done, content = run_small(postgres, suite_path, "impact")
    (section,) = done.sections
    assert section.error == ""
    assert {judgement.metric for judgement in section.judgements} >= {
        "throughput",
        "median response",
        "memory",
        "success",
    }
    assert {finding.metric for finding in section.findings} >= {
        "throughput_loss",
        "latency_increase",
        "success",
    }
    pairs, noise = section.figures["pairs"], section.figures["noise"]
    assert noise["arms"] == ["baseline", "baseline"]
    assert pairs["arms"] == ["baseline", "synchronizing"]
    for name in ("A", "B", "A/A A", "A/A B"):
        assert section.verifications[name].violations == 0
    wide = [
        metric
        for metric in noise["metrics"]
        if metric["name"] == "throughput" and not -0.1 < metric["cost"]["low"] <= metric["cost"]["high"] < 0.1
    ]
    assert bool(wide) == any(
        reason.startswith("throughput, arm A against itself") for reason in section.invalid
    )
    assert content["sections"][0]["outcome"] == section.outcome.value

    folder = histogram_folder(suite_path)
    with (folder / "impact.hlog").open(encoding="ascii") as file:
        rows = [line.rstrip().split(",") for line in file if line.startswith("Tag=B-response,")]
    count = sum(HdrHistogram.decode(row[-1]).get_total_count() for row in rows)
    assert all(float(row[2]) == 1.0 for row in rows)  # by the second
    assert count == pairs["latency"]["response"]["b"]["count"] > 10
    assert (folder / "impact-B-response.hgrm").read_text().lstrip().startswith("Value")


@pytest.mark.long
def test_scalability_fits_both_arms_on_both_kinds_of_rows(
    postgres: str, suite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scalability, "_PROCESSES", 1)
    done, _ = run_small(postgres, suite_path, "scalability")
    (section,) = done.sections
    assert (section.error, section.invalid) == ("", [])
    assert len(section.verifications) == 6
    assert not any(one.violations for one in section.verifications.values())
    for rows in ("disjoint", "same"):
        figures = section.figures[f"{rows}_rows"]
        for letter in "AB":
            assert [level["connections"] for level in figures[letter]] == [1, 2, 3]
            assert all(level["success_share"] == 1.0 for level in figures[letter])
            assert figures["law"][letter]["levels"] == [1, 2, 3]
    found = {(f.metric, f.at.get("rows")) for f in section.findings}
    assert {("usl_sigma", "same"), ("usl_peak", "disjoint"), ("parameters_per_s", None)} <= found


@pytest.mark.long
def test_baseline_logs_over_modbus_by_both_arms(postgres: str, suite_path: Path) -> None:
    done, _ = run_small(postgres, suite_path, "baseline")
    (section,) = done.sections
    assert (section.error, section.invalid) == ("", [])
    for letter in "AB":
        figures = section.figures["quick one"][letter]
        assert figures["scans_stored"] == figures["response"]["count"] > 10
        assert figures["response"]["max_ms"] >= figures["service"]["max_ms"]
        assert figures["logger_cpu_s"] > 0
        assert figures["emulator_bytes"] > 1e6
        assert figures["verification"]["violations"] == 0
    assert [judgement.metric for judgement in section.judgements] == ["success"]
