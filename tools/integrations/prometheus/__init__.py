"""Prometheus: a real server over its HTTP API, or an embedded store that scrapes and answers a subset of PromQL.

Holds: the spec, the backend, the client of a real server (`remote`), and the embedded side: the time-series store
(`store`), the scraper over it (`embedded`), the parser (`promql`) and the evaluator (`evaluate`).

Must not: decide anything about a model, change a real server's configuration, or know who exposes the metrics.
"""
