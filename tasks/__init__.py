"""Tasks: one module per task of `config/tasks.yaml`, with its result model, guardrail and runbook.

Never holds a vendor library or I/O: a runbook only yields tool calls and reads their results.
"""
