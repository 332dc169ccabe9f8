"""The subcommands of `mlops-crew`, one module each. A module imports what it needs when its command runs, not before,
so that `mlops-crew --help` is quick. Nothing here decides about a run or touches a tool: that is below.
"""
