"""The contract every integration shares, and the one path by which a tool is called.

Holds: the contract (`contract`), errors (`errors`), results (`results`), the server kit (`server`), the MCP client
(`client`), policy, approvals, journal, redaction and the gateway that composes them; and the contract suite, with the
stand-ins that it plays remote systems with.

Never holds: a vendor library (no MLflow, Ray, Kubernetes, ...), and nothing from `crew` or `tasks`.
"""
