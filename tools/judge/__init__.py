"""The judge's statistics: whether data drifted, whether to retrain, whether a challenger is better or a canary is safe.

Pure functions on numpy and scipy. `canary`, `ab`, `outlook`, `drift` and `champion` hold the decisions; `estimates`,
`sequential` and `trend` what they share. `tools.integrations.judge` offers them as actions and reads the files.

Must not: read or write anything, keep state between calls, or import an integration.
"""
