"""The serving engine as a user meets it: real processes, real HTTP, real models, and what can go wrong with each."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Project
from tests.helpers import odd_models
from tools.core.errors import FinalError, FixableError
from tools.core.results import Status
from tools.integrations.serving.labels import record
from tools.integrations.serving.routing import CHALLENGER, route
from tools.integrations.serving.state import Canary, ModelRef, ProductionState, load_state, save_state
from tools.integrations.serving.traffic import records_of
from tools.modeling.metrics import row_losses
from tools.modeling.models import build, default_config
from tools.modeling.predictor import SklearnPredictor

# What MLflow's own import and its database set-up warn about, in this process.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:sqlalchemy"),
]

ROWS = 400
TIMEOUT_S = 4.0  # far more than a busy machine needs, so that only what hangs is too slow
BRIEF_COLUMNS = [
    "request_id",
    "served_by",
    "y_true",
    *(
        f"{variant}_{what}"
        for what in ("prediction", "probability", "loss", "error", "latency_ms", "status")
        for variant in ("champion", "challenger")
    ),
    "batch",
]


def live_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": rng.normal(100, 20, ROWS),
            "plan": rng.choice(["basic", "plus"], ROWS),
            "since": pd.date_range("2025-01-01", periods=ROWS, freq="h"),
            "active": rng.random(ROWS) > 0.5,
        }
    )
    noise = rng.normal(0, 20, ROWS)
    table["churned"] = np.where(table["amount"] + noise > 100, "yes", "no")
    table["level"] = pd.cut(table["amount"] + noise, [-1e9, 90, 110, 1e9], labels=["low", "mid", "high"]).astype(str)
    table["spend"] = 3.0 * table["amount"] + noise
    table.loc[3, "amount"] = np.nan
    table.loc[4, "plan"] = None
    table.loc[5, "plan"] = "never seen in training"
    return table


TARGETS = {"churned": "binary", "level": "multiclass", "spend": "regression"}
FEATURES = ["amount", "plan", "since", "active"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[dict[str, str]]:
    """The addresses of logged models, and the live table, by name; their store is the configured one."""
    from mlflow.sklearn import save_model

    folder = tmp_path_factory.mktemp("models")
    shutil.copyfile(mlflow_database, folder / "mlflow.db")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    table = live_table()
    table.to_parquet(folder / "live.parquet")
    paths = {"live": folder / "live.parquet"}
    for target, task in TARGETS.items():
        for version, rows in (("1", table.iloc[20:120]), ("2", table.iloc[20:])):
            config = default_config(task, "linear")  # type: ignore[arg-type]
            model = build(config, task, rows[FEATURES], 0).fit(rows[FEATURES], rows[target])  # type: ignore[arg-type]
            paths[f"{target}{version}"] = folder / f"{target}{version}"
            save_model(model, folder / f"{target}{version}", serialization_format="cloudpickle", pip_requirements=["x"])
    for kind in (odd_models.Raising, odd_models.Hanging, odd_models.Exiting, odd_models.Nan, odd_models.Slow):
        name = kind.__name__.lower()
        paths[name] = folder / name
        odd_models.save(kind(), str(paths[name]))
    paths["broken"] = folder / "broken"
    paths["broken"].mkdir()
    (paths["broken"] / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: gone.pkl\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        found = {name: logged(store, folder, path) for name, path in paths.items() if name != "live"}
        yield {**found, "live": str(paths["live"]), "store": store}


def logged(store: str, folder: Path, model: Path) -> str:
    """A saved model as one of the store."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("models")
    place = experiment.experiment_id if experiment else client.create_experiment("models", str(folder / "artifacts"))
    made = client.create_logged_model(place, name="model")
    client.log_model_artifacts(made.model_id, str(model))
    client.finalize_logged_model(made.model_id, "READY")
    return f"models:/{made.model_id}"


@pytest.fixture
def project(tmp_path: Path, models: dict[str, str]) -> Iterator[Project]:
    """A project that reads the live table."""
    made = Project(tmp_path, data=[Path(models["live"]).parent])
    yield made
    for backend in made.backends.values():
        backend.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Iterator[Project]:
    """One engine for all tests that leave it running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVING_CHALLENGER_TIMEOUT_S", str(TIMEOUT_S))
        patch.delenv("SERVING_PORT", raising=False)
        project = Project(tmp_path_factory.mktemp("shared"), data=[Path(models["live"]).parent])
        yield project
        for backend in project.backends.values():
            backend.close()


@pytest.fixture
def served(shared: Project, models: dict[str, str]) -> Project:
    """Version 1 of the binary model serves everything."""
    shared.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    return shared


def canary(project: Project, model: str, percent: float = 20.0, version: str = "2") -> dict[str, Any]:
    return project.ok("serving", "start_canary", model_uri=str(model), version=version, percent=percent)


def traffic(project: Project, models: dict[str, str], target: str = "churned", **more: Any) -> dict[str, Any]:
    arguments = {"data": models["live"], "target": target, "task": TARGETS[target], "rows": 40, **more}
    return project.ok("serving", "send_traffic", **arguments)


def evidence_of(project: Project, result: dict[str, Any], batch: int = 0) -> Any:
    table = pd.read_parquet(project.root / result["evidence_path"])
    return table[table["batch"] == batch].reset_index(drop=True)


def group(leader: int) -> list[int]:
    """Living processes of a process group."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for_end(leader: int, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while group(leader):
        assert time.monotonic() < deadline, f"still there: {group(leader)}"


# --- answers


def test_http_answers_are_those_of_the_model_itself(served: Project, models: dict[str, str]) -> None:
    from mlflow.sklearn import load_model

    url = served.ok("serving", "status")["url"]
    rows = live_table()[FEATURES].head(8)
    body = {"rows": json.loads(rows.to_json(orient="records", date_format="iso", double_precision=15))}
    answer = httpx.post(f"{url}/predict", json=body).raise_for_status().json()
    model: Any = load_model(str(Path(models["live"]).parent / "churned1"))
    assert answer["predictions"] == model.predict(rows).tolist()
    assert np.allclose(answer["probabilities"], model.predict_proba(rows))
    assert answer["classes"] == ["no", "yes"]
    assert answer["served_by"] == "champion"
    assert answer["model"]["version"] == "1"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"nonsense", b'{"rows": []}', b'{"rows": [1]}', b'{"rows": [{}]}', b'{"rows": "x"}',
        b'{"rows": [{"amount": NaN}]}', b'{"rows": [{"amount": 1e999}]}', b'{"rows": [{"amount": 1' + b"0" * 20 + b"}]}",  # noqa: E501
        b'{"rows": [{"amount": ' + b"[" * 5000 + b"]" * 5000 + b"}]}", b'{"rows": [{"amount": {"a": 1}}]}',
        b'{"rows": [{"amount": 1, "amount": 2}]}', b'{"rows": [{"plan": "\\ud800"}]}', b'{"rows": [{"plan": "\xff"}]}',
        b'{"rows": [{"amount": 1}], "request_id": "a b"}', b'{"rows": [{"amount": 1}], "request_id": {"a": 1}}',
        b'{"rows": [{"amount": 1}], "unit": [1]}', b'{"rows": [' + b'{"amount": 1},' * 1000 + b'{"amount": 1}]}',
    ],
)  # fmt: skip
def test_a_request_of_the_wrong_form_is_status_400_with_the_right_form(served: Project, body: bytes) -> None:
    url = served.ok("serving", "status")["url"]
    response = httpx.post(f"{url}/predict", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"] and "Error" not in response.text and "Traceback" not in response.text


def test_the_engine_answers_to_its_own_name_only_and_to_no_web_page(served: Project) -> None:
    url = served.ok("serving", "status")["url"]
    body = {"rows": [{"amount": 1}]}
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ):
        assert httpx.post(f"{url}/predict", json=body, headers=headers).status_code == status, headers
    assert httpx.get(f"{url}/metrics", headers={"Host": "evil.example"}).status_code == 421
    assert httpx.post(f"{url}/predict", content=b" " * (10 * 2**20 + 1), headers=JSON).status_code == 413


def test_an_answer_tells_no_path_and_the_status_needs_the_token(served: Project) -> None:
    url = served.ok("serving", "status")["url"]
    answer = httpx.post(f"{url}/predict", json={"rows": [{"amount": 1}]})
    wrong = httpx.post(f"{url}/predict", json={"rows": [{"other": 1}]})
    for text in (answer.text, wrong.text, httpx.get(f"{url}/healthz").text):
        assert str(served.root) not in text and "Traceback" not in text
    assert httpx.get(f"{url}/status").status_code == 401


def test_state_and_shadow_records_are_their_owners_alone(served: Project, models: dict[str, Path]) -> None:
    canary(served, models["churned2"])
    traffic(served, models, rows=3, batch=60)
    folder = served.ctx.store("serving")
    for name in ("state.json", "shadow.jsonl", "engine.log", "engine.lock"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name


def test_requests_of_others_under_the_crews_numbers_are_no_evidence(served: Project, models: dict[str, Path]) -> None:
    url = canary(served, models["churned2"], percent=30)["url"]
    first = evidence_of(served, traffic(served, models, rows=5, batch=61, seed=9), batch=61)
    forged = ["9-62-0", "9-62-1", *first["request_id"]]
    for name in forged:
        assert httpx.post(f"{url}/predict", json={"rows": [{"amount": 1e6}], "request_id": name}).status_code == 200
    second = evidence_of(served, traffic(served, models, rows=5, batch=62, seed=9), batch=62)
    assert not set(second["request_id"]) & set(forged)
    secrets = {str(name).rsplit("-", 1)[1] for name in [*first["request_id"], *second["request_id"]]}
    assert len(secrets) == 2 and all(len(secret) == 32 for secret in secrets)


def test_an_id_that_was_answered_twice_fails_its_batch() -> None:
    records = [{"request_id": name} for name in ("a", "other", "b", "a")]
    with pytest.raises(FinalError, match="under the id a"):
        records_of(records, ["a", "b"])
    assert set(records_of(records[:3], ["a", "b"])) == {"a", "b"}


def test_a_label_is_not_given_to_two_rows_of_one_id() -> None:
    table = pd.DataFrame({"request_id": ["a", "a"], "y_true": [None, None]})
    with pytest.raises(FixableError, match="twice"):
        record(table, pd.DataFrame({"request_id": ["a"], "label": ["yes"]}), "binary")


def test_rows_a_model_cannot_use_are_status_500_and_the_next_request_is_answered(served: Project) -> None:
    url = served.ok("serving", "status")["url"]
    assert httpx.post(f"{url}/predict", json={"rows": [{"other": 1}]}).status_code == 500
    assert httpx.post(f"{url}/predict", json={"rows": [{"amount": 1}]}).status_code == 200


@pytest.mark.parametrize("action", ["deploy", "canary", "traffic", "promote", "rollback", "drain"])
def test_administration_needs_the_token(served: Project, action: str) -> None:
    url = served.ok("serving", "status")["url"]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert httpx.post(f"{url}/admin/{action}", json={}, headers=headers).status_code == 401


def test_deploying_what_is_deployed_changes_nothing(served: Project, models: dict[str, str]) -> None:
    again = served.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    assert again["changed"] is False


# --- canary, shadow scoring, evidence


@pytest.mark.parametrize("target", TARGETS)
def test_evidence_holds_the_losses_of_both_models_for_every_row(
    shared: Project, models: dict[str, str], target: str
) -> None:
    from mlflow.sklearn import load_model

    first, second = models[f"{target}1"], models[f"{target}2"]
    shared.ok("serving", "deploy_model", model_uri=str(first), version=f"{target}-1")
    canary(shared, second, version=f"{target}-2")
    result = traffic(shared, models, target, start=1)
    evidence = evidence_of(shared, result)
    assert list(evidence.columns)[: len(BRIEF_COLUMNS)] == BRIEF_COLUMNS
    assert len(evidence) == result["requests"] == 40
    rows = live_table().iloc[1:41]
    for variant, path in (("champion", first), ("challenger", second)):
        predictions = SklearnPredictor(load_model(str(path))).predict(rows[FEATURES])
        loss, error = row_losses(TARGETS[target], rows[target], predictions)  # type: ignore[arg-type]
        assert np.allclose(evidence[f"{variant}_loss"], loss)
        assert np.allclose(evidence[f"{variant}_error"], error)
        assert (evidence[f"{variant}_status"] == 200).all()
        assert (evidence[f"{variant}_latency_ms"] > 0).all()
        assert result[variant]["mean_loss"] == pytest.approx(float(np.mean(loss)))
        if target == "churned":
            assert predictions.positive_probability is not None
            assert np.allclose(evidence[f"{variant}_probability"], predictions.positive_probability)
        else:
            assert evidence[f"{variant}_probability"].isna().all()
    assert evidence["champion_loss"].sum() != pytest.approx(evidence["challenger_loss"].sum())


def test_routing_is_the_hash_of_the_request_and_repeats_with_the_seed(served: Project, models: dict[str, str]) -> None:
    canary(served, models["churned2"], percent=30)
    first = evidence_of(served, traffic(served, models, batch=1, seed=5), batch=1)
    again = evidence_of(served, traffic(served, models, batch=1, seed=5), batch=1)
    assert len(again) == len(first) == 40
    assert again["routed_to"].tolist() == first["routed_to"].tolist()
    assert first["routed_to"].tolist() == [route(f"5-1-{row}", 0, 30) for row in range(40)]
    other = evidence_of(served, traffic(served, models, batch=2, seed=6), batch=2)
    assert other["routed_to"].tolist() != first["routed_to"].tolist()


def test_route_is_sticky_and_keeps_its_share() -> None:
    ids = [f"user-{k}" for k in range(20_000)]
    at_five = {name for name in ids if route(name, 1, 5) == CHALLENGER}
    at_twenty = {name for name in ids if route(name, 1, 20) == CHALLENGER}
    assert len(at_five) == pytest.approx(1_000, rel=0.15)
    assert at_five < at_twenty
    assert not any(route(name, 1, 0) == CHALLENGER for name in ids)
    assert all(route(name, 1, 100) == CHALLENGER for name in ids)


def test_traffic_share_can_be_changed_and_shows_in_the_metrics(served: Project, models: dict[str, str]) -> None:
    canary(served, models["churned2"], percent=5)
    url = served.ok("serving", "set_traffic", percent=100)["url"]
    result = traffic(served, models, rows=10, batch=3)
    assert (result["champion"]["served"], result["challenger"]["served"]) == (0, 10)
    values = metrics(url)
    assert values["mlops_traffic_share", "challenger"] == 1.0
    assert values["mlops_model_info", "challenger"] == 1.0


def metrics(url: str) -> dict[tuple[str, str], float]:
    """Metric values summed by (sample name, variant)."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.labels.get("le", "+Inf") == "+Inf":
                key = (sample.name, sample.labels.get("variant", ""))
                found[key] = found.get(key, 0.0) + sample.value
    return found


def test_metrics_count_what_was_sent(served: Project, models: dict[str, str]) -> None:
    url = canary(served, models["churned2"], percent=30)["url"]
    before = metrics(url)
    result = traffic(served, models, batch=4)
    evidence = evidence_of(served, result, batch=4)
    after = metrics(url)
    moved = {key: after[key] - before.get(key, 0.0) for key in after}
    for variant, other in (("champion", "challenger"), ("challenger", "champion")):
        served_by = int((evidence["served_by"] == variant).sum())
        assert moved["mlops_requests_total", variant] == served_by > 0
        assert moved["mlops_request_latency_seconds_count", variant] == served_by
        assert moved["mlops_shadow_scores_total", other] == served_by
        assert moved["mlops_score_latency_seconds_count", variant] == 40
        assert moved["mlops_shadow_scores_left_out_total", variant] == 0
        assert moved["mlops_prediction_score_count", variant] == 40
    differing = int((evidence["champion_prediction"] != evidence["challenger_prediction"]).sum())
    assert moved["mlops_shadow_disagreements_total", ""] == differing > 0


def test_promotion_makes_the_canary_champion_and_repeating_it_is_harmless(
    served: Project, models: dict[str, str]
) -> None:
    canary(served, models["churned2"])
    wrong = served.call("serving", "promote_canary", version="3")
    assert wrong.error is not None and "not 3" in wrong.error.message
    promoted = served.ok("serving", "promote_canary", version="2")
    assert (promoted["champion_version"], promoted["canary_version"]) == ("2", None)
    assert served.ok("serving", "promote_canary", version="2")["changed"] is False
    assert load_state(served.ctx.store("serving")).champion == ModelRef(models["churned2"], "2")
    assert served.ok("serving", "end_probation")["changed"] is True
    assert served.ok("serving", "end_probation")["changed"] is False
    result = traffic(served, models, rows=5, batch=9)
    assert result["challenger"] is None
    assert evidence_of(served, result, batch=9)["challenger_loss"].isna().all()


def test_the_former_champion_scores_in_the_shadow_of_a_promotion_and_can_come_back_at_once(
    served: Project, models: dict[str, str]
) -> None:
    canary(served, models["churned2"])
    before = traffic(served, models, rows=10, batch=20)
    promoted = served.ok("serving", "promote_canary", version="2")
    assert (promoted["champion_version"], promoted["former_version"]) == ("2", "1")
    after = traffic(served, models, rows=10, start=10, batch=21)
    assert after["evidence_path"] == before["evidence_path"], "the evidence of the canary goes on"
    rows = evidence_of(served, after, batch=21)
    assert (rows["served_by"] == "challenger").all(), "in its roles: the challenger answers everybody now"
    assert (rows["champion_status"] == 200).all() and rows["champion_loss"].notna().all()
    refused = served.call("serving", "set_traffic", percent=10.0)
    assert refused.error is not None and "no canary" in refused.error.message
    back = served.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    assert (back["champion_version"], back["former_version"], back["changed"]) == ("1", None, True)
    assert load_state(served.ctx.store("serving")).canary is None


@pytest.mark.parametrize("target", list(TARGETS))
def test_labels_recorded_late_give_the_evidence_that_labels_at_once_give(
    shared: Project, models: dict[str, str], target: str
) -> None:
    shared.ok("serving", "deploy_model", model_uri=models[f"{target}1"], version=f"{target}1", name=target)
    canary(shared, models[f"{target}2"], version=f"{target}2")
    at_once = evidence_of(shared, traffic(shared, models, target, rows=30, batch=0))
    late = traffic(shared, models, target, rows=30, batch=0, label_delay=10)
    assert late["challenger"]["mean_loss"] is None
    assert evidence_of(shared, late)["y_true"].isna().all()
    arguments = {"evidence": late["evidence_path"], "task": TARGETS[target]}
    found = shared.ok("serving", "record_labels", labels=late["labels_path"], **arguments)
    assert (found["recorded"], found["labelled"], found["requests"]) == (20, 20, 30)
    assert shared.ok("serving", "record_labels", labels=late["labels_path"], **arguments)["recorded"] == 0
    # The rest comes from a team's own table, with a label for a request of somebody else and one that changed.
    ids = evidence_of(shared, late)["request_id"]
    own = pd.DataFrame({"request_id": ids.iloc[19:], "label": at_once["y_true"].iloc[19:]})
    own.loc[len(own)] = ["of another system", own["label"].iloc[0]]
    other = at_once["y_true"].iloc[:19][at_once["y_true"].iloc[:19] != at_once["y_true"].iloc[19]].iloc[0]
    own.iloc[0, 1] = other
    own.to_csv(shared.root / "labels.csv", index=False)
    found = shared.ok("serving", "record_labels", labels="labels.csv", **arguments)
    assert (found["recorded"], found["labelled"], found["unknown"], found["changed"]) == (10, 30, 1, 1)
    full = evidence_of(shared, late)
    assert full["labelled_after"].tolist() == [30.0] * 30
    assert full["label_batch"].tolist() == [0.0] * 20 + [1.0] * 10
    for column in [f"{who}_{what}" for who in ("champion", "challenger") for what in ("loss", "error")]:
        np.testing.assert_allclose(full[column], at_once[column], rtol=1e-6)


def test_only_evidence_of_a_run_takes_labels(project: Project) -> None:
    """The file is rewritten, so a table that lies elsewhere must stay what it is."""
    files = project.ctx.workspace
    table = pd.DataFrame(
        {"request_id": ["a"], "y_true": [None], "champion_prediction": ["no"], "challenger_prediction": ["no"]}
    )
    pd.DataFrame({"request_id": ["a"], "label": ["no"]}).to_csv(project.root / "labels.csv", index=False)
    for path in (project.root / "victim.parquet", files / "victim.parquet", files / "traffic" / "victim.parquet"):
        path.parent.mkdir(exist_ok=True)
        table.to_parquet(path)
        before = path.read_bytes()
        result = project.call("serving", "record_labels", evidence=str(path), labels="labels.csv", task="binary")
        assert result.error is not None and "is no evidence of a run" in result.message
        assert path.read_bytes() == before


def test_the_evidence_carries_a_segment_and_refuses_a_column_of_numbers(
    served: Project, models: dict[str, str]
) -> None:
    canary(served, models["churned2"])
    result = traffic(served, models, rows=6, batch=30, segment="plan")
    assert evidence_of(served, result, batch=30)["segment"].tolist()[4] == "none"
    refused = served.call(
        "serving", "send_traffic", data=models["live"], target="churned", task="binary", rows=5, segment="amount"
    )
    assert refused.error is not None and "at most 50" in refused.error.message


def test_rollback_leaves_the_champion_and_repeating_it_is_harmless(served: Project, models: dict[str, str]) -> None:
    canary(served, models["churned2"], percent=100)
    assert served.ok("serving", "rollback_canary")["changed"] is True
    assert served.ok("serving", "rollback_canary")["changed"] is False
    assert traffic(served, models, rows=5, batch=10)["champion"]["served"] == 5
    refused = served.call("serving", "set_traffic", percent=10)
    assert refused.error is not None and refused.error.kind == "fixable"


# --- challengers that misbehave


@pytest.mark.parametrize(("name", "statuses"), [("raising", {500}), ("nan", {500}), ("exiting", {503})])
def test_a_failing_challenger_never_costs_an_answer(
    served: Project, models: dict[str, str], name: str, statuses: set[int]
) -> None:
    url = canary(served, models[name], percent=30, version=name)["url"]
    before = metrics(url)
    result = traffic(served, models)
    evidence = evidence_of(served, result)
    assert result["failed_requests"] == 0
    assert (evidence["champion_status"] == 200).all()
    assert set(evidence["challenger_status"]) == statuses
    assert (evidence["served_by"] == "champion").all()
    routed = int((evidence["routed_to"] == "challenger").sum())
    assert routed > 0
    assert metrics(url)["mlops_requests_total", "challenger"] - before["mlops_requests_total", "challenger"] == routed
    assert result["challenger"]["errors"] == 40
    assert sum(result["fallbacks"].values()) == result["routed"] == result["challenger"]["late"] == routed
    assert set(evidence.loc[evidence["routed_to"] == "challenger", "fallback"]) <= {"failed", "lost", "slow"}
    assert f"the champion answered {routed} of the {routed} requests" in result["message"]
    assert evidence["challenger_loss"].isna().all()


def test_a_hanging_challenger_delays_no_answer_of_the_champion(served: Project, models: dict[str, str]) -> None:
    canary(served, models["hanging"], percent=20, version="hanging")
    result = traffic(served, models)
    evidence = evidence_of(served, result)
    assert (evidence["champion_status"] == 200).all()
    assert set(evidence["challenger_status"]) == {504, 503}
    own = evidence.loc[evidence["routed_to"] == "champion", "response_ms"]
    assert len(own) > 20
    assert own.quantile(0.9) < TIMEOUT_S * 1000
    assert served.ok("serving", "status")["challenger_state"] == "disabled"
    refused = served.call("serving", "promote_canary")
    assert refused.error is not None and "cannot be promoted" in refused.error.message
    assert served.ok("serving", "rollback_canary")["champion_version"] == "1"


def test_shadow_records_that_cannot_be_written_are_an_error_and_answers_go_on(
    served: Project, models: dict[str, str]
) -> None:
    canary(served, models["churned2"])
    shadow = served.ctx.store("serving") / "shadow.jsonl"
    shadow.unlink(missing_ok=True)
    shadow.symlink_to("/dev/full")  # a link is refused, whatever it points to
    try:
        arguments = {"data": models["live"], "target": "churned", "task": "binary", "rows": 5, "batch": 77}
        result = served.call("serving", "send_traffic", **arguments)
        assert result.error is not None
        assert "could not be written" in result.error.message
        url = served.ok("serving", "status")["url"]
        assert httpx.post(f"{url}/predict", json={"rows": [{"amount": 1}]}).status_code == 200
    finally:
        shadow.unlink()
    assert traffic(served, models, rows=5, batch=77)["requests"] == 5


# --- bad input


def test_a_model_from_outside_the_store_is_served_only_where_a_person_let_it(
    served: Project, models: dict[str, str], tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    stranger = download_artifacts(models["churned2"], dst_path=str(tmp_path), tracking_uri=models["store"])
    client = MlflowClient(models["store"])
    client.create_registered_model("strange")
    uri = f"models:/strange/{client.create_model_version('strange', stranger).version}"
    for action, more in (("deploy_model", {"name": "churn"}), ("start_canary", {"percent": 5.0})):
        refused = served.call("serving", action, model_uri=uri, version="7", **more)
        assert refused.error is not None and refused.error.outside_model == uri, refused
        assert "lie outside the configured store" in refused.message and "production is unchanged" in refused.message
    assert served.ok("serving", "status")["champion_version"] == "1"
    own, served.ctx = served.ctx, replace(served.ctx, outside_models=frozenset({uri}))
    try:
        assert served.ok("serving", "start_canary", model_uri=uri, version="7", percent=5.0)["canary_version"] == "7"
    finally:
        served.ctx = own
    served.ok("serving", "rollback_canary")


def test_a_model_that_cannot_be_loaded_changes_nothing(served: Project, models: dict[str, str]) -> None:
    for action in ("deploy_model", "start_canary"):
        result = served.call("serving", action, model_uri=models["broken"], version="9")
        assert result.error is not None and result.error.kind == "final"
        assert "cannot load" in result.error.message
    status = served.ok("serving", "status")
    assert (status["champion_version"], status["canary_version"]) == ("1", None)
    assert traffic(served, models, rows=3, batch=11)["failed_requests"] == 0


def test_a_path_without_a_model_and_a_registry_that_is_not_there_are_refused(served: Project) -> None:
    for uri in ("no/such/folder", str(Path(odd_models.__file__).parent), "http://127.0.0.1:9/m", "file:///m"):
        result = served.call("serving", "deploy_model", model_uri=uri, version="9")
        assert result.error is not None and result.error.kind == "fixable"
        assert "names no model of the configured store" in result.message
    gone = served.call("serving", "deploy_model", model_uri="models:/churn/3", version="9")
    assert gone.error is not None and "cannot load the model models:/churn/3" in gone.message


def test_the_champion_cannot_be_its_own_canary(served: Project, models: dict[str, str]) -> None:
    result = served.call("serving", "start_canary", model_uri=models["churned1"], version="1")
    assert result.error is not None and "already is the champion" in result.error.message


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [({"target": "nothing"}, "nothing"), ({"data": "gone.csv"}, "gone.csv"), ({"task": "ranking"}, "task")],
)
def test_traffic_from_wrong_arguments_is_refused(
    served: Project, models: dict[str, str], arguments: dict[str, str], needle: str
) -> None:
    valid = {"data": models["live"], "target": "churned", "task": "binary"}
    result = served.call("serving", "send_traffic", **{**valid, **arguments})
    assert result.error is not None and result.error.kind == "fixable"
    assert needle in result.error.message


def test_the_end_of_the_data_is_no_data(served: Project, models: dict[str, str]) -> None:
    last = traffic(served, models, start=ROWS - 2, batch=12)
    assert (last["requests"], last["rows_left"], last["next_start"]) == (2, 0, ROWS)
    arguments = {"data": models["live"], "target": "churned", "task": "binary", "start": ROWS}
    assert served.call("serving", "send_traffic", **arguments).status is Status.NO_DATA


def test_a_second_engine_on_the_same_state_is_refused(served: Project, models: dict[str, str]) -> None:
    other = Project(served.root, data=[Path(models["live"]).parent])
    result = other.call("serving", "deploy_model", model_uri=models["churned2"], version="2")
    assert result.error is not None and result.error.kind == "retry"
    assert "another" in result.error.message
    assert served.ok("serving", "status")["champion_version"] == "1"


def test_another_process_sees_the_canary_and_cannot_remove_it(served: Project, models: dict[str, str]) -> None:
    canary(served, models["churned2"], percent=20.0)
    other = Project(served.root, data=[Path(models["live"]).parent])
    status = other.ok("serving", "status")
    assert (status["running"], status["champion_version"], status["canary_version"]) == (True, "1", "2")
    assert "Another process" in status["message"] and "20 %" in status["message"]
    refused = other.call("serving", "rollback_canary")
    assert refused.error is not None and refused.error.kind == "retry"
    assert load_state(served.ctx.store("serving")).canary is not None
    assert served.ok("serving", "status")["canary_percent"] == 20.0
    served.ok("serving", "rollback_canary")


def test_after_a_restart_the_canary_is_gone_and_a_probation_goes_on(project: Project, models: dict[str, str]) -> None:
    """What a resumed run finds: it starts the canary again itself, and says again that it was promoted."""

    def restart() -> None:
        project.backends.pop("serving").close()

    project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    canary(project, models["churned2"])
    restart()
    again = project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    assert (again["champion_version"], again["canary_version"], again["changed"]) == ("1", None, False)
    canary(project, models["churned2"])
    project.ok("serving", "promote_canary", version="2")
    restart()
    assert project.ok("serving", "status")["running"] is False
    promoted = project.ok("serving", "promote_canary", version="2")
    assert (promoted["champion_version"], promoted["former_version"], promoted["changed"]) == ("2", "1", False)
    traffic(project, models, rows=10)
    project.ok("serving", "end_probation")
    restart()
    assert project.ok("serving", "promote_canary", version="2")["former_version"] is None


def test_nothing_deployed_is_said(project: Project, models: dict[str, str]) -> None:
    assert project.call("serving", "status").status is Status.NO_DATA
    for action in ("promote_canary", "rollback_canary"):
        result = project.call("serving", action)
        assert result.error is not None and result.error.kind == "fixable"
    arguments = {"data": models["live"], "target": "churned", "task": "binary"}
    result = project.call("serving", "send_traffic", **arguments)
    assert result.error is not None and "deploy_model" in result.error.message


def test_a_taken_port_is_named_with_the_way_out(
    project: Project, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        monkeypatch.setenv("SERVING_PORT", port)
        result = project.call("serving", "deploy_model", model_uri=models["churned1"], version="1")
    assert result.error is not None and result.error.kind == "needs_person"
    assert port in result.error.message
    assert "SERVING_PORT" in result.error.message


def test_a_state_that_cannot_be_written_is_an_error_and_nothing_is_deployed(
    project: Project, models: dict[str, str]
) -> None:
    (project.ctx.store("serving") / "state.json").mkdir()
    result = project.call("serving", "deploy_model", model_uri=models["churned1"], version="1")
    assert result.error is not None and "could not be written" in result.error.message
    url = project.backends["serving"]._engine.url
    assert httpx.post(f"{url}/predict", json={"rows": [{"amount": 1}]}).status_code == 503
    assert httpx.get(f"{url}/healthz").status_code == 503


def test_a_broken_state_file_is_for_a_person(project: Project) -> None:
    (project.ctx.store("serving") / "state.json").write_text("{")
    result = project.call("serving", "status")
    assert result.error is not None and result.error.kind == "needs_person"
    assert "state.json" in result.error.message


# --- life and death


def test_a_killed_engine_is_a_clear_error_and_the_next_deployment_serves_what_was_in_production(
    project: Project, models: dict[str, str]
) -> None:
    project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1")
    canary(project, models["churned2"])
    leader = project.ok("serving", "status")["pid"]
    assert len(group(leader)) >= 4
    os.kill(leader, signal.SIGKILL)
    arguments = {"data": models["live"], "target": "churned", "task": "binary"}
    for result in (project.call("serving", "send_traffic", **arguments), project.call("serving", "promote_canary")):
        assert result.error is not None and result.error.kind == "retry"
        assert "production state is intact" in result.error.message
    assert project.ok("serving", "status")["running"] is False
    # The canary was not finished: it is not resumed, and version 1 is served again before anything else.
    again = project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1")
    assert (again["changed"], again["champion_version"], again["canary_version"]) == (False, "1", None)
    assert load_state(project.ctx.store("serving")).canary is None
    assert traffic(project, models, rows=3)["challenger"] is None
    wait_for_end(leader)
    # Closing leaves nothing behind, not even a challenger in the middle of an endless prediction.
    url = canary(project, models["hanging"], percent=0)["url"]
    leader = project.ok("serving", "status")["pid"]
    assert httpx.post(f"{url}/predict", json={"rows": [{"amount": 1}]}).status_code == 200
    assert len(group(leader)) >= 4  # the engine, the host of models, and two of them
    project.backends["serving"].close()
    assert group(leader) == []
    assert load_state(project.ctx.store("serving")).champion == ModelRef(models["churned1"], "1")


PARENT = """
import sys, time
from pathlib import Path
from tools.core.contract import CallContext
from tools.core.dispatch import run_action
from tools.integrations.serving.spec import SPEC

root = Path(sys.argv[1])
ctx = CallContext(project=root, home=root / ".mlops", run_id="test")
backend = SPEC.load_backend({"MLFLOW_TRACKING_URI": sys.argv[3]})
run_action(SPEC, backend, "deploy_model", {"model_uri": sys.argv[2], "version": "1"}, ctx)
print(backend.status(None, ctx).pid, flush=True)
time.sleep(600)
"""


def test_the_engine_is_out_of_reach_of_ctrl_c_and_ends_with_its_killed_parent(
    tmp_path: Path, models: dict[str, str]
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), models["churned1"], models["store"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert parent.stdout is not None
    leader = int(parent.stdout.readline())
    assert len(group(leader)) >= 3
    assert leader not in group(parent.pid), "Ctrl-C in the terminal would reach the engine"
    parent.kill()
    parent.wait(20)
    parent.stdout.close()
    wait_for_end(leader)


def test_a_registered_version_is_served_from_the_embedded_store(
    project: Project, models: dict[str, str], mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shutil.copyfile(mlflow_database, project.ctx.store("mlflow") / "mlflow.db")
    task = {"target": "churned", "task": "binary", "metric": "roc_auc", "drop": ["level", "spend"]}
    config = {"family": "linear"}
    trained = project.ok("mlflow", "train_model", train=[models["live"]], config=config, **task)
    project.ok("mlflow", "register_model", model_uri=trained["model_uri"], name="churn")
    deployed = project.ok("serving", "deploy_model", model_uri="models:/churn/1", version="1", name="churn")
    assert deployed["champion_uri"] == "models:/churn/1"
    assert traffic(project, models, rows=3)["failed_requests"] == 0


def test_state_survives_a_crash_between_two_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ProductionState("churn", ModelRef("a", "1"))
    save_state(tmp_path, first)

    def crash(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="No space"):
            save_state(tmp_path, ProductionState("churn", ModelRef("b", "2"), Canary(ModelRef("c", "3"), 5.0, 1)))
    assert load_state(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
