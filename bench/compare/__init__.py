"""`plcbench compare`: two stored results beside each other."""
