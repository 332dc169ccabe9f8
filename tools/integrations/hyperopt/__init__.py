"""Hyperopt: tuning the continuous hyperparameters of one model config in this process.

Holds the spec, the backend over `hyperopt.fmin`, and the tool class. Never trains by itself: config, search space,
training and validation are those of `tools.modeling`.
"""
