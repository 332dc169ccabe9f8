"""Evaluation scenarios: small worlds with a known truth, in which the whole crew is played and scored.

Holds: the cases (`cases/<name>/case.yaml`, names that give nothing away), the world they are drawn from (`world`), the
faults that happen while a run is under way (`faults`), playing one (`play`) and scoring it (`scoring`).

Must not: be imported by `crew`, `tasks` or `tools`, or hand the crew anything that names the trouble.
"""
