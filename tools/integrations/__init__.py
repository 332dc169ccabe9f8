"""The integrations: one folder each, identical inside, none of which knows another.

A folder holds `spec.py` (what it can do, light), `backend.py` (the library, imported lazily), `tool.py` (the tool
class) and `contract.py` (its examples for the contract suite). `mlops-crew scaffold NAME` writes one.
"""
