"""Did the data drift: one test per column on counts, and words for what changed."""
