"""Results of calls are read as the models of their actions, and a result that is another's says so plainly."""

from typing import Any

import pytest

from tasks.base import Evidence, Inputs, TaskFailedError, expect, returned, succeed
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.errors import ErrorKind
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.integrations.mlflow.spec import Evaluation, RegisteredVersion

GOAL = Goal.model_validate(
    {"name": "g", "task": "binary", "target": "y", "metric": "roc_auc", "data": {"source": "a.csv"}}
)
NOTHING = ErrorInfo(kind=ErrorKind.FIXABLE, message="none", tried="a, b")
CALLS = ("mlflow", "evaluate_model")


def scored(**stated: Any) -> ToolResult:
    return ToolResult(status=Status.OK, data=data_like(Evaluation, **stated), call_id="c0007")


def evidence(*calls: tuple[dict[str, Any], ToolResult]) -> Evidence:
    return Evidence(tuple((*CALLS, given, result) for given, result in calls), Inputs(GOAL, {}))


def test_a_result_is_the_model_of_its_action_with_its_nested_ones() -> None:
    result = scored(value=0.9, segments={"a": 0.8, "b": None})
    assert expect(result, Evaluation, "scoring") == Evaluation.model_validate(result.data)
    assert expect(result, Evaluation, "scoring").segments == {"a": 0.8, "b": None}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (ToolResult(status=Status.DENIED, message="not in the policy"), "scoring was denied: not in the policy"),
        (ToolResult(status=Status.NEEDS_APPROVAL, message="ask ann"), "scoring waits for a person: ask ann"),
        (ToolResult(status=Status.FAILED, message="no file"), "scoring: no file"),
        (ToolResult(status=Status.NO_DATA, message="none", error=NOTHING), r"scoring: none \(looked in: a, b\)"),
    ],
)
def test_a_call_that_must_succeed_and_did_not_says_why(result: ToolResult, told: str) -> None:
    assert returned(result, Evaluation) is None
    for must in (lambda: expect(result, Evaluation, "scoring"), lambda: succeed(result, "scoring")):
        with pytest.raises(TaskFailedError, match=f"^{told}$"):
            must()


def test_a_result_of_another_form_names_the_call_and_what_is_wrong_with_it() -> None:
    other = ToolResult(status=Status.OK, data=data_like(RegisteredVersion, version=2), call_id="c0007")
    with pytest.raises(TaskFailedError, match="result of call c0007 cannot be read as Evaluation: metric: "):
        expect(other, Evaluation, "scoring")
    with pytest.raises(TaskFailedError, match="read as Evaluation"):
        evidence(({}, other)).last("mlflow.evaluate_model", Evaluation)
    large = ToolResult(status=Status.OK, data={"spilled": True, "file": "results/c7.json", "kept": {}}, call_id="c7")
    with pytest.raises(TaskFailedError, match=r"too large to be handed on and is in results/c7\.json"):
        returned(large, Evaluation)


def test_the_evidence_finds_successful_calls_by_name_and_arguments() -> None:
    failed = ToolResult(status=Status.FAILED, message="no")
    done = evidence(
        ({"data": "a"}, scored(value=0.1)), ({"data": "b"}, scored(value=0.2)), ({"data": "a"}, scored(value=0.3)),
        ({"data": "a"}, failed),
    )  # fmt: skip
    name = "mlflow.evaluate_model"
    of_a, of_b = (done.last(name, Evaluation, data=path) for path in "ab")
    assert of_a is not None and of_b is not None and (of_a.value, of_b.value) == (0.3, 0.2)
    assert [(given["data"], data.value) for given, data in done.all(name, Evaluation)] == [
        ("a", 0.1), ("b", 0.2), ("a", 0.3),
    ]  # fmt: skip
    assert done.last(name, Evaluation, data="c") is None and done.last("mlflow.other", Evaluation) is None
    assert done.succeeded(name) and not done.succeeded("mlflow.other")
    assert not evidence(({"data": "a"}, failed)).succeeded(name)
    assert done.ended(name, Status.FAILED)
