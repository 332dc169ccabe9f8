"""Look ahead: when will the champion's quality become harmful, and is a replacement ready by then?"""

from collections.abc import Mapping

from pydantic import Field

from tasks import establish_champion
from tasks.base import (
    Evidence,
    Inputs,
    Runbook,
    Steps,
    TaskFailedError,
    TaskResult,
    ToolCall,
    call,
    expect,
    returned,
    succeed,
)
from tasks.common import scoring, slices, training
from tasks.goal import Goal
from tools.core.grants import Grant, grant, one_of
from tools.integrations.judge.outlook_spec import ScoreSeries, ThresholdForecast
from tools.integrations.mlflow.spec import Backup, Evaluation, RegisteredVersion, TrainedModel, VersionInfo, Versions
from tools.judge.outlook import MIN_TREND

MAX_CANDIDATES = 3  # registered versions that are tried as backup before one is trained


CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.evaluate_model": (
        "model_uri",
        "data",
    ),
    "judge.score_series": (
        "scores",
        "measure",
    ),
    "judge.forecast_threshold": ("series",),
    "mlflow.list_versions": (),
    "mlflow.train_model": (),
    "mlflow.register_model": (),
    "mlflow.set_backup": ("version",),
}


class Result(TaskResult):
    """`outlook` is of the watched measure; times are in `unit`, after the newest row."""

    act: bool = Field(description="whether the level moves and is expected to cross within the horizon")
    outlook: str
    measure: str = Field(description="the goal's metric, or loss")
    threshold: float
    probability: float | None = Field(description="of crossing within the horizon")
    trend: float | None = Field(description="probability that the level moves towards the threshold")
    expected_in: float | None
    expected_from: float | None = Field(description="interval, its start")
    expected_until: float | None = Field(description="interval, its end; null: beyond three horizons")
    unit: str = Field(description="s or rows")
    drift_outlook: str | None = Field(description="of the output's drift; null when it was not measured")
    backup_version: int | None = Field(description="the version that stands by; null when none was needed")


def reason_to_act(inputs: Inputs) -> list[str]:
    """The forecast as a reason to act, for whoever decides; empty when there is none."""
    seen = inputs.get("foresee", Result)
    return [f"Forecast: {seen.summary}"] if seen is not None and seen.act else []


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    before = expect(
        (yield _evaluate(goal, champion.model_uri, paths["reference_holdout"])),
        Evaluation,
        "evaluating the champion on the reference holdout",
    )
    now = expect(
        (yield _evaluate(goal, champion.model_uri, paths["current_all"])),
        Evaluation,
        "evaluating the champion on the current data",
    )
    measure, threshold = yield from _harmful(goal, before.scores_path)
    found, span = yield from _forecast(inputs, now.scores_path, measure, threshold)
    drift, _ = yield from _forecast(
        inputs, now.scores_path, "drift", goal.watch.max_drift, reference=before.scores_path, span=span
    )
    act = _coming(found)
    backup, told = None, ""
    if act:
        backup, told = yield from _prepare_backup(inputs, champion, found.message)
    return Result(
        act=act,
        outlook=found.outlook,
        measure=measure,
        threshold=threshold,
        probability=found.probability,
        trend=found.trend,
        expected_in=found.expected_in_s,
        expected_from=_after(found, found.earliest_at_s),
        expected_until=_after(found, found.latest_at_s),
        unit=found.unit,
        drift_outlook=drift.outlook,
        backup_version=backup,
        summary=_summary(measure, found, drift, told),
    )


def _evaluate(goal: Goal, model_uri: str, data: str) -> ToolCall:
    return call("mlflow", "evaluate_model", model_uri=model_uri, data=data, **scoring(goal))


def _harmful(goal: Goal, reference: str) -> Steps[tuple[str, float]]:
    """What is watched, and the level at which it is harmful: the goal's minimum, or so much more loss than before."""
    if goal.constraints.min_metric is not None:
        return goal.metric, goal.constraints.min_metric
    series = yield call("judge", "score_series", scores=reference, measure="loss", task=goal.task)
    before = expect(series, ScoreSeries, "measuring the loss on the reference holdout")
    return "loss", before.overall * (1 + goal.watch.max_loss_increase)


def _forecast(
    inputs: Inputs, scores: str, measure: str, threshold: float, *, reference: str = "", span: float | None = None
) -> Steps[tuple[ThresholdForecast, float]]:
    """The forecast of a measure of the scores, and the period they cover."""
    goal = inputs.goal
    clock = goal.data.time_column
    series = expect(
        (
            yield call(
                "judge",
                "score_series",
                scores=scores,
                measure=measure,
                task=goal.task,
                **({"reference": reference} if reference else {}),
                **({"times": f"{slices(inputs)['current_all']}:{clock}"} if clock else {}),
            )
        ),
        ScoreSeries,
        f"making a series of the {measure}",
    )
    found = expect(
        (
            yield call(
                "judge",
                "forecast_threshold",
                series=series.series_path,
                threshold=threshold,
                horizon_s=_horizon(goal, series.unit, series.span if span is None else span),
                side="below" if series.higher_is_better else "above",
            )
        ),
        ThresholdForecast,
        f"forecasting the {measure}",
    )
    return found, series.span


def _horizon(goal: Goal, unit: str, span: float) -> float:
    ahead = goal.watch.ahead
    if ahead is None:
        return max(span / 2, 1.0)
    if ahead[1] != unit:
        have = "rows only: the goal names no time column that is a clock" if unit == "rows" else "times"
        raise TaskFailedError(f"watch.horizon is {goal.watch.horizon!r}, but the current data has {have}")
    return ahead[0]


def _coming(found: ThresholdForecast) -> bool:
    """Whether it is expected to cross, and moves there."""
    return found.outlook == "crossing" and found.trend is not None and found.trend >= MIN_TREND


def _after(found: ThresholdForecast, when: float | None) -> float | None:
    """An end of the interval, counted like `expected_in_s` from the newest reading."""
    if when is None or found.expected_at_s is None or found.expected_in_s is None:
        return None
    return when - (found.expected_at_s - found.expected_in_s)


def _prepare_backup(inputs: Inputs, champion: establish_champion.Result, reason: str) -> Steps[tuple[int, str]]:
    """Have a version stand by that loads, scores the newest rows, and does so no worse than the champion.

    The previous champion first, then other versions, newest first; where none is good enough, the goal's default model
    trained on the newest training rows.
    """
    goal = inputs.goal
    newest = slices(inputs)["live"]
    now = expect(
        (yield _evaluate(goal, champion.model_uri, newest)),
        Evaluation,
        "evaluating the champion on the newest rows",
    )
    listed = expect(
        (yield call("mlflow", "list_versions", name=goal.registered_model)), Versions, "listing the versions"
    )
    for version in _candidates(listed.versions, champion.version):
        scored = returned((yield _evaluate(goal, version.model_uri, newest)), Evaluation)
        if scored is not None and not _worse(goal, scored.value, now.value):
            return (yield from _stand_by(inputs, version.version, scored.value, reason))
    trained = expect((yield training(inputs, [slices(inputs)["train"]], "backup")), TrainedModel, "training a backup")
    scored = expect(
        (yield _evaluate(goal, trained.model_uri, newest)), Evaluation, "checking the backup on the newest rows"
    )
    registered = expect(
        (
            yield call(
                "mlflow",
                "register_model",
                model_uri=trained.model_uri,
                name=goal.registered_model,
                note="backup trained on the newest training rows",
            )
        ),
        RegisteredVersion,
        "registering the backup",
    )
    return (yield from _stand_by(inputs, registered.version, scored.value, reason))


def _candidates(versions: list[VersionInfo], champion: int) -> list[VersionInfo]:
    """Versions that the registry would promote, the likeliest first. `versions` are newest first."""
    usable = [v for v in versions if v.version != champion and (not v.retired or "previous_champion" in v.aliases)]
    usable.sort(key=lambda v: ("previous_champion" not in v.aliases, "backup" not in v.aliases))
    return usable[:MAX_CANDIDATES]


def _worse(goal: Goal, value: float, than: float) -> bool:
    return value > than if goal.minimize else value < than


def _stand_by(inputs: Inputs, version: int, value: float, reason: str) -> Steps[tuple[int, str]]:
    name = inputs.goal.registered_model
    succeed(
        (yield call("mlflow", "set_backup", name=name, version=version, reason=reason)), "having the backup stand by"
    )
    return version, f"Version {version} stands by as the backup: {inputs.goal.metric} {value:.4f} on the newest rows."


def _summary(measure: str, found: ThresholdForecast, drift: ThresholdForecast, backup: str) -> str:
    told = f"{measure}: {found.message}"
    if drift.outlook == "crossed" or _coming(drift):
        told += f" Drift of the output: {drift.message}"
    return f"{told} {backup}".strip()


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result).model_uri
    evaluate = "mlflow.evaluate_model"
    reference = done.last(evaluate, Evaluation, model_uri=champion, data=paths["reference_holdout"])
    current = done.last(evaluate, Evaluation, model_uri=champion, data=paths["current_all"])
    found = [grant(evaluate, model_uri=champion, data=paths[name]) for name in ("reference_holdout", "current_all")]
    if reference is None or current is None:
        return found
    before, now = reference.scores_path, current.scores_path
    found.append(grant("judge.score_series", scores=before, measure="loss"))
    measure, threshold = inputs.goal.metric, inputs.goal.constraints.min_metric
    if threshold is None:
        measure, level = "loss", done.last("judge.score_series", ScoreSeries, scores=before, measure="loss")
        threshold = None if level is None else level.overall * (1 + inputs.goal.watch.max_loss_increase)
    clock = inputs.goal.data.time_column
    times = {"times": f"{paths['current_all']}:{clock}"} if clock else {}
    found += [
        grant("judge.score_series", scores=now, measure=measure, **times),
        grant("judge.score_series", scores=now, measure="drift", reference=before, **times),
    ]
    found += _granted_forecasts(inputs, done, {measure: threshold, "drift": inputs.goal.watch.max_drift}, now)
    forecasts = done.all("judge.forecast_threshold", ThresholdForecast)
    if threshold is not None and any(given["threshold"] == threshold and _coming(seen) for given, seen in forecasts):
        found += _granted_backup(inputs, done, champion)
    return found


def _granted_forecasts(
    inputs: Inputs, done: Evidence, thresholds: Mapping[str, float | None], scores: str
) -> list[Grant]:
    """A forecast for each series that was made of the current scores, over the horizon of the first."""
    made = [(given, data) for given, data in done.all("judge.score_series", ScoreSeries) if given["scores"] == scores]
    watched = [data for given, data in made if given["measure"] != "drift"] or [data for _, data in made]
    return [
        grant(
            "judge.forecast_threshold",
            series=data.series_path,
            threshold=thresholds[given["measure"]],
            horizon_s=_horizon(inputs.goal, data.unit, watched[-1].span),
            side="below" if data.higher_is_better else "above",
        )
        for given, data in made
        if thresholds.get(given["measure"]) is not None
    ]


def _granted_backup(inputs: Inputs, done: Evidence, champion: str) -> list[Grant]:
    """What prepares a backup: only a version that was tried on the newest rows, or was trained for it, may stand by."""
    newest, evaluate = slices(inputs)["live"], "mlflow.evaluate_model"
    now = done.last(evaluate, Evaluation, model_uri=champion, data=newest)
    listed = done.last("mlflow.list_versions", Versions)
    current = inputs.need("establish_champion", establish_champion.Result).version
    candidates = {v.version: v.model_uri for v in _candidates(listed.versions if listed else [], current)}
    made = done.last("mlflow.train_model", TrainedModel)
    trained = None if made is None else made.model_uri
    tried = [champion, *candidates.values(), *([trained] if trained else [])]
    found = [grant(evaluate, model_uri=uri, data=newest) for uri in dict.fromkeys(tried)]
    found += [grant("mlflow.list_versions"), grant("mlflow.train_model", train=[slices(inputs)["train"]])]
    good = [
        version
        for version, uri in candidates.items()
        if (scored := done.last(evaluate, Evaluation, model_uri=uri, data=newest)) is not None
        and now is not None
        and not _worse(inputs.goal, scored.value, now.value)
    ]
    if trained is not None and done.last(evaluate, Evaluation, model_uri=trained, data=newest) is not None:
        found.append(grant("mlflow.register_model", model_uri=trained))
        registered = done.all("mlflow.register_model", RegisteredVersion)
        good += [data.version for given, data in registered if given["model_uri"] == trained]
    return [*found, grant("mlflow.set_backup", version=one_of(*good))] if good else found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    forecasts = evidence.all("judge.forecast_threshold", ThresholdForecast)
    mine = [found for arguments, found in forecasts if arguments.get("threshold") == result.threshold]
    if not mine:
        return [f"nothing was forecast with threshold {result.threshold} (judge forecast_threshold)"]
    problems: list[str] = []
    if result.outlook not in {found.outlook for found in mine}:
        problems.append(f"outlook is {result.outlook!r}, the judge said {mine[-1].outlook!r}")
    if result.act != _coming(mine[-1]):
        problems.append(f"act is {result.act}, but the judge said: {mine[-1].message}")
    backup = evidence.last("mlflow.set_backup", Backup)
    if result.act and (backup is None or backup.version != result.backup_version):
        problems.append("a crossing is expected, but the named backup does not stand by (mlflow set_backup)")
    return problems
