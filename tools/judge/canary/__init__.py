"""Is a canary safe, and does a promotion hold: tests of harm that may be looked at any number of times."""
