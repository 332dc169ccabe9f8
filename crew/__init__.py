"""The crew: command line, settings, goal, assembly of agents and tasks, runbook and reasoning models, report.

Never holds a vendor library but CrewAI, and calls tools through the gateway only.

`from crew import MlopsCrew` gives the crew; importing this package imports neither CrewAI nor any other library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crew.mlops_crew import MlopsCrew, RunOutcome

__all__ = ["MlopsCrew", "RunOutcome"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from crew import mlops_crew

        return getattr(mlops_crew, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
