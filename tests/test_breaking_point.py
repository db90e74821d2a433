"""The search for a breaking point: brackets it, does not believe one bad moment, never sticks at 0."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from bench.analysis.breaking_point import BreakingPoint, Observation, Search

BROKEN = Observation(False, "p99 above the limit", "disk")
HELD = Observation(True)


def driven(search: Search, holds: Callable[[float], bool | Observation]) -> tuple[list[float], BreakingPoint]:
    """Levels in the order in which they were tried, and the result."""
    tried: list[float] = []
    while (level := search.next()) is not None:
        assert level == search.next()  # asking twice changes nothing
        assert level > 0
        tried.append(level)
        assert len(tried) < 200
        held = holds(level)
        search.observe(level, held if isinstance(held, Observation) else HELD if held else BROKEN)
    return tried, search.result


@pytest.mark.parametrize("start", [1, 20, 100, 490, 500, 510, 800, 5000])
@pytest.mark.parametrize("limit", [500.0, 37.3, 12_345.0])
def test_a_planted_breaking_point_is_bracketed_within_twelve_percent(start: float, limit: float) -> None:
    tried, found = driven(Search(start, least=0.01), lambda level: level < limit)
    assert found.first_bad is not None
    assert found.last_good < limit <= found.first_bad
    assert found.first_bad / found.last_good <= 1.12 + 1e-9
    assert (found.confirmed_good, found.confirmed_bad) == (3, 2)
    assert (found.rule, found.cause, found.limit_reached) == ("p99 above the limit", "disk", True)
    assert tried.count(found.last_good) == 3
    assert found.probes == len(tried)


def test_levels_grow_by_the_factor_and_the_first_bad_one_is_tried_again_at_once() -> None:
    tried, _ = driven(Search(100), lambda level: level < 500)
    assert tried[:6] == pytest.approx([100, 150, 225, 337.5, 506.25, 506.25])


def test_integers_are_bracketed_to_the_next_one() -> None:
    tried, found = driven(Search(2, whole=True, tolerance=0.01), lambda level: level <= 17)
    assert (found.last_good, found.first_bad) == (17, 18)
    assert all(level == int(level) for level in tried)


@pytest.mark.parametrize("whole", [True, False])
def test_a_limit_that_is_not_reached_is_called_that(whole: bool) -> None:
    tried, found = driven(Search(84, most=5000, whole=whole), lambda level: True)
    assert max(tried) == found.last_good == 5000
    assert (found.first_bad, found.limit_reached, found.rule) == (None, False, "")
    assert "limit not reached" in str(found)


def test_nothing_that_holds_ends_at_the_lowest_level_not_at_zero() -> None:
    tried, found = driven(Search(100), lambda level: False)
    assert min(tried) == 1.0
    assert (found.last_good, found.first_bad, found.limit_reached) == (0.0, 1.0, True)
    assert found.confirmed_bad == 2


def test_one_bad_step_does_not_end_the_search_low() -> None:
    """It recovers: openmessaging's search stuck at rate 0 after one."""
    stalled: list[float] = []

    def holds(level: float) -> bool:
        if level > 150 and not stalled:
            stalled.append(level)
            return False
        return level < 500

    _, found = driven(Search(100), holds)
    assert stalled == [225.0]
    assert found.last_good < 500 <= (found.first_bad or 0)


def test_a_boundary_that_falls_is_followed_by_its_predecessor() -> None:
    """A level held once and then no more: what held before it is looked at before anything else."""
    seen: list[float] = []

    def holds(level: float) -> bool:
        seen.append(level)
        return level <= 337.5 or (level < 450 and seen.count(level) == 1)  # slow to break between them

    tried, found = driven(Search(100), holds)
    rejected = [i for i, level in enumerate(tried) if level > 337.5 and tried[: i + 1].count(level) == 3]
    assert tried[rejected[0] + 1] == max(
        level for level in tried[: rejected[0]] if level < tried[rejected[0]]
    )
    assert found.last_good >= 337.5
    assert (found.first_bad or 0) / found.last_good <= 1.12 + 1e-9


def test_a_flaky_limit_is_bracketed_all_the_same() -> None:
    wrong = 0
    for seed in range(200):
        dice = random.Random(seed)
        _, found = driven(Search(100), lambda level, dice=dice: (level < 500) is not (dice.random() < 0.05))  # type: ignore[misc]
        assert found.first_bad is not None
        wrong += not found.last_good < 500 <= found.first_bad
    assert wrong <= 10


@pytest.mark.parametrize(("generators", "reached"), [(True, False), (False, True)])
def test_a_limit_of_the_generator_is_not_the_systems(generators: bool, reached: bool) -> None:
    broken = Observation(False, "the planned rate was not reached", "this client", is_generators=generators)
    _, found = driven(Search(100), lambda level: level < 500 or broken)
    assert found.limit_reached is reached
    assert found.rule == "the planned rate was not reached"
    assert ("limit not reached" in str(found)) is not reached


def test_a_search_ends_after_the_probes_that_it_may_have() -> None:
    tried, found = driven(Search(100, most_probes=5), lambda level: level < 500)
    assert len(tried) == 5
    assert (found.last_good, found.first_bad) == (337.5, 506.25)
    assert found.to_json()["is_exhausted"] is True


def test_a_rule_that_fired_most_is_the_one_that_is_named() -> None:
    rules = iter(["backlog grows", "p99", "p99", "p99"])
    search = Search(100, confirm_bad=3)
    _, found = driven(search, lambda level: level < 110 or Observation(False, next(rules, "p99")))
    assert found.rule == "p99"


def test_an_interruption_leaves_what_is_known() -> None:
    search = Search(100)
    assert search.result == BreakingPoint(0.0, None, "", "", 0, 0, False, False, 0)
    search.observe(100, HELD)
    search.observe(150, BROKEN)
    assert (search.result.last_good, search.result.first_bad) == (100, 150)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0},
        {"start": math.inf},
        {"start": 10, "most": 5},
        {"start": 10, "factor": 1.0},
        {"start": 10, "tolerance": 0.0},
        {"start": 10, "least": 20},
        {"start": 10, "confirm_good": 0},
    ],
)
def test_a_search_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"search|end"):
        Search(**wrong)  # type: ignore[arg-type]
