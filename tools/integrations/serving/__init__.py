"""The local serving engine: real HTTP answers, a weighted canary router, shadow scoring, Prometheus metrics.

Holds: the engine process (`engine`, `app`, `router`), one worker process per model (`worker`), the durable production
state (`state`), the recorder of shadow scores (`recorder`), and the backend that starts and steers all that
(`process`, `traffic`, `backend`).

Must not: train or choose a model, judge a canary, change the model registry, or listen beyond 127.0.0.1.
"""
