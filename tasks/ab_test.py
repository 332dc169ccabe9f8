"""Test the challenger against the champion on units such as customers, after the canary and before the release."""

from typing import Any, Literal

from pydantic import Field

from tasks import canary, establish_champion, register_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, expect, succeed
from tasks.common import slices
from tasks.goal import ABTestSection, Goal
from tools.core.grants import Grant, grant
from tools.integrations.ab_test.spec import Recorded, Test, UnitCount
from tools.integrations.judge.ab_spec import AbPlan, AbVerdict
from tools.integrations.serving.spec import Traffic

Verdict = Literal[
    "challenger_wins", "champion_wins", "no_relevant_gain", "keep_running", "invalid", "underpowered", "not_started"
]


CALLS: dict[str, tuple[str, ...]] = {
    "ab_test.count_units": (),
    "judge.plan_ab_test": (),
    "ab_test.create_test": (),
    "serving.start_canary": (),
    "serving.send_traffic": (),
    "ab_test.record_outcomes": (),
    "judge.judge_ab_test": (),
    "ab_test.conclude": (),
}


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
    challenger = inputs.need("register_challenger", register_challenger.Result)
    counted = expect((yield call("ab_test", "count_units", **_counted(inputs, test))), UnitCount, "counting the units")
    plan = expect(
        (yield call("judge", "plan_ab_test", **_planned(inputs, test, counted))), AbPlan, "planning the A/B test"
    )
    if not plan.feasible and test.on_underpowered == "stop":
        return _unstarted("underpowered", judged.next_row, f"No A/B test was started: {plan.message}", plan)
    name = name_of(inputs)
    made = expect(
        (yield call("ab_test", "create_test", **_definition(inputs, test, plan.plan_path))),
        Test,
        "defining the A/B test",
    )
    # The model is loaded already: its share changes, and the seed, so that this split owes nothing to the canary's.
    succeed(
        (
            yield call(
                "serving",
                "start_canary",
                model_uri=challenger.model_uri,
                version=str(challenger.version),
                percent=test.percent,
                seed=made.salt,
                digest=judged.challenger_digest,
            )
        ),
        "giving the challenger its share",
    )
    start, batch = judged.next_row, 0
    while True:
        sent = expect(
            (
                yield call(
                    "serving",
                    "send_traffic",
                    target=goal.target,
                    task=goal.task,
                    seed=inputs.seed,
                    **_traffic(inputs, test, start, batch),
                )
            ),
            Traffic,
            "sending traffic",
        )
        start, batch = sent.next_start, batch + 1
        recorded = expect(
            (yield call("ab_test", "record_outcomes", test=name, data=sent.evidence_path)),
            Recorded,
            "recording outcomes",
        )
        judgement = expect(
            (yield call("judge", "judge_ab_test", units=recorded.units_path, design=made.design_path)),
            AbVerdict,
            "judging the A/B test",
        )
        over = not sent.rows_left or start >= judged.next_row + test.max_requests
        if judgement.verdict != "keep_running" or over:
            break
    wins = judgement.verdict == "challenger_wins"
    succeed(
        (
            yield call(
                "ab_test",
                "conclude",
                test=name,
                winner="challenger" if wins else "champion",
                verdict=judgement.verdict,
                reason=judgement.message,
            )
        ),
        "recording the decision",
    )
    return Result(
        verdict=judgement.verdict,
        test=name,
        planned_units=plan.units,
        planned_days=plan.days,
        units=judgement.units,
        difference=judgement.difference,
        difference_low=judgement.low,
        difference_high=judgement.high,
        harmed_segments=judgement.harmed_segments,
        reasons=[*judgement.reasons, *judgement.warnings],
        evidence_path=sent.evidence_path,
        next_row=start,
        summary=f"A/B test by {test.unit}, {test.percent:g} % to the challenger. Plan: {plan.message} "
        f"{judgement.message}",
    )


def outcome_of(goal: Goal, test: ABTestSection) -> str:
    """What is compared: `error`, `loss`, or a column of the live data."""
    return test.outcome or ("loss" if goal.task == "regression" else "error")


def name_of(inputs: Inputs) -> str:
    """Name of the test: of these two versions."""
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    return f"{inputs.goal.registered_model}-{champion.version}-{challenger.version}"


def _counted(inputs: Inputs, test: ABTestSection) -> dict[str, Any]:
    """The rows whose units are counted."""
    return {
        "data": slices(inputs)["live"],
        "unit": test.unit,
        "start": inputs.need("canary", canary.Result).next_row,
        "rows": test.max_requests,
        "time_column": inputs.goal.data.time_column,
    }


def _planned(inputs: Inputs, test: ABTestSection, counted: UnitCount) -> dict[str, Any]:
    """What the plan is made of: the noise is the champion's in the canary, or the column's in the training slice."""
    outcome = outcome_of(inputs.goal, test)
    if test.of_answers:
        path = inputs.need("canary", canary.Result).evidence_path
        history = {"history": path, "outcome": f"champion_{outcome}"}
    else:
        history = {"history": slices(inputs)["train"], "outcome": outcome, "unit": test.unit}
    limits = {"units_per_day": counted.units_per_day, "max_days": test.max_days}
    return {
        "mde": test.mde,
        "percent": test.percent,
        "alpha": test.alpha,
        "power": test.power,
        "available": counted.units,
        **history,
        **{name: value for name, value in limits.items() if value is not None},
    }


def _definition(inputs: Inputs, test: ABTestSection, plan: str) -> dict[str, Any]:
    """What is compared, between whom, by which plan."""
    outcome = outcome_of(inputs.goal, test)
    return {
        "test": name_of(inputs),
        "champion": str(inputs.need("establish_champion", establish_champion.Result).version),
        "challenger": str(inputs.need("register_challenger", register_challenger.Result).version),
        "plan": plan,
        "unit": test.unit,
        "outcome": outcome,
        "minimize": test.of_answers or test.direction == "minimize",
        "upper": (1.0 if outcome == "error" else test.upper) or 0.0,
        "segment": test.segment,
        "guardrails": test.guardrails,
    }


def _traffic(inputs: Inputs, test: ABTestSection, start: int, batch: int) -> dict[str, Any]:
    """The next batch of requests, but for what the goal binds."""
    first = inputs.need("canary", canary.Result).next_row
    columns = [*_columns(test, outcome_of(inputs.goal, test)), test.segment]
    return {
        "data": slices(inputs)["live"],
        "start": start,
        "rows": min(test.batch_requests, first + test.max_requests - start),
        "batch": batch,
        "unit": test.unit,
        "keep": [name for name in dict.fromkeys(columns) if name],
    }


def _columns(test: ABTestSection, outcome: str) -> list[str]:
    """The live columns that outcomes and guardrails are read from."""
    return [*([] if test.of_answers else [outcome]), *(name for name in test.guardrails if name != "failed")]


def _unstarted(verdict: Verdict, row: int, summary: str, plan: AbPlan | None = None) -> Result:
    return Result(
        verdict=verdict,
        test=None,
        planned_units=plan.units if plan else None,
        planned_days=plan.days if plan else None,
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


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    """One step after the other: each of them is bound to what the steps before it recorded."""
    test, judged = inputs.goal.ab_test, inputs.need("canary", canary.Result)
    if test is None or judged.verdict != "promote":
        return []
    found = [grant("ab_test.count_units", **_counted(inputs, test))]
    if (counted := done.last("ab_test.count_units", UnitCount)) is not None:
        found.append(grant("judge.plan_ab_test", **_planned(inputs, test, counted)))
    plan = done.last("judge.plan_ab_test", AbPlan)
    if plan is None or (not plan.feasible and test.on_underpowered == "stop"):
        return found
    if not done.succeeded("serving.start_canary"):
        found.append(grant("ab_test.create_test", **_definition(inputs, test, plan.plan_path)))
    if (made := done.last("ab_test.create_test", Test)) is None:
        return found
    challenger = inputs.need("register_challenger", register_challenger.Result)
    model = {
        "model_uri": challenger.model_uri,
        "version": str(challenger.version),
        "digest": judged.challenger_digest,
    }
    sent = [data for _, data in done.all("serving.send_traffic", Traffic)]
    if not sent:
        found.append(grant("serving.start_canary", **model, percent=test.percent, seed=made.salt))
    if not done.succeeded("serving.start_canary"):
        return found
    start = sent[-1].next_start if sent else judged.next_row
    judgement = done.last("judge.judge_ab_test", AbVerdict)
    is_judged = done.is_newer("judge.judge_ab_test", than="serving.send_traffic")
    left = start < judged.next_row + test.max_requests and (not sent or sent[-1].rows_left > 0)
    keeps_running = not sent or (is_judged and judgement is not None and judgement.verdict == "keep_running")
    if keeps_running and left:
        found.append(grant("serving.send_traffic", **_traffic(inputs, test, start, len(sent))))
    if sent:
        found.append(grant("ab_test.record_outcomes", test=name_of(inputs), data=sent[-1].evidence_path))
    if (recorded := done.last("ab_test.record_outcomes", Recorded)) is not None:
        found.append(grant("judge.judge_ab_test", units=recorded.units_path, design=made.design_path))
    if judgement is not None and is_judged and not (keeps_running and left):
        winner = "challenger" if judgement.verdict == "challenger_wins" else "champion"
        found.append(grant("ab_test.conclude", test=name_of(inputs), winner=winner, verdict=judgement.verdict))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    if result.verdict == "not_started":
        passed = evidence.inputs.need("canary", canary.Result).verdict == "promote"
        return ["the canary passed, but no A/B test was run"] if passed else []
    plan = evidence.last("judge.plan_ab_test", AbPlan)
    if plan is None:
        return ["the A/B test was not planned (judge plan_ab_test did not succeed)"]
    if result.verdict == "underpowered":
        return ["the plan is feasible, but no A/B test was run"] if plan.feasible else []
    judged = evidence.last("judge.judge_ab_test", AbVerdict)
    if judged is None:
        return ["the A/B test was not judged (judge judge_ab_test did not succeed)"]
    if result.verdict != judged.verdict:
        return [f"verdict is {result.verdict!r}, the judge said {judged.verdict!r}"]
    concluded = evidence.last("ab_test.conclude", Test)
    if concluded is None:
        return ["the decision was not recorded (ab_test conclude did not succeed)"]
    winner = "challenger" if result.promotes else "champion"
    if concluded.winner != winner or concluded.verdict != result.verdict:
        return [f"recorded was {concluded.verdict} for the {concluded.winner}, the judge said {result.verdict}"]
    return []
