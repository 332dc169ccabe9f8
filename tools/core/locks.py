"""Locks of production: one per registered model, visible, held by a process."""
