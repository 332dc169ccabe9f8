"""MLflow and W&B: what the crew tracks, registers and reads back, with the real libraries."""

import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from tools.core.errors import CallCancelled
from tools.core.isolation import available
from tools.integrations.mlflow.tracking import Store
from tools.registry import load_spec


@pytest.fixture
def trials_path(tmp_path: Path) -> Path:
    """A study of 50 trials, one of which failed; trial 49 is the best."""
    trials = [
        {
            "number": number,
            "value": None if number == 7 else 0.5 + number / 100,
            "state": "fail" if number == 7 else "complete",
            "config": {"family": "hist_gradient_boosting", "window": "all", "params": {"max_depth": number % 6}},
            "duration_s": 0.1,
            "latency_ms": 1.5,
            "size_bytes": 4000,
        }
        for number in range(50)
    ]
    study = {"study": "architecture", "metric": "roc_auc", "direction": "maximize", "seed": 0, "engine": "optuna"}
    path = tmp_path / "trials.json"
    path.write_text(json.dumps(study | {"trials": trials, "best": 49}))
    return path


def test_a_study_becomes_one_offline_wandb_run_that_can_be_read_back(project: Any, trials_path: Path) -> None:
    logged = project.ok("wandb", "log_trials", trials_path=str(trials_path), project="loop")
    assert (logged["mode"], logged["trials"], logged["url"]) == ("offline", 50, None)
    listed = project.ok("wandb", "list_runs")["runs"]
    assert [(run["run_id"], run["project"], run["state"]) for run in listed] == [(logged["run_id"], "loop", "finished")]
    read = project.ok("wandb", "read_run", run_id=logged["run_id"])
    assert read["steps"] == 50
    assert read["config"]["direction"] == "maximize"
    assert read["summary"]["best_trial"] == 49
    assert read["summary"]["failed_trials"] == 1
    rows = [json.loads(line) for line in (project.root / read["history_path"]).read_text().splitlines()]
    assert rows[49]["best_roc_auc"] == pytest.approx(0.99)
    assert "roc_auc" not in rows[7]


def test_metrics_of_one_name_extend_one_wandb_run(project: Any) -> None:
    first = project.ok("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.1})
    second = project.ok("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.2})
    assert first["run_id"] == second["run_id"]
    assert second["step"] == 1
    read = project.ok("wandb", "read_run", run_id=first["run_id"])
    assert read["steps"] == 2
    assert read["summary"]["error_rate"] == 0.2
    refused = project.call("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.3}, step=1)
    assert refused.error.kind == "fixable"
    assert len(project.ok("wandb", "list_runs")["runs"]) == 1


def test_the_wandb_service_is_gone_after_close(project: Any) -> None:
    import psutil

    def services() -> list[psutil.Process]:
        return [child for child in psutil.Process().children(recursive=True) if "wandb-core" in child.name()]

    project.ok("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.1})
    assert services()
    project.backends["wandb"].close()
    assert not [process for process in services() if process.status() != psutil.STATUS_ZOMBIE]


def test_no_wandb_runs_is_no_data_and_says_where_it_looked(project: Any) -> None:
    assert project.call("wandb", "list_runs").status == "no_data"
    missing = project.call("wandb", "read_run", run_id="absent")
    assert missing.status == "no_data"
    assert ".mlops/wandb" in missing.error.tried


def test_a_trials_file_that_is_missing_or_wrong_is_fixable(project: Any, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"study": "s"}')
    (tmp_path / "empty.json").write_text("")
    for name in ("absent.json", "wrong.json", "empty.json"):
        result = project.call("wandb", "log_trials", trials_path=name)
        assert result.error.kind == "fixable", name
        assert name in result.message


def test_a_wandb_server_that_does_not_answer_fails_soon_and_names_it(project: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    result = project.call("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.1})
    assert result.error.kind == "retry"
    assert "127.0.0.1:9" in result.message
    assert "k" * 40 not in result.model_dump_json()


# MLflow --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(project: Any, mlflow_database: Path) -> Any:
    """A project on the embedded store."""
    shutil.copyfile(mlflow_database, project.ctx.store("mlflow") / "mlflow.db")
    return project


@pytest.fixture(params=["embedded", "server"])
def tracked(request: pytest.FixtureRequest) -> Any:
    """A project on each kind of store."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded")
    server = request.getfixturevalue("mlflow_server")
    request.getfixturevalue("monkeypatch").setenv("MLFLOW_TRACKING_URI", server.uri)
    return request.getfixturevalue("project")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model name of the test's own: the server is shared."""
    return re.sub(r"\W", "_", request.node.name)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Two months of simulated customers; half of the second is kept as holdout."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 600),
            "spend": rng.gamma(2.0, 20.0, 600),
            "plan": rng.choice(["basic", "plus", "team"], 600),
        }
    )
    frame["churn"] = np.where(frame["spend"] + 10 * rng.standard_normal(600) > 40, "yes", "no")
    frame.loc[5, "spend"] = np.nan
    paths = {"first": slice(0, 250), "second": slice(250, 450), "holdout": slice(450, 600)}
    for key, rows in paths.items():
        frame.iloc[rows].to_parquet(tmp_path / f"{key}.parquet")
    return {key: str(tmp_path / f"{key}.parquet") for key in paths}


TASK = {"target": "churn", "task": "binary", "metric": "roc_auc"}
SMALL = {"family": "hist_gradient_boosting", "params": {"iterations": 30}}


def logged_model(project: Any) -> str:
    """A logged model without files: enough for the registry, which only keeps its address."""
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput

    store = Store.from_settings(
        load_spec("mlflow").resolve_settings(os.environ), project.ctx.store("mlflow"), project.root
    )
    client = MlflowClient(store.tracking_uri)
    experiment = store.experiment_id(client)
    run = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return f"models:/{model.model_id}"


def versions(project: Any, name: str, count: int) -> None:
    for number in range(1, count + 1):
        made = project.ok("mlflow", "register_model", model_uri=logged_model(project), name=name, note=f"no {number}")
        assert made["version"] == number


def promote(project: Any, name: str, version: int, reason: str = "better") -> dict[str, Any]:
    return project.ok("mlflow", "promote_version", name=name, version=version, reason=reason)


def aliases(project: Any, name: str) -> dict[str, int]:
    listed = project.ok("mlflow", "list_versions", name=name)["versions"]
    return {alias: item["version"] for item in listed for alias in item["aliases"]}


def test_a_trained_model_is_registered_evaluated_and_found_again(tracked: Any, data: Any, name: str) -> None:
    trained = tracked.ok("mlflow", "train_model", train=[data["first"], data["second"]], config=SMALL, **TASK)
    assert 0.8 < trained["validation_value"] <= 1.0
    registered = tracked.ok("mlflow", "register_model", model_uri=trained["model_uri"], name=name)
    assert (registered["version"], registered["run_id"]) == (1, trained["run_id"])
    assert aliases(tracked, name) == {"challenger": 1}
    result = tracked.ok(
        "mlflow", "evaluate_model", model_uri=registered["model_uri"], data=data["holdout"], segment="plan", **TASK
    )
    assert result["value"] > 0.8
    assert result["rows"] == 150
    assert result["size_bytes"] == pytest.approx(trained["size_bytes"], rel=0.2)
    assert 0 < result["latency_ms_p50"] <= result["latency_ms_p95"]
    assert set(result["segments"]) == {"basic", "plus", "team"}
    scores = pd.read_parquet(tracked.root / result["scores_path"])
    assert list(scores.columns) == ["row", "y_true", "prediction", "probability", "loss", "error"]
    assert (scores["error"] == (scores["y_true"] != scores["prediction"])).all()
    runs = tracked.ok("mlflow", "search_runs", filter=f"attributes.run_id = '{trained['run_id']}'")["runs"]
    assert [(run["status"], run["metrics"]["roc_auc"]) for run in runs] == [("FINISHED", trained["validation_value"])]


def test_a_model_is_evaluated_with_its_fairness_gap_by_a_column_that_it_does_not_use(embedded: Any, data: Any) -> None:
    asked = {**TASK, "drop": [*TASK.get("drop", []), "plan"]}
    trained = embedded.ok("mlflow", "train_model", train=[data["first"]], config=SMALL, **asked)
    by_plan = {"model_uri": trained["model_uri"], "data": data["holdout"], "segment": "plan", **asked}
    result = embedded.ok("mlflow", "evaluate_model", gap="error_rate", **by_plan)
    scores = pd.read_parquet(embedded.root / result["scores_path"])
    plans = pd.read_parquet(embedded.root / data["holdout"])["plan"].to_numpy()
    rates = scores.groupby(plans)["error"].mean()
    assert scores.groupby(plans).size().min() >= 30
    assert result["fairness_gap"] == pytest.approx(rates.max() - rates.min())
    assert "Fairness gap (error_rate by plan)" in result["message"]
    assert embedded.ok("mlflow", "evaluate_model", **by_plan)["fairness_gap"] is None
    for wrong, words in (({"gap": "mae"}, "valid measures"), ({"gap": "error_rate", "segment": ""}, "name the column")):
        assert words in embedded.call("mlflow", "evaluate_model", **{**by_plan, **wrong}).message


def test_the_same_model_is_not_asked_twice_about_the_same_rows(
    embedded: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.modeling.model_host import IsolatedModel

    asked: list[int] = []
    of_old = IsolatedModel._asked  # pyright: ignore[reportPrivateUsage]

    def counted(self: IsolatedModel, *given: Any) -> bytes:
        asked.append(1)
        return of_old(self, *given)

    trained = embedded.ok("mlflow", "train_model", train=[data["first"]], config=SMALL, **TASK)
    of = {"model_uri": trained["model_uri"], "data": data["holdout"], **TASK}
    monkeypatch.setattr(IsolatedModel, "_asked", counted)
    first = embedded.ok("mlflow", "evaluate_model", **of)
    times = len(asked)
    assert embedded.ok("mlflow", "evaluate_model", **of) == first and len(asked) == times > 0
    assert embedded.ok("mlflow", "evaluate_model", **{**of, "metric": "accuracy"})["value"] != first["value"]
    assert len(asked) > times
    rows, scores = embedded.root / data["holdout"], embedded.root / first["scores_path"]
    written = scores.read_bytes()
    for changed in (rows, scores):  # rows that are others now; scores that somebody else wrote
        times = len(asked)
        pd.read_parquet(changed).iloc[:-10].to_parquet(changed)
        again = embedded.ok("mlflow", "evaluate_model", **of)
        assert len(asked) > times and again["rows"] == 140 and again["rows_digest"] != first["rows_digest"]
    assert scores.read_bytes() != written


def test_the_same_seed_trains_the_same_model(embedded: Any, data: Any) -> None:
    values = [
        embedded.ok("mlflow", "train_model", train=[data["first"]], config=json.dumps(SMALL), seed=3, **TASK)
        for _ in range(2)
    ]
    scored = [
        embedded.ok("mlflow", "evaluate_model", model_uri=v["model_uri"], data=data["holdout"], **TASK) for v in values
    ]
    assert values[0]["validation_value"] == values[1]["validation_value"]
    assert scored[0]["value"] == scored[1]["value"]
    assert scored[0]["scores_path"] != scored[1]["scores_path"]


def test_calls_leave_the_process_wide_mlflow_address_alone(embedded: Any, data: Any) -> None:
    import mlflow

    before = mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI")
    trained = embedded.ok("mlflow", "train_model", train=[data["first"]], config=SMALL, **TASK)
    embedded.ok("mlflow", "evaluate_model", model_uri=trained["model_uri"], data=data["holdout"], **TASK)
    assert (mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI")) == before


def test_promotion_moves_the_champion_and_remembers_the_previous_one(tracked: Any, name: str) -> None:
    versions(tracked, name, 2)
    assert tracked.call("mlflow", "get_champion", name=name).status == "no_data"
    first = promote(tracked, name, 1, "first model")
    assert (first["previous_version"], first["already_champion"]) == (None, False)
    second = promote(tracked, name, 2, "won the canary")
    assert second["previous_version"] == 1
    assert aliases(tracked, name) == {"champion": 2, "previous_champion": 1}
    champion = tracked.ok("mlflow", "get_champion", name=name)
    assert (champion["version"], champion["since"]) == (2, second["promoted_at"])
    again = promote(tracked, name, 2, "won the canary")
    assert (again["already_champion"], again["promoted_at"]) == (True, second["promoted_at"])
    back = promote(tracked, name, 1, "rolled back")
    periods = tracked.ok("mlflow", "production_history", name=name)["periods"]
    assert [(p["version"], p["reason"]) for p in periods] == [
        (1, "rolled back"),
        (2, "won the canary"),
        (1, "first model"),
    ]
    assert periods[0]["until"] is None
    assert periods[1]["until"] == periods[0]["since"] == back["promoted_at"]
    assert periods[2]["until"] == periods[1]["since"]


def test_a_retired_version_loses_the_challenger_alias_and_cannot_be_promoted(tracked: Any, name: str) -> None:
    versions(tracked, name, 2)
    promote(tracked, name, 1)
    retired = tracked.ok("mlflow", "retire_version", name=name, version=2, reason="worse on the canary")
    assert aliases(tracked, name) == {"champion": 1}
    again = tracked.ok("mlflow", "retire_version", name=name, version=2, reason="worse on the canary")
    assert (again["already_retired"], again["retired_at"]) == (True, retired["retired_at"])
    listed = tracked.ok("mlflow", "list_versions", name=name)["versions"]
    assert [(v["version"], bool(v["retired"]), v["note"]) for v in listed] == [(2, True, "no 2"), (1, False, "no 1")]
    refused = tracked.call("mlflow", "promote_version", name=name, version=2, reason="oops")
    assert refused.error.kind == "fixable"
    champion = tracked.call("mlflow", "retire_version", name=name, version=1, reason="oops")
    assert champion.error.kind == "fixable"
    assert aliases(tracked, name) == {"champion": 1}


def test_a_retired_previous_champion_can_come_back(embedded: Any, name: str) -> None:
    versions(embedded, name, 2)
    promote(embedded, name, 1)
    promote(embedded, name, 2)
    embedded.ok("mlflow", "retire_version", name=name, version=1, reason="lost")
    promote(embedded, name, 1, "version 2 failed in production")
    listed = embedded.ok("mlflow", "list_versions", name=name)["versions"]
    assert [(v["version"], v["retired"]) for v in listed] == [(2, None), (1, None)]


def test_a_backup_stands_by_until_it_is_promoted_or_retired(tracked: Any, name: str) -> None:
    versions(tracked, name, 3)
    promote(tracked, name, 1)
    for already in (False, True):
        found = tracked.ok("mlflow", "set_backup", name=name, version=3, reason="quality is expected to fall")
        assert found["already_backup"] is already
        assert aliases(tracked, name) == {"champion": 1, "backup": 3}  # it is no challenger any more
    tracked.ok("mlflow", "set_backup", name=name, version=2, reason="better on the newest rows")
    assert aliases(tracked, name) == {"champion": 1, "backup": 2}
    promote(tracked, name, 2)
    assert aliases(tracked, name) == {"champion": 2, "previous_champion": 1}
    tracked.ok("mlflow", "set_backup", name=name, version=3, reason="again")
    tracked.ok("mlflow", "retire_version", name=name, version=3, reason="lost")
    assert aliases(tracked, name) == {"champion": 2, "previous_champion": 1}
    for version, told in ((2, "champion"), (3, "retired"), (9, "versions: 3, 2, 1")):
        refused = tracked.call("mlflow", "set_backup", name=name, version=version, reason="x")
        assert refused.error.kind == "fixable" and told in refused.message


@pytest.mark.parametrize("step", range(8))
def test_a_promotion_that_crashes_at_any_step_leaves_a_champion_and_can_be_repeated(
    embedded: Any, name: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    versions(embedded, name, 2)
    promote(embedded, name, 1, "first")
    left = step

    def crashing(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise OSError("the process dies here")
            left -= 1
            return method(*args, **kwargs)

        return call

    with monkeypatch.context() as broken:
        for method in ("set_registered_model_alias", "set_registered_model_tag", "set_model_version_tag"):
            broken.setattr(MlflowClient, method, crashing(getattr(MlflowClient, method)))
        assert embedded.call("mlflow", "promote_version", name=name, version=2, reason="second").ok is (step == 7)
    before = embedded.ok("mlflow", "get_champion", name=name)["version"]
    assert before == (1 if step <= 1 else 2)
    history = embedded.ok("mlflow", "production_history", name=name)["periods"]
    assert [p["version"] for p in history] == ([1] if before == 1 else [2, 1])
    promote(embedded, name, 2, "second")
    assert aliases(embedded, name) == {"champion": 2, "previous_champion": 1}
    history = embedded.ok("mlflow", "production_history", name=name)["periods"]
    assert [(p["version"], p["reason"]) for p in history] == [(2, "second"), (1, "first")]


def test_history_says_when_the_alias_was_moved_outside(embedded: Any, name: str) -> None:
    from mlflow import MlflowClient

    versions(embedded, name, 3)
    promote(embedded, name, 1, "first")
    client = MlflowClient(f"sqlite:///{embedded.ctx.store('mlflow') / 'mlflow.db'}")
    client.set_registered_model_alias(name, "champion", "2")
    assert embedded.ok("mlflow", "get_champion", name=name)["since"] is None
    promote(embedded, name, 3, "third")
    periods = embedded.ok("mlflow", "production_history", name=name)["periods"]
    assert [(p["version"], p["since"] is None, p["until"] is None) for p in periods] == [
        (3, False, True),
        (2, True, False),
        (1, False, True),
    ]


def test_registering_a_model_twice_gives_the_same_version(embedded: Any, name: str) -> None:
    uri = logged_model(embedded)
    first = embedded.ok("mlflow", "register_model", model_uri=uri, name=name)
    second = embedded.ok("mlflow", "register_model", model_uri=f"runs:/{first['run_id']}/model", name=name)
    assert (first["is_new"], second["is_new"]) == (True, False)
    assert first["version"] == second["version"]


def test_what_does_not_exist_is_named_with_what_does(embedded: Any, name: str) -> None:
    versions(embedded, name, 1)
    for action, arguments, told in (
        ("promote_version", {"name": name, "version": 9, "reason": "x"}, "versions: 1"),
        ("promote_version", {"name": "absent", "version": 1, "reason": "x"}, name),
        ("promote_version", {"name": name, "version": 1, "reason": " "}, "reason"),
        ("retire_version", {"name": name, "version": 9, "reason": "x"}, "versions: 1"),
        ("register_model", {"model_uri": "nonsense", "name": name}, "valid"),
        ("register_model", {"model_uri": "models:/m-0123456789abcdef0123456789abcdef", "name": name}, "m-0123"),
        ("register_model", {"model_uri": "0" * 32, "name": name}, "0" * 32),
        ("search_runs", {"filter": "metrics.f1 >"}, "MLflow"),
    ):
        result = embedded.call("mlflow", action, **arguments)
        assert result.error.kind == "fixable", result
        assert told in result.message
    for action in ("get_champion", "list_versions", "production_history"):
        result = embedded.call("mlflow", action, name="absent")
        assert result.status == "no_data"
        assert "sqlite" in result.error.tried


def test_fifty_trials_become_nested_runs_in_three_requests_each(
    tracked: Any, trials_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = requests.Session.request

    def counted(session: Any, method: str, url: str, **kwargs: Any) -> Any:
        sent.append(url)
        return send(session, method, url, **kwargs)

    monkeypatch.setattr(requests.Session, "request", counted)
    logged = tracked.ok("mlflow", "log_trials", trials_path=str(trials_path), experiment="studies")
    assert len(sent) <= 3 * 50 + 10
    assert (logged["trials"], logged["failed"], logged["best_value"]) == (50, 1, pytest.approx(0.99))
    from mlflow import MlflowClient

    store = Store.from_settings(
        load_spec("mlflow").resolve_settings(os.environ), tracked.ctx.store("mlflow"), tracked.root
    )
    client = MlflowClient(store.tracking_uri)
    nested = client.search_runs(
        [store.experiment_id(client, "studies")],
        f"tags.`mlflow.parentRunId` = '{logged['run_id']}'",
    )
    assert len(nested) == 50
    assert sorted(run.info.status for run in nested).count("FAILED") == 1
    assert client.get_run(logged["best_run_id"]).data.params["params.max_depth"] == "1"


def test_bad_input_to_training_and_evaluation_is_fixable(embedded: Any, data: Any, tmp_path: Path) -> None:
    frame = pd.read_parquet(data["first"])
    frame.assign(churn="yes").to_parquet(tmp_path / "one_class.parquet")
    frame.assign(churn=None).to_parquet(tmp_path / "null.parquet")
    (tmp_path / "empty.csv").touch()
    for change in (
        {"train": []},
        {"train": ["absent.parquet"]},
        {"train": ["empty.csv"]},
        {"train": ["one_class.parquet"]},
        {"train": ["null.parquet"]},
        {"target": "absent"},
        {"drop": ["absent"]},
        {"metric": "mae"},
        {"config": {"family": "absent"}},
        {"trainer": "nonsense"},
        {"trainer": "command: absent-program"},
    ):
        arguments = {"train": [data["first"]], **TASK, **change}
        assert embedded.call("mlflow", "train_model", **arguments).error.kind == "fixable", change
    gone = embedded.call("mlflow", "evaluate_model", model_uri="models:/absent/1", data=data["holdout"], **TASK)
    assert gone.error.kind == "final"
    assert "absent" in gone.message


def test_a_model_whose_files_are_damaged_is_a_clear_error(embedded: Any, data: Any) -> None:
    trained = embedded.ok("mlflow", "train_model", train=[data["first"]], config=SMALL, **TASK)
    (model,) = (embedded.ctx.store("mlflow") / "artifacts").rglob("model.pkl")
    model.write_bytes(b"damaged")
    result = embedded.call("mlflow", "evaluate_model", model_uri=trained["model_uri"], data=data["holdout"], **TASK)
    assert result.error.kind == "final"
    assert "cannot load the model" in result.message


OWN_TRAINER = """
import os
import mlflow, mlflow.sklearn
import pandas as pd
from sklearn.linear_model import LogisticRegression

def train(train_data, target, task, metric, seed, drop, params):
    frame = pd.concat([pd.read_parquet(path) for path in train_data]).dropna()
    with mlflow.start_run():
        model = LogisticRegression(**params).fit(frame[["age", "spend"]], frame[target])
        mlflow.log_metric(metric, 0.75)
        saved = {"serialization_format": "cloudpickle", "pip_requirements": ["scikit-learn"]}
        mlflow.sklearn.log_model(model, name="mine", **saved)

if __name__ == "__main__":
    train(os.environ["MLOPS_TRAIN_DATA"].split(os.pathsep), os.environ["MLOPS_TARGET"], "", "roc_auc", 0, [], {})
"""


def test_the_users_own_function_trains_into_the_run_it_is_given(embedded: Any, data: Any) -> None:
    (embedded.root / "my_trainer.py").write_text(OWN_TRAINER)
    arguments = {"train": [data["first"], data["second"]], **TASK}
    trained = embedded.ok("mlflow", "train_model", trainer="my_trainer:train", config={"C": 0.5}, **arguments)
    assert trained["validation_value"] == 0.75
    assert trained["size_bytes"] > 500
    evaluation = {"model_uri": trained["model_uri"], "data": data["holdout"], "drop": ["plan"], **TASK}
    frame = pd.read_parquet(data["holdout"]).dropna()
    frame.to_parquet(data["holdout"])
    assert embedded.ok("mlflow", "evaluate_model", **evaluation)["value"] > 0.8


def test_the_users_own_command_trains_into_a_run_on_a_server(
    project: Any, mlflow_server: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    (project.root / "my_trainer.py").write_text(OWN_TRAINER)
    command = f"command: {shlex.quote(sys.executable)} my_trainer.py"
    trained = project.ok("mlflow", "train_model", train=[data["first"]], trainer=command, **TASK)
    assert trained["model_uri"].startswith("models:/m-")
    assert trained["size_bytes"] > 500


@pytest.mark.parametrize(("set_to", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_trainer_do_not_spin_unless_the_user_says_so(
    embedded: Any, data: Any, monkeypatch: pytest.MonkeyPatch, set_to: str | None, seen: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if set_to:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_to)
    (embedded.root / "told.py").write_text(
        "import os\ndef train(**_): print('policy', os.environ['OMP_WAIT_POLICY'])\n"
    )
    told = embedded.call("mlflow", "train_model", train=[data["first"]], trainer="told:train", **TASK)
    assert f"policy {seen}" in told.message


def test_a_users_trainer_that_fails_or_logs_no_model_is_a_clear_error(embedded: Any, data: Any) -> None:
    (embedded.root / "my_trainer.py").write_text("def quiet(**task): print('nothing to see')\n")
    arguments = {"train": [data["first"]], **TASK}
    failed = embedded.call("mlflow", "train_model", trainer="my_trainer:absent", **arguments)
    assert failed.error.kind == "final"
    assert "has no attribute 'absent'" in failed.message
    quiet = embedded.call("mlflow", "train_model", trainer="my_trainer:quiet", **arguments)
    assert quiet.error.kind == "final"
    assert "without logging a model" in quiet.message
    assert "nothing to see" in quiet.message
    runs = embedded.ok("mlflow", "search_runs")["runs"]
    assert [run["status"] for run in runs] == ["FAILED", "FAILED"]


def test_a_trainer_gets_neither_secrets_nor_a_way_to_the_gateways_state(
    embedded: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment, its log, and what it may open."""
    secrets = {
        "OPENAI_API_KEY": "qx7canaryOpenai1",
        "AWS_SECRET_ACCESS_KEY": "qx7canaryAws22",
        "DATABASE_URL": "postgresql://u:qx7canaryDb3@h/d",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    (embedded.root / ".env").write_text("GITHUB_TOKEN=qx7canaryGithub4\n")
    (embedded.root / "config").mkdir()
    (embedded.root / "config/policy.yaml").write_text("autonomy: observe\n")
    approvals = embedded.ctx.store("approvals") / "1.json"
    approvals.write_text("{}")
    (embedded.root / "told.sh").write_text(
        "env; cat .env; cat .mlops/approvals/1.json; echo x > .mlops/approvals/2.json; echo x > config/policy.yaml\n"
        "echo leak qx7canaryOpenai1; echo kept > $MLOPS_OUTPUT/kept; exit 3\n"
    )
    told = embedded.call("mlflow", "train_model", train=[data["first"]], trainer="command: sh told.sh", **TASK)
    assert "exit code 3" in told.message
    (log,) = embedded.ctx.workspace.glob("trainer_*.log")
    text = log.read_text()
    assert "MLOPS_TARGET=" in text and "leak [redacted" in text
    assert "qx7canary" not in text + told.message
    assert not any(f"{name}=" in text for name in secrets)
    assert log.stat().st_mode & 0o077 == 0
    (kept,) = embedded.ctx.workspace.glob("trainer_*/kept")
    assert kept.stat().st_mode & 0o077 == 0
    if available().landlock:
        assert (embedded.root / "config/policy.yaml").read_text() == "autonomy: observe\n"
        assert not approvals.with_name("2.json").exists()


def test_cancelling_ends_the_users_trainer_and_its_children(
    embedded: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr("tools.integrations.mlflow.trainer.STOP_GRACE_S", 0.5)

    script = embedded.root / "slow.sh"
    script.write_text("trap '' TERM\nsleep 300 &\necho $! $$ > $MLOPS_OUTPUT/pids\nwait\nsleep 300\n")

    def pids() -> list[str]:
        return next((path.read_text().split() for path in embedded.ctx.workspace.glob("trainer_*/pids")), [])

    def cancelled() -> bool:
        return len(pids()) == 2

    embedded.ctx = replace(embedded.ctx, is_cancelled=cancelled)
    with pytest.raises(CallCancelled):
        embedded.call("mlflow", "train_model", train=[data["first"]], trainer="command: sh slow.sh", **TASK)
    for pid in pids():
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    embedded.ctx = replace(embedded.ctx, is_cancelled=lambda: False)
    assert [run["status"] for run in embedded.ok("mlflow", "search_runs")["runs"]] == ["KILLED"]


def test_a_killed_mlflow_server_is_a_clear_error_soon_and_loses_nothing(
    project: Any, mlflow_server: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    versions(project, name, 2)
    promote(project, name, 1)
    mlflow_server.kill()
    try:
        started = time.perf_counter()
        result = project.call("mlflow", "promote_version", name=name, version=2, reason="better")
        assert time.perf_counter() - started < 60  # MLflow's own patience is a quarter of an hour
        assert result.error.kind == "retry"
        assert mlflow_server.uri in result.message
    finally:
        mlflow_server.start()
    assert aliases(project, name) == {"champion": 1, "challenger": 2}


def test_a_hanging_mlflow_server_is_a_clear_error_soon(
    project: Any, mlflow_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    assert "registered model" in load_spec("mlflow").load_backend(
        load_spec("mlflow").resolve_settings(os.environ)
    ).health(project.ctx)
    mlflow_server.signal(signal.SIGSTOP)
    try:
        started = time.perf_counter()
        result = project.call("mlflow", "get_champion", name="any")
        assert time.perf_counter() - started < 60
        assert result.error.kind == "retry"
    finally:
        mlflow_server.signal(signal.SIGCONT)


def test_nothing_is_printed(embedded: Any, data: Any, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    trained = embedded.ok("mlflow", "train_model", train=[data["first"]], config=SMALL, **TASK)
    embedded.ok("mlflow", "register_model", model_uri=trained["model_uri"], name=name)
    embedded.ok("mlflow", "evaluate_model", model_uri=trained["model_uri"], data=data["holdout"], **TASK)
    embedded.ok("wandb", "log_metrics", run_name="production", metrics={"error_rate": 0.1})
    assert capfd.readouterr().out == ""
