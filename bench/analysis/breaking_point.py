"""Searches the level at which something breaks: grow, bisect, confirm; a state machine without clock or load.

Whoever runs the load asks `next()` for the level to try and tells with `observe()` how it went. Levels
grow geometrically until one is bad, the bracket is bisected geometrically until it is narrow enough,
then both ends are confirmed. One bad moment is not believed: where a level has as many good as bad
observations it is tried again, a level that ends the growth is tried again at once, and where a level
falls that had been good, its predecessor is tried before anything else. Nothing sends it to 0: below
`least` it stops and says that nothing was good.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Observation:
    """How one try at a level went."""

    ok: bool
    rule: str = ""
    """The stop rule that fired, where it is not ok."""
    cause: str = ""
    """The resource at its limit, as far as it is known."""
    is_generators: bool = False
    """Whether what failed is the load generator: then nothing is known of what it loads."""


@dataclass(frozen=True)
class BreakingPoint:
    """Where it breaks, as an interval: it held at `last_good` and not at `first_bad`."""

    last_good: float
    """0: nothing that was tried held."""
    first_bad: float | None
    """None: nothing that was tried broke."""
    rule: str
    cause: str
    confirmed_good: int
    confirmed_bad: int
    """How often each end was seen to hold, and to break."""
    limit_reached: bool
    """Whether what was loaded broke: not its generator, and not only what we were willing to try."""
    is_exhausted: bool = False
    """Whether the search ended because it had tried as often as it may."""
    probes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "last_good": self.last_good,
            "first_bad": self.first_bad,
            "rule": self.rule,
            "cause": self.cause,
            "confirmed_good": self.confirmed_good,
            "confirmed_bad": self.confirmed_bad,
            "limit_reached": self.limit_reached,
            "is_exhausted": self.is_exhausted,
            "probes": self.probes,
        }

    def __str__(self) -> str:
        if self.first_bad is None:
            return f"limit not reached: {self.last_good:g} held ({self.confirmed_good} times)"
        cause = f" ({self.cause})" if self.cause else ""
        what = f"[{self.last_good:g}, {self.first_bad:g}]: {self.rule}{cause}"
        return what if self.limit_reached else f"limit not reached, {what}"


@dataclass
class _Level:
    """What was seen at one level."""

    good: int = 0
    bad: list[Observation] = field(default_factory=list)
    was_good: bool = False

    @property
    def is_good(self) -> bool:
        return self.good > len(self.bad)

    @property
    def is_bad(self) -> bool:
        return len(self.bad) > self.good


class Search:
    """One search. Levels are whatever grows: rate, connections, parameters."""

    def __init__(
        self,
        start: float,
        factor: float = 1.5,
        tolerance: float = 0.12,
        most: float = math.inf,
        *,
        least: float | None = None,
        whole: bool = False,
        confirm_good: int = 3,
        confirm_bad: int = 2,
        most_probes: int = 40,
    ) -> None:
        """`tolerance` is the width of the bracket, first_bad / last_good - 1; `whole` tries integers only.

        `least` (default: start / 100, of integers 1) is the lowest level that is tried. Raises ValueError.
        """
        if least is None:
            least = 1.0 if whole else start / 100
        if not (0 < least <= start <= most and factor > 1 and tolerance > 0 and math.isfinite(start)):
            raise ValueError(f"a search from {start:g} within [{least:g}, {most:g}] by {factor:g} is none")
        if confirm_good < 1 or confirm_bad < 1 or most_probes < 1:
            raise ValueError("each end must be seen once at least")
        self._start, self._factor, self._tolerance = start, factor, tolerance
        self._least, self._most, self._whole = least, most, whole
        self._confirm_good, self._confirm_bad, self._most_probes = confirm_good, confirm_bad, most_probes
        self._levels: dict[float, _Level] = {}
        self._probes = 0
        self._recheck: float | None = None

    def next(self) -> float | None:
        """The level to try now; None where the search has ended. Asking twice changes nothing."""
        if self._probes >= self._most_probes:
            return None
        if not self._levels:
            return self._at_most(self._start)
        for level, seen in self._levels.items():
            if not seen.is_good and not seen.is_bad:  # one says so, the other not
                return level
        if self._recheck is not None and self._levels[self._recheck].is_good:
            return self._recheck
        good, bad = self._ends()
        if bad is None:
            return self._above(good)
        if bad == max(self._levels) and len(self._levels[bad].bad) < self._confirm_bad:
            return bad  # it ended the growth: if it broke by chance, the search would end too low
        if good is None:
            return self._below(bad)
        between = self._between(good, bad)
        return between if between is not None else self._unconfirmed(good, bad)

    def observe(self, level: float, observation: Observation) -> None:
        """Take what a try at the level showed."""
        self._probes += 1
        seen = self._levels.setdefault(level, _Level())
        if level == self._recheck:
            self._recheck = None
        if observation.ok:
            seen.good += 1
        else:
            seen.bad.append(observation)
        if seen.is_bad and seen.was_good:
            self._recheck, _ = self._ends()
        if seen.is_good or seen.is_bad:
            seen.was_good = seen.is_good

    @property
    def result(self) -> BreakingPoint:
        """What is known so far; final once `next()` returns None."""
        good, bad = self._ends()
        failed: Sequence[Observation] = self._levels[bad].bad if bad is not None else ()
        generators = sum(one.is_generators for one in failed)
        exhausted = self._probes >= self._most_probes
        return BreakingPoint(
            last_good=good or 0.0,
            first_bad=bad,
            rule=_most_common([one.rule for one in failed]),
            cause=_most_common([one.cause for one in failed]),
            confirmed_good=self._levels[good].good if good is not None else 0,
            confirmed_bad=len(failed),
            limit_reached=bad is not None and 2 * generators < len(failed),
            is_exhausted=exhausted,
            probes=self._probes,
        )

    def _ends(self) -> tuple[float | None, float | None]:
        """The highest good level below the lowest bad one, and that; what held above it does not count."""
        bad = min((level for level, seen in self._levels.items() if seen.is_bad), default=None)
        below = [
            level for level, seen in self._levels.items() if seen.is_good and (bad is None or level < bad)
        ]
        return max(below, default=None), bad

    def _above(self, good: float | None) -> float | None:
        assert good is not None  # with no bad level, some are good
        if good < self._at_most(self._most):
            return self._at_most(max(good * self._factor, good + 1 if self._whole else 0))
        return good if self._levels[good].good < self._confirm_good else None

    def _below(self, bad: float) -> float | None:
        """A lower level; at the lowest, again until it is confirmed."""
        lowest = self._rounded(self._least)
        if bad > lowest:
            return max(lowest, min(self._rounded(bad / self._factor), bad - 1 if self._whole else bad))
        return bad if len(self._levels[bad].bad) < self._confirm_bad else None

    def _between(self, good: float, bad: float) -> float | None:
        """The geometric mean of the bracket; None where it is narrow enough."""
        if bad / good - 1 <= self._tolerance * (1 + 1e-9) or (self._whole and bad - good <= 1):
            return None
        middle = self._rounded(math.sqrt(good * bad))
        return min(max(middle, good + 1), bad - 1) if self._whole else middle

    def _unconfirmed(self, good: float, bad: float) -> float | None:
        if len(self._levels[bad].bad) < self._confirm_bad:
            return bad
        return good if self._levels[good].good < self._confirm_good else None

    def _rounded(self, level: float) -> float:
        return float(round(level)) if self._whole and math.isfinite(level) else level

    def _at_most(self, level: float) -> float:
        most = math.floor(self._most) if self._whole and math.isfinite(self._most) else self._most
        return min(self._rounded(level), most)


def _most_common(words: Sequence[str]) -> str:
    return Counter(words).most_common(1)[0][0] if words else ""
