"""What no single key of a device file shows to be wrong."""
