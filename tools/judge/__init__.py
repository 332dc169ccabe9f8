"""The judge: whether data drifted, whether to retrain, whether a challenger is better, whether a canary is promoted.

Holds: statistics as pure functions on numpy and scipy (`sequential`, `estimates`, `compare`, `retrain`, `canary`,
`drift`, `performance`) and the integration that offers them as actions (`spec`, `backend`).

Must not: read or write anything outside `backend`, keep state between calls, or import another integration.
"""
