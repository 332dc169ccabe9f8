"""A/B tests as records: what was planned, who got which variant, what came of it, what was decided.

Holds the spec, the backend, the store of definitions and outcomes under `.mlops/ab_tests` (`store`), the step from
outcomes to one row a unit (`units`), and the tool class.

Must not: judge (the judge does), serve or route requests (serving does), or change the model registry.
"""
