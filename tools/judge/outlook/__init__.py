"""Looks ahead: series of quality and drift, and when they are expected to become harmful."""
