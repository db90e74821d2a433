"""Many devices over several supervised processes."""
