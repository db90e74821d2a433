"""Where scans wait until they are stored: files that survive the logger."""
