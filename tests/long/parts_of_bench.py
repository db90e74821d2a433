"""Whole parts of the suite and scenarios of stress as tests, one after the other: `pytest -m long`.

python -m long.parts_of_bench (with PYTHONPATH=tests)
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-m", "long", "-q", str(Path(__file__).parent.parent)]))
