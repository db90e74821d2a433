"""What the figures say: statistics, intervals, judgements; pure."""
