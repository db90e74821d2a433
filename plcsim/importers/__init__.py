"""Import register maps that people already have into device files of ours.

modpoll.py and sunspec.py read a foreign format into a `Draft`; device_yaml.py writes a draft as a
device file; report.py keeps count of what came over, what was changed and what was left out.
"""
