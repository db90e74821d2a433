"""Whole parts of the suite and scenarios of stress as tests, one after the other: `pytest -m slow`.

python -m long.slow_tests (with PYTHONPATH=tests)
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-m", "slow", "-q", str(Path(__file__).parent.parent)]))
