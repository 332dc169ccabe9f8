"""The canary's runbook waits for labels without a process where the goal says so."""

from typing import Any

import pytest

from tasks import canary, check_data, establish_champion, register_challenger, train_challenger
from tasks.base import Inputs, ToolCall
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.results import Status, ToolResult
from tools.core.waiting import Wait
from tools.registry import load_spec

SLICES = {"live": "live.parquet"}


def goal(**more: Any) -> Goal:
    late = {"label_delay_requests": 100, "labels": "labels.csv", "max_requests": 200, "batch_requests": 200, **more}
    return Goal.model_validate(
        {"name": "m", "task": "binary", "target": "y", "metric": "roc_auc", "canary": late,
         "data": {"reference": "r.csv", "current": "c.csv"}}
    )  # fmt: skip


def inputs(stated: Goal) -> Inputs:
    results = {
        "check_data": check_data.Result.model_construct(slices=SLICES),
        "establish_champion": establish_champion.Result.model_construct(version=1, model_uri="models:/m/1"),
        "register_challenger": register_challenger.Result.model_construct(version=2, model_uri="models:/m/2"),
        "train_challenger": train_challenger.Result.model_construct(
            champion_scores="", challenger_scores="", challenger_digest=""
        ),
    }
    return Inputs(goal=stated, results=results)


def played(stated: Goal, recorded: list[int], verdicts: list[str]) -> list[str]:
    """What the runbook asks for, in order; `recorded`: new labels at each recording, `verdicts`: of the judge."""
    book, seen = canary.runbook(inputs(stated)), list[str]()
    news, said = iter(recorded), iter(verdicts)
    answer: ToolResult | None = None
    while True:
        try:
            wanted = next(book) if answer is None else book.send(answer)
        except StopIteration as done:
            return [*seen, done.value.verdict]
        if isinstance(wanted, Wait):
            seen.append(f"wait for {wanted.path} {wanted.for_s:g}")
            answer = None
            continue
        assert isinstance(wanted, ToolCall)
        seen.append(wanted.action)
        stated: dict[str, Any] = {}
        match wanted.action:
            case "send_traffic":
                stated = {"next_start": 300, "rows_left": 0, "evidence_path": "e", "labels_path": None}
            case "record_labels":
                stated = {"recorded": next(news)}
            case "judge_canary":
                numbers = {"requests": 300, "champion_value": None, "challenger_value": None, "held": False}
                numbers |= {"champion_digest": "", "challenger_digest": "", "evidence_digest": ""}
                stated = {"verdict": next(said), "reasons": ["because"], "measure": "roc_auc", **numbers}
            case _:
                pass
        model = load_spec(wanted.tool).action(wanted.action).result
        answer = ToolResult(status=Status.OK, data=data_like(model, **stated))


def test_it_waits_until_new_labels_decide() -> None:
    seen = played(goal(wait_for_labels_s=60), [10, 20, 30], ["wait", "wait", "promote"])
    assert seen[4:] == [
        "judge_canary", "wait for labels.csv 60", "record_labels", "judge_canary", "wait for labels.csv 60",
        "record_labels", "judge_canary", "promote",
    ]  # fmt: skip


def test_it_waits_no_longer_once_nothing_new_came() -> None:
    seen = played(goal(wait_for_labels_s=60), [10, 0], ["wait"])
    assert seen[4:] == ["judge_canary", "wait for labels.csv 60", "record_labels", "wait"]


def test_it_does_not_wait_where_the_goal_does_not_say_so() -> None:
    assert not any(step.startswith("wait for") for step in played(goal(), [10], ["wait"]))
    with pytest.raises(ValueError, match="needs labels"):
        goal(labels="", wait_for_labels_s=60)
