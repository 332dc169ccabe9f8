"""Evidently: how far the current data have moved from the reference, and what a table looks like.

Holds: the spec and the backend over Evidently's presets.

Must not: decide what to do about drift (that is the judge), or change data.
"""
