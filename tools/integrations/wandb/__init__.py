"""Weights & Biases: studies and metrics logged as W&B runs, offline unless an API key is set; runs read back.

It holds the W&B client and nothing else: no training, no decision, no network beyond the configured W&B server.
"""
