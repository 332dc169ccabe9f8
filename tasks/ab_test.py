"""Test the challenger against the champion on units such as customers, after the canary and before the release."""

from typing import Any, Literal

from pydantic import Field

from tasks import canary, establish_champion, register_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, data_of
from tasks.common import slices
from tasks.goal import ABTestSection, Goal

Verdict = Literal[
    "challenger_wins", "champion_wins", "no_relevant_gain", "keep_running", "invalid", "underpowered", "not_started"
]

RISKY = ("serving.start_canary",)


class Result(TaskResult):
    """`keep_running`: the rows were used up first. `underpowered`: the rows could not decide, so no test was started.
    `not_started`: the canary had not passed. Differences are positive where the challenger is better."""

    verdict: Verdict
    test: str | None
    planned_units: int | None
    planned_days: int | None
    units: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    harmed_segments: list[str]
    reasons: list[str]
    evidence_path: str | None
    next_row: int = Field(description="first row of the live slice that was not sent")

    @property
    def promotes(self) -> bool:
        return self.verdict == "challenger_wins"

    @property
    def undecided(self) -> bool:
        """Whether the challenger may be tried again."""
        return self.verdict in ("keep_running", "invalid", "underpowered")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    test = goal.ab_test
    if test is None:
        raise TaskFailedError("the goal has no ab_test section")
    judged = inputs.need("canary", canary.Result)
    if judged.verdict != "promote":
        return _unstarted("not_started", judged.next_row, "No A/B test: the canary did not pass.")
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    outcome = outcome_of(goal, test)
    live = slices(inputs)["live"]
    counted = data_of(
        (
            yield call(
                "ab_test",
                "count_units",
                data=live,
                unit=test.unit,
                start=judged.next_row,
                rows=test.max_requests,
                time_column=goal.data.time_column,
            )
        ),
        "counting the units",
    )
    plan = data_of((yield _plan(inputs, test, outcome, counted, judged)), "planning the A/B test")
    if not plan["feasible"] and test.on_underpowered == "stop":
        return _unstarted("underpowered", judged.next_row, f"No A/B test was started: {plan['message']}", plan)
    name = f"{goal.registered_model}-{champion.version}-{challenger.version}"
    made = data_of(
        (
            yield call(
                "ab_test",
                "create_test",
                test=name,
                champion=str(champion.version),
                challenger=str(challenger.version),
                plan=plan["plan_path"],
                unit=test.unit,
                outcome=outcome,
                minimize=test.of_answers or test.direction == "minimize",
                upper=(1.0 if outcome == "error" else test.upper) or 0.0,
                segment=test.segment,
                guardrails=test.guardrails,
            )
        ),
        "defining the A/B test",
    )
    # The model is loaded already: its share changes, and the seed, so that this split owes nothing to the canary's.
    data_of(
        (
            yield call(
                "serving",
                "start_canary",
                model_uri=challenger.model_uri,
                version=str(challenger.version),
                percent=test.percent,
                seed=made["salt"],
            )
        ),
        "giving the challenger its share",
    )
    kept = [name for name in dict.fromkeys([*_columns(test, outcome), test.segment]) if name]
    start, batch = judged.next_row, 0
    while True:
        sent = data_of(
            (
                yield call(
                    "serving",
                    "send_traffic",
                    data=live,
                    target=goal.target,
                    task=goal.task,
                    start=start,
                    rows=min(test.batch_requests, judged.next_row + test.max_requests - start),
                    batch=batch,
                    seed=inputs.seed,
                    unit=test.unit,
                    keep=kept,
                )
            ),
            "sending traffic",
        )
        start, batch = sent["next_start"], batch + 1
        recorded = data_of(
            (yield call("ab_test", "record_outcomes", test=name, data=sent["evidence_path"])), "recording outcomes"
        )
        verdict = data_of(
            (yield call("judge", "judge_ab_test", units=recorded["units_path"], design=made["design_path"])),
            "judging the A/B test",
        )
        over = not sent["rows_left"] or start >= judged.next_row + test.max_requests
        if verdict["verdict"] != "keep_running" or over:
            break
    wins = verdict["verdict"] == "challenger_wins"
    data_of(
        (
            yield call(
                "ab_test",
                "conclude",
                test=name,
                winner="challenger" if wins else "champion",
                verdict=verdict["verdict"],
                reason=verdict["message"],
            )
        ),
        "recording the decision",
    )
    return Result(
        verdict=verdict["verdict"],
        test=name,
        planned_units=plan["units"],
        planned_days=plan["days"],
        units=verdict["units"],
        difference=verdict["difference"],
        difference_low=verdict["low"],
        difference_high=verdict["high"],
        harmed_segments=verdict["harmed_segments"],
        reasons=[*verdict["reasons"], *verdict["warnings"]],
        evidence_path=sent["evidence_path"],
        next_row=start,
        summary=f"A/B test by {test.unit}, {test.percent:g} % to the challenger. Plan: {plan['message']} "
        f"{verdict['message']}",
    )


def outcome_of(goal: Goal, test: ABTestSection) -> str:
    """What is compared: `error`, `loss`, or a column of the live data."""
    return test.outcome or ("loss" if goal.task == "regression" else "error")


def _plan(inputs: Inputs, test: ABTestSection, outcome: str, counted: dict[str, Any], judged: canary.Result) -> Any:
    """The call that plans: the noise is the champion's during the canary, or the column's in the training slice."""
    if test.of_answers:
        history = {"history": judged.evidence_path, "outcome": f"champion_{outcome}"}
    else:
        history = {"history": slices(inputs)["train"], "outcome": outcome, "unit": test.unit}
    limits = {"units_per_day": counted["units_per_day"], "max_days": test.max_days}
    return call(
        "judge",
        "plan_ab_test",
        mde=test.mde,
        percent=test.percent,
        alpha=test.alpha,
        power=test.power,
        available=counted["units"],
        **history,
        **{name: value for name, value in limits.items() if value is not None},
    )


def _columns(test: ABTestSection, outcome: str) -> list[str]:
    """The live columns that outcomes and guardrails are read from."""
    return [*([] if test.of_answers else [outcome]), *(name for name in test.guardrails if name != "failed")]


def _unstarted(verdict: Verdict, row: int, summary: str, plan: dict[str, Any] | None = None) -> Result:
    return Result(
        verdict=verdict,
        test=None,
        planned_units=plan["units"] if plan else None,
        planned_days=plan["days"] if plan else None,
        units=0,
        difference=None,
        difference_low=None,
        difference_high=None,
        harmed_segments=[],
        reasons=[summary],
        evidence_path=None,
        next_row=row,
        summary=summary,
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    if result.verdict == "not_started":
        passed = evidence.inputs.need("canary", canary.Result).verdict == "promote"
        return ["the canary passed, but no A/B test was run"] if passed else []
    plan = evidence.last("judge", "plan_ab_test")
    if plan is None:
        return ["the A/B test was not planned (judge plan_ab_test did not succeed)"]
    if result.verdict == "underpowered":
        return ["the plan is feasible, but no A/B test was run"] if plan["feasible"] else []
    judged = evidence.last("judge", "judge_ab_test")
    if judged is None:
        return ["the A/B test was not judged (judge judge_ab_test did not succeed)"]
    if result.verdict != judged["verdict"]:
        return [f"verdict is {result.verdict!r}, the judge said {judged['verdict']!r}"]
    concluded = evidence.last("ab_test", "conclude")
    if concluded is None:
        return ["the decision was not recorded (ab_test conclude did not succeed)"]
    winner = "challenger" if result.promotes else "champion"
    if concluded["winner"] != winner or concluded["verdict"] != result.verdict:
        return [f"recorded was {concluded['verdict']} for the {concluded['winner']}, the judge said {result.verdict}"]
    return []
