"""Optuna: searching model architectures, and ask-and-tell for anything else.

Holds the spec, the backend over Optuna's persisted studies, aging evolution as a sampler, and the tool class. Never
trains by itself: configs, search space, training and validation are those of `tools.modeling`.
"""
