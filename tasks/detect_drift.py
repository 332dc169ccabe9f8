"""Decide whether the data drifted: the judge decides, weighted by what the champion needs; Evidently's report is kept
beside it as evidence."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks import establish_champion, version_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect, returned
from tasks.common import scoring, slices
from tools.core.grants import Grant, grant
from tools.integrations.evidently.spec import DriftReport
from tools.integrations.judge.drift_spec import DriftJudgement
from tools.integrations.mlflow.spec import ColumnImportance, Evaluation

FALSE_ALARMS = 0.01  # of one run, all judgements together: expected once in 100 runs
MIN_ROWS = 50  # fewer rows without a label are not judged by themselves


class MovedColumn(BaseModel):
    """A column that drifted, as the judge returned it."""

    model_config = ConfigDict(extra="forbid")

    column: str
    effect: float = Field(description="share of rows that moved")
    importance: float | None = Field(description="share of the champion's importance; null: not known")
    change: str


LABELLED = ("reference_holdout", "current_all")  # their labels say what a drift costs

CALLS: dict[str, tuple[str, ...]] = {
    "evidently.detect_drift": (),
    "mlflow.column_importance": (),
    "mlflow.evaluate_model": ("data",),
    "judge.judge_drift": ("current",),
}


class Result(TaskResult):
    """The judge's decision. `harm` is the effect weighted by importance, and the severity where no labels say what the
    drift costs; `evidently_drift` is what Evidently's preset says, which decides nothing."""

    drifted: bool
    severity: str = Field(description="none, low, moderate or high")
    harm: float
    moved: list[MovedColumn] = Field(description="as the judge returned them, the worst first")
    share_drifted: float = Field(description="share of drifted columns, 0 to 1")
    false_alarm_probability: float = Field(description="of this check")
    checks_between_false_alarms: float = Field(description="expected, at least")
    evidently_drift: bool | None = Field(description="null: it gave no answer")
    report_path: str = Field(description="Evidently's report, empty where there is none")


def runbook(inputs: Inputs) -> Runbook:
    goal, paths = inputs.goal, slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    skipped = goal.dropped
    described = yield call(
        "evidently",
        "detect_drift",
        reference=paths["reference_all"],
        current=paths["current_all"],
        target=goal.target,
        exclude=skipped,
        seed=inputs.seed,
    )
    report = returned(described, DriftReport)
    weighed = expect(
        (
            yield call(
                "mlflow",
                "column_importance",
                model_uri=champion.model_uri,
                data=paths["reference_holdout"],
                target=goal.target,
                task=goal.task,
                drop=skipped,
                seed=inputs.seed,
            )
        ),
        ColumnImportance,
        "measuring what the champion needs",
    )
    # A champion that needs no column (it guesses) gives nothing to weigh by.
    weights = {"importance": weighed.importance_path} if weighed.used_columns else {}
    scores: list[str] = []
    for name in LABELLED:
        scored = yield call("mlflow", "evaluate_model", model_uri=champion.model_uri, data=paths[name], **scoring(goal))
        scores.append(expect(scored, Evaluation, "evaluating the champion").scores_path)
    judged: list[DriftJudgement] = []
    parts = _parts(inputs, paths)
    for current, excluded in parts:
        answer = yield call(
            "judge",
            "judge_drift",
            reference=paths["reference_all"],
            current=current,
            exclude=excluded,
            alpha=FALSE_ALARMS / len(parts),  # together they raise a false alarm as rarely as one would
            **weights,
            **({"scores": scores} if current == paths["current_all"] else {}),
        )
        judged.append(expect(answer, DriftJudgement, "judging drift"))
    worst = _worst(judged)
    return Result(
        **_decided(judged),
        moved=[
            MovedColumn(column=found.column, effect=found.effect, importance=found.importance, change=found.change)
            for found in worst.moved
        ],
        evidently_drift=None if report is None else report.dataset_drift,
        report_path="" if report is None else report.report_path,
        summary=_summary(judged, worst, report)
        + ("" if report is not None else f" Evidently's report is missing: {described.message.rstrip('.')}."),
    )


def _parts(inputs: Inputs, paths: dict[str, str]) -> list[tuple[str, list[str]]]:
    """The files to judge with the columns to leave out: the labelled rows, and those that wait for their label."""
    skipped = inputs.goal.dropped
    parts = [(paths["current_all"], skipped)]
    waiting = inputs.need("version_data", version_data.Result).rows.get(version_data.UNLABELLED, 0)
    if version_data.UNLABELLED in paths and waiting >= MIN_ROWS:
        parts.append((paths[version_data.UNLABELLED], [*skipped, inputs.goal.target]))
    return parts


def _worst(judged: Sequence[DriftJudgement]) -> DriftJudgement:
    """The judgement to act on; the first one where they are alike."""
    return max(judged, key=lambda found: (found.drifted, found.harm))


def _decided(judged: Sequence[DriftJudgement]) -> dict[str, Any]:
    """The fields of the result that follow from the judgements."""
    worst = _worst(judged)
    alpha = sum(found.false_alarm_probability for found in judged)
    return {
        "drifted": worst.drifted,
        "severity": worst.severity,
        "harm": worst.harm,
        "share_drifted": worst.share_drifted,
        "false_alarm_probability": alpha,
        "checks_between_false_alarms": 1 / alpha,
    }


def _summary(judged: Sequence[DriftJudgement], worst: DriftJudgement, report: DriftReport | None) -> str:
    where = "In the rows that wait for their label: " if worst is not judged[0] else ""
    told = f"{where}{worst.message}"
    if report is None or report.dataset_drift == worst.drifted:
        return told
    preset = f"{report.drifted_columns} of {len(report.columns)} columns beyond Evidently's thresholds"
    verdict = "drift" if report.dataset_drift else "no drift"
    return f"{told} Evidently's preset says {verdict} ({preset}), which decides nothing."


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    found = [
        grant("evidently.detect_drift", reference=paths["reference_all"], current=paths["current_all"]),
        grant("mlflow.column_importance", model_uri=champion.model_uri, data=paths["reference_holdout"]),
    ]
    found += [grant("mlflow.evaluate_model", model_uri=champion.model_uri, data=paths[name]) for name in LABELLED]
    weighed = done.last("mlflow.column_importance", ColumnImportance)
    scored = [done.last("mlflow.evaluate_model", Evaluation, data=paths[name]) for name in LABELLED]
    scores = [data.scores_path for data in scored if data is not None]
    if weighed is None or len(scores) < len(LABELLED):
        return found
    parts = _parts(inputs, paths)
    return found + [
        grant(
            "judge.judge_drift",
            reference=paths["reference_all"],
            current=current,
            exclude=excluded,
            alpha=FALSE_ALARMS / len(parts),
            importance=weighed.importance_path if weighed.used_columns else None,
            **({"scores": scores} if current == paths["current_all"] else {}),
        )
        for current, excluded in parts
    ]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    report = evidence.last("evidently.detect_drift", DriftReport)
    calls = evidence.all("judge.judge_drift", DriftJudgement)
    missing = [
        f"{what} ({name} was not called, or did not succeed)"
        for found, what, name in (
            (evidence.named("evidently.detect_drift"), "drift was not described", "evidently detect_drift"),
            (calls, "drift was not judged", "judge judge_drift"),
        )
        if not found
    ]
    if missing:
        return missing
    latest = {str(arguments["current"]): data for arguments, data in calls}  # a file may have been judged again
    problems: list[str] = []
    for name, value in _decided(list(latest.values())).items():
        said = getattr(result, name)
        if said != value and not (isinstance(value, float) and abs(said - value) <= 1e-3 * max(1.0, abs(value))):
            problems.append(f"{name} is {said}, the judge's answers make it {value}")
    moved = {column.column for column in _worst(list(latest.values())).moved}
    if {column.column for column in result.moved} != moved:
        problems.append(f"moved must be exactly the columns {sorted(moved)}")
    described = None if report is None else report.dataset_drift
    if result.evidently_drift != described:
        problems.append(f"evidently_drift is {result.evidently_drift}, Evidently returned {described}")
    return problems
