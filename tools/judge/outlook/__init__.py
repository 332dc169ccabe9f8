"""Looks ahead: series of quality and drift, and when they are expected to become harmful."""

MIN_TREND = 0.8  # probability that a level moves; one that only lies near its threshold is no reason to act
