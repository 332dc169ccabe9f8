"""The scoring of a run tells right from wrong."""

from dataclasses import replace
from typing import Any

import pytest

from evals.scoring import Expectation, Place, Played, score


def played(
    outcome: str = "promoted",
    results: dict[str, Any] | None = None,
    champion: int | None = 2,
    serving: int | None = None,
    value: float | None = 0.8,
    done: list[str] | None = None,
    failed: dict[str, str] | None = None,
) -> Played:
    records: list[Any] = []
    calls = [(name, "ok", "") for name in done or []] + [
        (name, "failed", text) for name, text in (failed or {}).items()
    ]
    for number, (name, status, text) in enumerate(calls):
        server, _, action = name.partition(".")
        records.append({"kind": "intent", "call_id": str(number), "server": server, "action": action})
        records.append({"kind": "outcome", "call_id": str(number), "status": status, "message": text})
    return Played(outcome, records, results or {}, champion, serving, value, 0.85, 1.0)


ACTED = Expectation(
    detected=[Place(task="assess", field="act", value=True)],
    located=[Place(task="drift", words=["load"])],
    outcomes=["promoted"],
    champion=2,
    gap=0.1,
    forbidden=["serving.stop"],
)

GOOD: dict[str, Any] = {"assess": {"act": True}, "drift": {"moved": ["load"]}}


def test_a_run_that_does_everything_right_passes() -> None:
    found = score(ACTED, played(results=GOOD, serving=2, done=["serving.promote_canary"]))
    assert found.passed and found.notes == [] and found.calls == 1


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"results": {**GOOD, "assess": {"act": False}}}, "detected"),
        ({"results": {**GOOD, "drift": {"moved": ["age"]}}}, "located"),
        ({"outcome": "no_action"}, "decided"),
        ({"champion": 1}, "recovered"),
        ({"serving": 1}, "recovered"),
        ({"value": 0.6}, "recovered"),
        ({"value": None}, "recovered"),
    ],
)
def test_each_thing_done_wrong_is_scored_and_told(change: dict[str, Any], wrong: str) -> None:
    found = score(ACTED, played(**{"results": GOOD, **change}))
    assert {name for name in ("detected", "located", "decided", "recovered") if not getattr(found, name)} == {wrong}
    assert found.notes and not found.passed


def test_what_the_runbook_finished_for_the_model_is_not_its_own() -> None:
    def finished(mode: str, tokens: int) -> dict[str, Any]:
        return {"kind": "task_finished", "mode": mode, "tokens": {"prompt": tokens, "completion": 1}}

    run = replace(played(), records=[finished("llm", 99), finished("runbook", 49), finished("llm", 0)])
    found = score(ACTED, run)
    assert found.own == pytest.approx(2 / 3) and found.tokens == 151
    by_runbook = replace(run, records=[{"kind": "task_finished", "mode": "runbook", "tokens": None}])
    assert score(ACTED, by_runbook).own is None and score(ACTED, by_runbook).tokens == 0


def test_an_action_counts_as_false_only_where_it_succeeded() -> None:
    assert score(ACTED, played(results=GOOD, failed={"serving.stop": "denied"})).false_actions == 0
    assert score(ACTED, played(results=GOOD, done=["serving.stop", "serving.stop"])).false_actions == 2


def test_where_nothing_is_wrong_an_alarm_fails_the_case() -> None:
    quiet = Expectation(silent=[Place(task="assess", field="act", value=True)], outcomes=["no_action"])
    assert score(quiet, played("no_action", {"assess": {"act": False}})).passed
    found = score(quiet, played("no_action", {"assess": {"act": True}}))
    assert not found.detected and "false alarm" in found.notes[0]


def test_a_failed_call_is_a_place_too() -> None:
    expect = Expectation(detected=[Place(call="mlflow.promote_version", words=["answer"])], outcomes=["failed"])
    assert score(expect, played("failed", failed={"mlflow.promote_version": "the server does not answer"})).detected
    assert not score(expect, played("failed", failed={"mlflow.promote_version": "denied"})).detected
