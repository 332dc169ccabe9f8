"""Ray Tune: tuning the continuous hyperparameters of one model config on several processes or a cluster.

Holds the spec, the backend over Ray Tune, and the tool class. Never trains by itself: config, search space, training
and validation are those of `tools.modeling`; workers run the same trial as every other engine.
"""
