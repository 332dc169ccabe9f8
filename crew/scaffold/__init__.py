"""Templates of a new integration's folder (`embedded`, `remote`), and `write`, which fills them in.

Must not: change anything but the new folder and the lines that make it known (registry, policy, extra).
"""
