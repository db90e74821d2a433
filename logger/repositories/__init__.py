"""How a batch of scans gets into the database: the baseline and the synchronizing repository."""

from logger.repositories.baseline import BaselineRepository
from logger.repositories.repository import Repository
from logger.repositories.synchronizing import SynchronizingRepository

REPOSITORIES: dict[str, type[Repository]] = {
    repository.name: repository for repository in (BaselineRepository, SynchronizingRepository)
}

__all__ = ["REPOSITORIES", "BaselineRepository", "Repository", "SynchronizingRepository"]
