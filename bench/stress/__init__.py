"""`plcbench stress`: extreme load and faults, one file a scenario."""
