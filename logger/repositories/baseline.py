"""The baseline repository: history, and process rows while a process runs."""

from __future__ import annotations

from typing import Any

from logger.repositories import statements
from logger.repositories.repository import Repository
from logger.scan import Batch


class BaselineRepository(Repository):
    """Leaves current values alone."""

    name = "baseline"

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        return statements.baseline(bool(batch.texts)), {}
