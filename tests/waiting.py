"""Waits for a condition with a deadline: the tests' only way to wait, in place of sleeping."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STEP_S = 0.005


def wait_for(condition: Callable[[], T], deadline_s: float = 10.0, what: str = "the condition") -> T:
    """Return the first true thing that the condition says; fail when the deadline has passed."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s in vain for {what}"
        threading.Event().wait(_STEP_S)
    return value


async def wait_for_async(
    condition: Callable[[], T], deadline_s: float = 10.0, what: str = "the condition"
) -> T:
    """The same inside an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s in vain for {what}"
        await asyncio.sleep(_STEP_S)
    return value
