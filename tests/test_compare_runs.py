"""`plcbench compare`: planted changes of two results are found, and what may not be said is not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_results import environment, quick_content, run_content, stored, verification

from bench.analysis.compare import Change, Measure, compare_measures
from bench.analysis.finding import Finding
from bench.analysis.fingerprint import comparability_key, differences, doubts
from bench.analysis.statistics import Impact, mean_interval
from bench.analysis.verdict import Outcome, judge_cost, judge_zero
from bench.cli import main
from bench.compare.run import Compared, compare_results
from bench.compare.stored import Stored, load_stored
from bench.report.compare_text import compared_lines
from bench.section import Section
from plcsim.errors import InputError

BETTER, WORSE, NONE, UNKNOWN, NOT_COMPARABLE = Change
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plcbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["plcbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def quick(**planted: Any) -> Stored:
    return Stored(Path("quick.json"), "quick", {"kind": "quick", **quick_content(**planted)})


def suite(*sections: Section, **where: Any) -> Stored:
    return Stored(Path("suite.json"), "suite", run_content(list(sections), environment(**where)))


def changes(compared: Compared) -> dict[str, Change]:
    return {line.before.name: line.change for line in compared.lines}


def measure(value: float, low: float, high: float, more: bool = True, share: bool = False) -> Measure:
    return Measure("figure", "tx/s", value, low, high, more, is_share=share)


# -- one figure ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "more", "change"),
    [
        ((1200, 1180, 1220), True, BETTER),
        ((1200, 1180, 1220), False, WORSE),
        ((800, 780, 820), True, WORSE),
        ((800, 780, 820), False, BETTER),
        ((1010, 1000, 1020), True, NONE),  # leaves 0 out, and is less than the margin
        ((1010, 900, 1130), True, UNKNOWN),
        ((math.nan, 900, 1130), True, UNKNOWN),
        ((1010, math.nan, math.nan), True, UNKNOWN),
    ],
)
def test_direction_and_margin_decide(after: tuple[float, float, float], more: bool, change: Change) -> None:
    line = compare_measures(measure(1000, 990, 1010, more), measure(*after, more))
    assert line.change is change
    assert bool(line.why) is math.isnan(line.low)


def test_the_interval_of_a_ratio_worked_by_hand() -> None:
    # ln 2 ± hypot(ln 1.1, ln 1.2) = 0.693147 ± 0.205731 for equal shares on both sides
    line = compare_measures(measure(100, 100 / 1.1, 110), measure(200, 200 / 1.2, 240))
    half = math.hypot(math.log(1.1), math.log(1.2))
    assert half == pytest.approx(0.205731, abs=1e-6)
    assert line.effect == pytest.approx(1.0)
    assert (line.low, line.high) == (
        pytest.approx(2 * math.exp(-half) - 1), pytest.approx(2 * math.exp(half) - 1),
    )  # fmt: skip


def test_the_interval_of_a_difference_takes_each_side_from_the_right_ends() -> None:
    line = compare_measures(measure(0.1, 0.07, 0.11, share=True), measure(0.2, 0.16, 0.24, share=True))
    assert line.effect == pytest.approx(0.1)
    assert line.low == pytest.approx(0.1 - math.hypot(0.04, 0.01))
    assert line.high == pytest.approx(0.1 + math.hypot(0.04, 0.03))


def test_the_interval_holds_the_true_change_19_times_of_20() -> None:
    random = np.random.default_rng(5)
    holding = 0
    for _ in range(1000):
        one, other = (
            measure(*map(math.exp, mean_interval(list(random.normal(mean, 0.1, 10)))))
            for mean in (math.log(1000), math.log(1100))
        )
        line = compare_measures(one, other)
        holding += line.low <= 0.1 <= line.high
    assert 935 <= holding <= 970


# -- whole runs ------------------------------------------------------------------------------------


def test_equal_runs_do_not_differ() -> None:
    compared = compare_results(quick(seed=1), quick(seed=2))
    assert compared.outcome is Outcome.PASS
    assert set(changes(compared).values()) == {NONE}
    assert len(compared.lines) > 10
    assert compared.only_in == ([], [])


def test_a_planted_change_is_found_and_is_worse() -> None:
    before, after = quick(seed=1, loss=0.1, spread=0.01), quick(seed=2, loss=0.25, spread=0.01)
    compared = compare_results(before, after)
    found = changes(compared)
    assert (found["throughput loss"], found["throughput of B"]) == (WORSE, WORSE)
    assert (found["throughput of A"], found["memory of B"]) == (NONE, NONE)
    assert compared.outcome is Outcome.FAIL
    back = compare_results(after, before)
    assert changes(back)["throughput loss"] is BETTER
    assert back.outcome is Outcome.PASS


def test_noise_cannot_be_told_from_a_change() -> None:
    compared = compare_results(
        quick(seed=1, loss=0.1, spread=0.3, count=4), quick(seed=2, loss=0.2, spread=0.3, count=4)
    )
    assert changes(compared)["throughput loss"] is UNKNOWN
    assert compared.outcome is Outcome.INCONCLUSIVE


def test_an_arm_that_did_not_change_shows_that_the_machine_did() -> None:
    """The whole machine is 30 % slower: no figure of one arm may be called worse; the impact may be told."""
    compared = compare_results(quick(seed=1), quick(seed=2, a_per_s=700.0))
    found = changes(compared)
    assert (found["throughput of A"], found["throughput of B"]) == (UNKNOWN, UNKNOWN)
    assert found["throughput loss"] is NONE
    (doubt,) = compared.doubts
    assert re.match(r"the same code in arm A \(baseline\) differs by -(29|30|31)\.", doubt)
    other = quick(seed=2, a_per_s=700.0, where=environment(commit="another"))
    assert changes(compare_results(quick(seed=1), other))["throughput of A"] is WORSE


def test_response_times_of_other_rates_are_not_compared() -> None:
    found = changes(compare_results(quick(seed=1), quick(seed=2, rate_per_s=500.0)))
    assert found["median response of A"] is NOT_COMPARABLE
    older = quick(seed=2)
    del older.content["settings"]["fixed_rate_per_s"]
    (line,) = (
        line
        for line in compare_results(quick(seed=1), older).lines
        if line.before.name == "median response of A"
    )
    assert (line.change, line.why) == (NOT_COMPARABLE, "the rate of one of them was not recorded")
    assert found["latency increase (median response)"] is NONE


def test_nothing_is_said_of_an_invalid_run() -> None:
    compared = compare_results(quick(seed=1), quick(seed=2, invalid=("a checkpoint ran",)))
    assert compared.outcome is Outcome.INVALID
    assert set(changes(compared).values()) == {UNKNOWN}
    assert compared.invalid == ["B is INVALID: a checkpoint ran"]


# -- what may be compared --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"cpu": "Xeon"}, "cpu"),
        ({"cores": 8}, "cores"),
        ({"host": {"file_system": "ext4", "clock": "tsc", "cores_for_us": 1}}, "cores_for_us"),
        ({"memory_bytes": 8 << 30}, "memory_gb"),
        ({"platform": "Linux-5.10.1-x86_64"}, "system"),
        ({"python": "3.12.1"}, "python"),
        ({"host": {"file_system": "xfs", "clock": "tsc"}}, "file_system"),
        ({"postgresql": {"version": "17.2", "settings": {}}}, "postgresql.version"),
        ({"postgresql": {"version": "18.4", "settings": {"fsync": "off"}}}, "postgresql.fsync"),
    ],
)
def test_other_machines_and_servers_are_refused(change: dict[str, Any], name: str) -> None:
    here, there = quick(seed=1), quick(seed=2, where=environment(**change))
    assert comparability_key(here.environment) != comparability_key(there.environment)
    with pytest.raises(InputError, match=f"not comparable: .*{name}: .* and ") as error:
        compare_results(here, there)
    assert "--accept" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "abc"},
        {"packages": {"psycopg": "3.4.0", "numpy": "2.4.6"}},
        {"platform": "Linux-6.18.99-fc-v1-x86_64"},
        {"python": "3.11.9"},
        {"postgresql": {"version": "18.5", "settings": {"fsync": "on", "synchronous_commit": "on"}}},
    ],
)
def test_what_may_be_the_change_is_told_and_not_refused(change: dict[str, Any]) -> None:
    here, there = environment(), environment(**change)
    assert comparability_key(here) == comparability_key(there)
    assert [difference.forbids for difference in differences(here, there)] == [False]
    compared = compare_results(quick(seed=1), quick(seed=2, where=there))
    assert len(compared.changed) == 1


def test_what_an_older_result_did_not_record_forbids_nothing() -> None:
    older = environment()
    del older["host"]
    found = differences(older, environment())
    assert {d.name for d in found} == {"file_system", "clock", "cores_for_us"}
    assert not any(d.forbids for d in found)


def test_a_setting_that_one_server_left_as_it_is_forbids_too() -> None:
    settings = {"fsync": "on", "synchronous_commit": "on", "commit_delay": "1000"}
    there = environment(postgresql={"version": "18.4", "settings": settings})
    (found,) = differences(environment(), there)
    assert (str(found), found.forbids) == ("postgresql.commit_delay: the default and 1000", True)
    with pytest.raises(InputError, match=r"not comparable: postgresql\.commit_delay: 1000 and the default"):
        compare_results(quick(seed=1, where=there), quick(seed=2))


def test_settings_that_no_figure_depends_on_do_not_matter() -> None:
    settings = {"fsync": "on", "synchronous_commit": "on", "log_timezone": "Europe/Berlin"}
    settings |= {"listen_addresses": "", "unix_socket_directories": "/tmp/pg"}  # older results have these
    there = environment(postgresql={"version": "18.4", "settings": settings})
    assert differences(environment(), there) == []


@pytest.mark.parametrize("settings", [{"parameters": 200}, {"plc": True}, {"running": False}])
def test_another_scan_is_another_question(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not comparable: settings"):
        compare_results(quick(seed=1), quick(seed=2, **settings))
    compared = compare_results(quick(seed=1), quick(seed=2, **settings), accept=["all"])
    assert set(changes(compared).values()) == {NOT_COMPARABLE}
    assert compared.outcome is Outcome.INCONCLUSIVE


def test_the_difference_that_is_the_question_is_accepted_and_marked() -> None:
    there = environment(
        postgresql={"version": "18.4", "settings": {"fsync": "on", "synchronous_commit": "off"}}
    )
    here, other = quick(seed=1), quick(seed=2, a_per_s=1300.0, where=there)
    compared = compare_results(here, other, accept=["postgresql.synchronous_commit"])
    assert [str(each) for each in compared.accepted] == ["postgresql.synchronous_commit: on and off"]
    assert changes(compare_results(here, other, accept=["all"]))["throughput of B"] is NOT_COMPARABLE
    with pytest.raises(InputError, match="--accept cpu: that does not differ"):
        compare_results(here, other, accept=["postgresql.synchronous_commit", "cpu"])


def test_chance_leaves_doubts() -> None:
    slow = environment(fsync_us={"p50": 900.0, "p99": 2000.0}, load_average=[5.0, 1.0, 1.0])
    assert doubts(environment(), slow) == [
        "a small durable write took 174.5 µs in A and 900 µs in B (median)",
        "the machine was busy before B began: load 5 on 2 cores",
    ]
    assert doubts(environment(), environment()) == []


def test_kinds_must_be_equal() -> None:
    with pytest.raises(InputError, match=r"quick\.json is a quick and suite\.json a suite"):
        compare_results(quick(), suite())


# -- suite, stress, sweep --------------------------------------------------------------------------


def section(loss: tuple[float, float], per_s: float, deadlocks: int = 0) -> Section:
    cost = Impact(sum(loss) / 2, *loss, 16, 0.05, is_loss=True)
    at = {"repository": "baseline", "connections": 8, "rows": "disjoint"}
    return Section(
        "impact",
        findings=[Finding("throughput", per_s, per_s * 0.99, per_s * 1.01, "tx/s", "impact/8", at)],
        judgements=[judge_cost("throughput", cost, 0.2), judge_zero("deadlocks", deadlocks, 500)],
        verifications={"B": verification()},
    )


def test_judgements_of_a_suite_decide_and_findings_explore() -> None:
    compared = compare_results(
        suite(section((0.09, 0.11), 3000)), suite(section((0.19, 0.21), 2000, deadlocks=4))
    )
    assert changes(compared) == {
        "impact: throughput loss": WORSE,
        "impact: deadlocks": WORSE,
        "impact: throughput (connections 8, repository baseline, rows disjoint)": WORSE,
    }
    headline = {line.before.name: line.before.is_headline for line in compared.lines}
    assert list(headline.values()) == [True, True, False]
    assert compared.outcome is Outcome.FAIL


def test_a_section_that_cannot_be_believed_is_left_out() -> None:
    bad = section((0.3, 0.4), 1000)
    bad.invalid.append("the oracle")
    compared = compare_results(suite(section((0.09, 0.11), 3000)), suite(bad))
    assert compared.lines == []
    assert compared.doubts == ["impact of B cannot be believed and was left out"]
    assert compared.outcome is Outcome.INCONCLUSIVE


def planned(parameters: int, seconds: float) -> Stored:
    plan = {"parameters": parameters, "impact": {"share_of_capacity": 0.65, "slot_s": seconds}, "seed": 3}
    content = run_content([section((0.09, 0.11), 3000)], plan=plan)
    return Stored(Path("suite.json"), "suite", content)


def test_plans_of_another_size_are_another_question_and_of_another_length_are_not() -> None:
    with pytest.raises(InputError, match=r"not comparable: settings\.plan\.parameters: 84 and 200"):
        compare_results(planned(84, 1.0), planned(200, 1.0))
    longer = compare_results(planned(84, 1.0), planned(84, 5.0))
    assert [str(each) for each in longer.changed] == ["plan (impact.slot_s): one and another"]
    assert longer.outcome is Outcome.PASS


def replayed(scans: int, source: str) -> Stored:
    part = section((0.09, 0.11), 3000)
    part.figures["recording"] = {"source": source, "scans": scans}
    return Stored(Path("replay.json"), "replay", run_content([part]))


def test_replays_of_another_recording_are_another_question() -> None:
    assert compare_results(replayed(1500, "a.csv"), replayed(1500, "b.csv")).outcome is Outcome.PASS
    with pytest.raises(InputError, match=r"not comparable: settings\.recording: .*1500.* and .*900"):
        compare_results(replayed(1500, "a.csv"), replayed(900, "a.csv"))


def sweep(values_per_s: list[float], response_us: float) -> Stored:
    cells = [
        {
            "trial": f"cell {n}",
            "error": "",
            "result": {
                "values_per_s": value,
                "loggers": [{"response": {"count": 100, "mean_us": response_us * (1 + 0.01 * n)}}],
            },
        }
        for n, value in enumerate(values_per_s)
    ]
    cells.append({"trial": "failed", "error": "no disk", "result": None})
    return Stored(Path("sweep.json"), "sweep", {"environment": environment(), "settings": {}, "cells": cells})


def test_cells_of_two_sweeps_are_paired() -> None:
    compared = compare_results(sweep([100, 1000, 5000], 2000.0), sweep([100, 1010, 4990], 2600.0))
    assert changes(compared) == {"values stored over 3 cells": NONE, "mean response over 3 cells": WORSE}
    (_, response) = compared.lines
    assert response.effect == pytest.approx(0.3, abs=1e-6)


def test_cells_of_which_the_oracle_found_wrong_data_count_for_nothing() -> None:
    before, after = sweep([100, 1000, 5000], 2000.0), sweep([100, 1000, 9000], 2000.0)
    after.content["cells"][2]["result"]["verification"] = {"violations": 3}
    assert set(changes(compare_results(before, after))) == {
        "values stored over 2 cells",
        "mean response over 2 cells",
    }


@pytest.mark.parametrize("wrong", ["invalid", "error", "missing"])
def test_what_only_a_was_judged_by_cannot_be_told(wrong: str) -> None:
    """The other sections are equal; of this one B says nothing that may be believed."""
    good, races = section((0.09, 0.11), 3000), Section("races", judgements=[judge_zero("torn", 0, 500)])
    assert compare_results(suite(good, races), suite(good, races)).outcome is Outcome.PASS
    after = [good]
    if wrong != "missing":
        invalid = ["3 violations"] if wrong == "invalid" else []
        error = "the server is gone" if wrong == "error" else ""
        after.append(Section("races", judgements=[judge_zero("torn", 0, 1)], invalid=invalid, error=error))
    compared = compare_results(suite(good, races), suite(*after))
    assert (compared.outcome, compared.untold) == (Outcome.INCONCLUSIVE, ["races"])
    assert any(line.startswith("nobody can tell: races was not") for line in compared_lines(compared))
    assert compare_results(suite(*after), suite(*after)).outcome is (
        Outcome.PASS if wrong == "missing" else Outcome.INCONCLUSIVE
    )
    more_in_b = compare_results(suite(*after), suite(good, races))
    assert more_in_b.outcome is (Outcome.PASS if wrong == "missing" else Outcome.INCONCLUSIVE)


def test_what_came_out_is_no_part_of_a_figures_name() -> None:
    def stress(confirmed: int, detectable: float) -> Stored:
        at = {"repository": "baseline"}
        part = section((0.09, 0.11), 3000)
        part.findings = [
            Finding("limit", 500, 490, 510, "/s", "rate", at | {"resource": "rate", "confirmed": confirmed}),
            Finding("memory_growth_mb_per_h", 0.0, -0.01, 0.01, "MB/h", "x", at | {"detectable": detectable}),
        ]
        return suite(part)

    compared = compare_results(stress(3, 1.25), stress(2, 1.5))
    assert compared.only_in == ([], [])
    assert len(compared.lines) == 4


# -- files and the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "x.json:1: is not JSON"),
        ("[1]", "x.json: format: None: must be 'plcbench-result'"),
        ('{"format": "plcbench-result", "version": 9}', "x.json: version: 9: this plcbench reads 1"),
        (
            '{"format": "plcbench-result", "version": 1, "kind": "song"}',
            "x.json: kind: 'song': must be one of quick",
        ),
        ("[" * 100_000, "x.json"),
        ("\udcff", "x.json: is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_result_is_told_in_one_line(plcbench: Run, text: str, said: str) -> None:
    Path("x.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    for command in (["compare", "x.json", "x.json"], ["report", "x.json"]):
        code, out, err = plcbench(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


@pytest.mark.parametrize("kind", ["quick", "suite", "stress", "sweep", "replay"])
@pytest.mark.parametrize(
    "content",
    [
        {"sections": [{"name": 1}], "cells": [3]},
        {"sections": 5, "cells": {"a": 1}},
        {"settings": [], "slots": None, "judgements": [7], "sections": [None]},
    ],
)
def test_a_result_that_is_not_whole_is_told_in_one_line(
    plcbench: Run, tmp_path: Path, kind: str, content: dict[str, Any]
) -> None:
    broken = stored(tmp_path, "broken.json", kind, content)
    for command in (["compare", broken, broken], ["report", broken]):
        code, out, err = plcbench(*command)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"plcbench: {broken}: ")
        assert f"is not a whole result of plcbench {kind}: " in err or "the file is damaged" in err


def test_the_one_of_two_that_is_not_whole_is_named(plcbench: Run, tmp_path: Path) -> None:
    good = stored(tmp_path, "good.json", "quick", quick_content())
    content = quick_content()
    del content["slots"][0]["saturated"]
    broken = stored(tmp_path, "broken.json", "quick", content)
    for pair in ((good, broken), (broken, good)):
        code, _, err = plcbench("compare", *pair)
        assert (code, err) == (
            2,
            f"plcbench: {broken}: is not a whole result of plcbench quick: 'saturated' is missing\n",
        )


def test_a_replay_that_was_stopped_is_invalid_and_says_why(plcbench: Run, tmp_path: Path) -> None:
    part = section((0.09, 0.11), 3000)
    whole = stored(tmp_path, "a.json", "replay", run_content([part]))
    part.error = "it was stopped"
    stopped = stored(tmp_path, "b.json", "replay", run_content([part]))
    code, out, _ = plcbench("compare", whole, stopped)
    assert code == 5
    assert "B is INVALID: it was stopped" in out
    assert plcbench("compare", whole, whole)[0] == 0


def test_a_run_that_did_not_end_is_said_to_be_one(plcbench: Run, tmp_path: Path) -> None:
    parts = [section((0.09, 0.11), 3000)]
    whole = stored(tmp_path, "a.json", "suite", run_content(parts))
    stopped = stored(tmp_path, "b.json", "suite", run_content(parts, unfinished="it was stopped in part 3"))
    assert "doubt: B did not end: it was stopped in part 3" in plcbench("compare", whole, stopped)[1]
    assert "did not end" not in plcbench("compare", whole, whole)[1]


def test_the_command_says_what_changed(plcbench: Run, tmp_path: Path) -> None:
    a = stored(tmp_path, "a.json", "quick", quick_content(seed=1, loss=0.1))
    b = stored(tmp_path, "b.json", "quick", quick_content(seed=2, loss=0.25))
    code, out, err = plcbench("compare", a, b)
    assert (code, err) == (3, "")
    assert out.startswith("FAIL: a headline figure of B is worse")
    assert "throughput loss [%]" in out
    assert re.search(r"of \d+ lines that can be told about \d+ would differ by chance", " ".join(out.split()))
    code, out, _ = plcbench("compare", a, b, "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["kind"]) == (3, "FAIL", "quick")
    assert told["lines"][0]["change"] == "worse"
    assert plcbench("compare", a, a)[0] == 0


def test_the_command_refuses_other_machines(plcbench: Run, tmp_path: Path) -> None:
    a = stored(tmp_path, "a.json", "quick", quick_content())
    b = stored(tmp_path, "b.json", "quick", quick_content(where=environment(cores=64)))
    code, out, err = plcbench("compare", a, b)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "not comparable: cores: 2 and 64 (--accept cores if that is the question)" in err
    assert plcbench("compare", a, b, "--accept", "cores")[0] == 0


def test_a_missing_file_is_told(plcbench: Run) -> None:
    code, _, err = plcbench("compare", "a.json", "b.json")
    assert (code, err) == (2, "plcbench: a.json: cannot be read: No such file or directory\n")


def test_results_are_read_with_their_kind(tmp_path: Path) -> None:
    path = stored(tmp_path, "s.json", "suite", run_content([section((0.09, 0.11), 3000)]))
    assert load_stored(path).kind == "suite"
    assert load_stored(path).settings["short"] is True
