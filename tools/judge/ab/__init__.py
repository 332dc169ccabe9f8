"""A/B tests: how long one must run, and what its outcomes say at every look."""
