"""Plays a recorded day again, through one arm or two: their own load decides, not a made one."""
