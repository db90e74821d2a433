"""What goes wrong on purpose: where, when, how often, and the proof that it did."""
