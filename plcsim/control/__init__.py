"""Talking to an emulator that runs: its state, and faults at run time."""
