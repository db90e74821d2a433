"""What every benchmark prints: one line a figure, with its bound and whether it holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

# Python looks for modules beside the program first, where `logger.py` would hide the package `logger`.
_HERE = Path(__file__).parent
sys.path[:] = [str(_HERE.parent), *(entry for entry in sys.path if entry != str(_HERE)), str(_HERE)]

_short: list[str] = []


def figure(name: str, value: float, unit: str, bound: str = "", ok: bool = True) -> None:
    """Print a figure; without a `bound` (such as ">= 2") it is only reported."""
    verdict = ("ok" if ok else "short") if bound else "reported"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    print(f"{name:<64} {number:>9} {unit:<14} {bound:<8} {verdict}", flush=True)
    if bound and not ok:
        _short.append(name)


def finish() -> NoReturn:
    """End the benchmark: exit code 1 if a figure is short of its bound."""
    sys.exit(1 if _short else 0)
