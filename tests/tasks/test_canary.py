"""A canary's guardrail."""

from tasks import canary
from tasks.base import Evidence as Calls
from tasks.base import Inputs
from tasks.goal import Goal


def test_a_canary_that_ends_without_a_measurement_is_no_success():
    # Argo counts a run that was terminated before any measurement as successful.
    goal = Goal.model_validate(
        {
            "name": "g",
            "task": "binary",
            "target": "y",
            "metric": "accuracy",
            "data": {"reference": "a.csv", "current": "b.csv"},
        }
    )
    claimed = canary.Result(
        verdict="promote",
        undecided=False,
        requests=0,
        champion_value=None,
        challenger_value=None,
        evidence_path="",
        reasons=[],
        next_row=0,
        summary="",
    )
    assert "not judged" in canary.guardrail(claimed, Calls((), Inputs(goal, {})))[0]
