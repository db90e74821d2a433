"""How batches of scans get into the database: the baseline and the synchronizing repository."""

from logger.repositories.baseline import BaselineRepository
from logger.repositories.repository import MOST_STREAMS, Repository, peek
from logger.repositories.stream import Stream
from logger.repositories.synchronizing import SharedSynchronizingRepository, SynchronizingRepository

REPOSITORIES: dict[str, type[Repository]] = {
    repository.name: repository for repository in (BaselineRepository, SynchronizingRepository)
}

__all__ = [
    "MOST_STREAMS",
    "REPOSITORIES",
    "BaselineRepository",
    "Repository",
    "SharedSynchronizingRepository",
    "Stream",
    "SynchronizingRepository",
    "peek",
]
