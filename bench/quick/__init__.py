"""`plcbench quick` and `plcbench demo`."""
