"""MLflow: runs, models and the model registry, where the champion and its history are kept.

It holds training, evaluation and registry operations on an MLflow store. It decides nothing: which model is better and
whether it may be promoted is the judge's and the policy's business; it sends no traffic and deploys nothing.
"""
