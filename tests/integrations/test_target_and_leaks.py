"""What is wrong with a target, or too good to be true, through the tools and the tasks: it stops a run until the goal
accepts it, whoever thinks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks import check_data, establish_champion, train_challenger, version_data
from tasks.base import Evidence, Inputs, TaskResult
from tasks.goal import Goal
from tests.conftest import Project
from tests.helpers.drifting_story import play
from tests.helpers.results import data_like
from tools.core.results import Status, ToolResult
from tools.integrations.dvc.spec import VersionedData
from tools.integrations.judge.champion_spec import ModelComparison
from tools.integrations.mlflow.spec import Evaluation, TrainedModel
from tools.integrations.serving.labels import record

pytestmark = pytest.mark.filterwarnings("ignore")


def table(rows: int, seed: int, **more: Any) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, rows))
    label = np.where(random.random(rows) < 1 / (1 + np.exp(-2 * a)), "yes", "no")
    return pd.DataFrame({"a": a, "b": b, "y": label, **more})


class Checked:
    """Two files staged and checked by the tasks' own runbooks, as a goal says."""

    def __init__(self, project: Project, reference: pd.DataFrame, current: pd.DataFrame, **goal: Any) -> None:
        reference.to_csv(project.root / "r.csv", index=False)
        current.to_csv(project.root / "c.csv", index=False)
        data = {"reference": "r.csv", "current": "c.csv", **goal.pop("data", {})}
        content = {"name": "g", "task": "binary", "target": "y", "metric": "roc_auc", **goal, "data": data}
        self.goal = Goal.model_validate(content)
        self.project, self.results = project, dict[str, TaskResult]()
        self.results["version_data"], _ = play(version_data.runbook(self.inputs), self.answer)
        self.result, calls = play(check_data.runbook(self.inputs), self.answer)
        self.evidence = Evidence(tuple(calls), self.inputs)

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.goal, self.results)

    def answer(self, tool: str, action: str, given: dict[str, Any]) -> ToolResult:
        """The call with what the gateway would fill in from the goal."""
        from tools.core.arguments import bound_arguments
        from tools.registry import load_spec

        if action == "version_data":  # DVC's part, which takes seconds, has its own tests
            return ToolResult(status=Status.OK, data=data_like(VersionedData, version="v"))
        known = self.goal.bound(0)
        bound = bound_arguments(load_spec(tool).action(action).args)
        filled = {name: known[kind.name] for name, kind in bound.items() if kind.name}
        if action == "stage_data" and "time_column" not in given:
            filled.pop("read", None)
        return self.project.call(tool, action, **{**filled, **given})

    @property
    def words(self) -> str:
        return " ".join(self.result.critical)


FLAG = "y_flag"


def flagged(rows: int, seed: int) -> pd.DataFrame:
    made = table(rows, seed)
    return made.assign(**{FLAG: (made["y"] == "yes").astype(int)})


def test_a_column_that_tells_the_label_stops_a_run_until_it_is_dropped_or_accepted(project: Project) -> None:
    files = flagged(300, 1), flagged(300, 2)
    stopped = Checked(project, *files)
    assert not stopped.result.usable and f"{FLAG}: it tells the target by itself" in stopped.words
    # Nobody can claim that it passed: the guardrail holds a result against what the check returned.
    claimed = stopped.result.model_copy(update={"usable": True, "critical": []})
    assert any("passed=False" in problem for problem in check_data.guardrail(claimed, stopped.evidence))
    for data in ({"accept": [f"leak:{FLAG}"]}, {"accept": ["leak"]}, {"drop": [FLAG]}):
        assert Checked(project, *files, data=data).result.usable, data
    assert "accepted by the goal" in Checked(project, *files, data={"accept": ["leak"]}).result.summary
    assert not Checked(project, *files, data={"accept": ["leak:a"]}).result.usable


def test_rows_of_the_reference_in_the_current_data_stop_a_run(project: Project) -> None:
    old, new = table(300, 1), table(300, 2)
    both = pd.concat([old.iloc[:60], new], ignore_index=True)
    assert "60 of the 360 current rows are also in the reference" in Checked(project, old, both).words
    assert Checked(project, old, both, data={"accept": ["shared_rows"]}).result.usable
    assert Checked(project, old, new).result.usable


def test_labels_in_another_spelling_are_one_label_from_staging_to_evaluation(
    project: Project, mlflow_database: Path
) -> None:
    old, new = table(300, 1), table(300, 2)
    new["y"] = new["y"].map({"yes": "YES ", "no": "No"})
    checked = Checked(project, old, new)
    staged = checked.results["version_data"]
    assert isinstance(staged, version_data.Result) and checked.result.usable, checked.words
    assert "'YES' (" in staged.summary and "The positive class is 'yes'" in staged.positive
    assert set(pd.read_parquet(project.root / staged.current_all)["y"]) == {"yes", "no"}
    # And without staging, as an outside client may: the raw files mean the same to training and to evaluation.
    store = project.ctx.home / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    (store / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    shared = {"target": "y", "task": "binary", "metric": "accuracy"}
    trained = project.ok("mlflow", "train_model", train=["r.csv"], **shared)
    raw = project.ok("mlflow", "evaluate_model", model_uri=trained["model_uri"], data="c.csv", **shared)
    read = project.ok("mlflow", "evaluate_model", model_uri=trained["model_uri"], data=staged.current_all, **shared)
    assert raw["value"] == read["value"] > 0.7 and raw["positive"].casefold() == "yes"
    files = {"data": "c.csv", "reference": "r.csv"}
    assert project.ok("great_expectations", "validate", **files, target="y", task="binary")["passed"]


def test_an_unknown_class_is_refused_with_the_setting_that_gives_it_a_meaning(project: Project) -> None:
    old, new = table(300, 1), table(300, 2)
    new["y"] = new["y"].map({"yes": "churned", "no": "stayed"})
    refused = Checked(project, old, new)
    assert "it has 'no', 'yes'" in refused.words and "`data.labels`" in refused.words
    meant = {"labels": {"churned": "yes", "stayed": "no"}}
    assert Checked(project, old, new, data=meant).result.usable
    stated = {**goal_of().model_dump(), "data": {"source": "x.csv", "labels": {True: 1}}}  # yes: 1, as YAML reads it
    assert Goal.model_validate(stated).data.labels == {"True": "1"}


def test_an_empty_target_of_the_reference_counts_as_one_of_the_current_data(project: Project) -> None:
    old, new = table(400, 1), table(300, 2)
    few, many = old.copy(), old.copy()
    few.loc[:7, "y"] = None
    many.loc[(many["y"] == "no") & (many.index % 5 > 0), "y"] = None
    assert "missing in 8 of the 400 rows of the reference" in Checked(project, few, new).words
    aside = Checked(project, few, new, data={"on_bad_rows": "quarantine"})
    assert aside.result.usable and aside.result.quarantined_rows == 8, aside.words
    assert check_data.guardrail(aside.result, aside.evidence) == []
    refused = Checked(project, many, new, data={"on_bad_rows": "quarantine"})
    assert not refused.result.usable and "are not set aside: the target 'y' is bad in" in refused.words
    assert check_data.guardrail(refused.result, refused.evidence) == []
    granted = {grant.call for grant in check_data.grants(aside.inputs, aside.evidence)}
    assert {"dvc.stage_data", "dvc.version_data"} <= granted


def test_bad_rows_that_hold_a_class_are_not_set_aside(project: Project) -> None:
    old, new = table(400, 1), table(400, 2)
    new.loc[new["y"] == "yes", "a"] = None  # more than the share that is allowed, all of one class
    refused = Checked(project, old, new, data={"on_bad_rows": "quarantine"})
    assert "would remove the class 'yes'" in refused.words and "biased_quarantine" in refused.words


def test_a_target_in_another_unit_stops_a_run(project: Project) -> None:
    old, new = (
        table(300, seed).assign(y=lambda frame: (1000 + 200 * frame["a"]).round(2) + frame["b"]) for seed in (1, 2)
    )
    goal: dict[str, Any] = {"task": "regression", "metric": "mae", "data": {"accept": ["leak"]}}
    assert Checked(project, old, new, **goal).result.usable
    cents = new.assign(y=new["y"] * 100)
    assert "times larger as a whole" in Checked(project, old, cents, **goal).words
    infinite = new.assign(y=new["y"].where(new.index % 60 > 0, np.inf))
    assert "infinite in 5 of the 300 rows" in Checked(project, old, infinite, **goal).words
    goal["data"] = {"accept": ["leak"], "on_bad_rows": "quarantine"}
    assert Checked(project, old, infinite, **goal).result.quarantined_rows == 5


PERFECT = "It is too good to be true: not one of 100 rows is predicted wrong."


def goal_of(*accept: str) -> Goal:
    content = {"name": "g", "task": "binary", "target": "y", "metric": "roc_auc"}
    return Goal.model_validate({**content, "data": {"source": "x.csv", "accept": list(accept)}})


def call_of(name: str, model: Any, status: Status = Status.OK, given: Any = None, **data: Any) -> Any:
    tool, _, action = name.partition(".")
    result = ToolResult(status=status, data=data_like(model, **data) if status is Status.OK else None)
    return tool, action, given or {}, result


@pytest.mark.parametrize("accept", [(), ("perfect_score",)])
def test_a_baseline_without_an_error_becomes_no_champion_unless_the_goal_accepts_it(
    accept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"reference": "r.parquet", "reference_all": "ra.parquet", "current_all": "ca.parquet"}
    monkeypatch.setattr("tasks.establish_champion.slices", lambda inputs: files)
    inputs = Inputs(goal_of(*accept), {})
    none = call_of("mlflow.get_champion", TrainedModel, Status.NO_DATA)
    trained = call_of("mlflow.train_model", TrainedModel, model_uri="models:/m", too_good=PERFECT)
    evidence = Evidence((none, call_of("mlflow.list_versions", TrainedModel, Status.NO_DATA), trained), inputs)
    granted = {grant.call for grant in establish_champion.grants(inputs, evidence)}
    assert ("mlflow.register_model" in granted) is bool(accept)
    claimed = establish_champion.Result(version=1, model_uri="models:/m", trained_now=True, summary="s")
    problems = establish_champion.guardrail(claimed, evidence)
    assert ("usable is True" in problems[0]) is not bool(accept)
    honest = claimed.model_copy(update={"usable": False, "version": 0, "model_uri": ""})
    assert (establish_champion.guardrail(honest, evidence) == []) is not bool(accept)


@pytest.mark.parametrize("accept", [(), ("perfect_score",)])
def test_a_challenger_without_an_error_is_not_released_unless_the_goal_accepts_it(accept: tuple[str, ...]) -> None:
    seen = Evaluation.model_validate(data_like(Evaluation, too_good=PERFECT, value=1.0))
    goal = goal_of(*accept)
    assert train_challenger.broken_constraints(goal, seen) == ([] if accept else [PERFECT.rstrip(".")])
    slices = {"holdout": "h.parquet"}
    checked = check_data.Result(
        usable=True, quarantined_rows=0, critical=[], warnings=0, slices=slices, live_rows=0, summary=""
    )
    given = {"model_uri": "models:/m", "data": "h.parquet"}
    calls = (
        call_of("mlflow.train_model", TrainedModel, model_uri="models:/m"),
        call_of("mlflow.evaluate_model", Evaluation, given=given, too_good=PERFECT),
        call_of("judge.compare_models", ModelComparison, better=True, challenger_digest="d"),
    )
    claimed = train_challenger.Result(
        better=True,
        model_uri="models:/m",
        champion_value=0.5,
        challenger_value=1.0,
        broken_constraints=[],
        challenger_digest="d",
        summary="s",
    )
    problems = train_challenger.guardrail(claimed, Evidence(calls, Inputs(goal, {"check_data": checked})))
    assert (problems == []) is bool(accept)


def test_late_labels_of_another_program_are_read_as_those_of_the_models() -> None:
    ids = [f"r{number}" for number in range(4)]
    evidence = pd.DataFrame({"request_id": ids, "y_true": pd.Series([None] * 4, dtype=object)})
    for variant in ("champion", "challenger"):
        evidence[f"{variant}_status"] = 200
        evidence[f"{variant}_prediction"] = ["yes", "no", "yes", "no"]
        evidence[f"{variant}_classes"] = [["no", "yes"]] * 4
        evidence[f"{variant}_probabilities"] = [[0.2, 0.8], [0.9, 0.1]] * 2
        evidence[[f"{variant}_loss", f"{variant}_error"]] = np.nan
    for told in (["YES ", "NO", "Yes", "yes"], [True, False, True, True], [1, 0, 1, 1]):
        found = record(evidence, pd.DataFrame({"request_id": ids, "label": told}), "binary")
        assert found.recorded == 4 and found.table["y_true"].tolist() == ["yes", "no", "yes", "yes"]
        assert found.table["champion_error"].tolist() == [0.0, 0.0, 0.0, 1.0]
        # What comes again in yet another spelling is no other label.
        again = record(found.table, pd.DataFrame({"request_id": ids, "label": ["yes", "no", "yes", "yes"]}), "binary")
        assert again.recorded == again.changed == 0
