"""Arms: what is compared, ours or yours: repositories, strategies, classes, SQL files, with settings."""
