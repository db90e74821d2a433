"""What loads a database: machines, their scans, workers, slots."""
