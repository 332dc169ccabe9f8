"""Champions that other tools made: each is found, evaluated, explained, served and scored beside a challenger, with the
probabilities that its own library gives."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tests.helpers.foreign_registry import client, register, rows, store_of
from tools.core.results import Status

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
KINDS = ["labels", "encoded", "pyfunc", "column", "array", "frame", "signature", "xgboost", "lightgbm"]
SHARED = {"target": "churned", "task": "binary"}
ASKED = {**SHARED, "drop": ["ts"]}
SENT = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("foreign")
    (root / ".mlops" / "mlflow").mkdir(parents=True)
    shutil.copyfile(mlflow_database, root / ".mlops" / "mlflow" / "mlflow.db")
    rows(400, seed=1).to_parquet(root / "reference.parquet")
    rows(400, seed=2).to_parquet(root / "current.parquet")
    made = Project(root)
    yield made
    for backend in made.backends.values():
        backend.close()


@pytest.fixture(scope="module")
def challenger(place: Project) -> str:
    trained = place.ok("mlflow", "train_model", train=["reference.parquet"], **ASKED, metric="roc_auc")
    return trained["model_uri"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_champion_of_another_tool_is_evaluated_explained_served_and_compared(
    place: Project, challenger: str, kind: str
) -> None:
    table, name = pd.read_parquet(place.root / "reference.parquet"), f"team_{kind}"
    version, chances = register(store_of(place.root), kind, name, table)
    client(store_of(place.root)).set_registered_model_alias(name, "Champion", str(version))

    champion = place.ok("mlflow", "get_champion", name=name)
    assert (champion["version"], champion["named_by"]) == (version, "alias Champion")
    uri = champion["model_uri"]
    files = ["reference.parquet", "current.parquet"]
    read = place.ok("mlflow", "read_output", model_uri=uri, data=files, **ASKED)
    assert read["labels"] == ["no", "yes"], read

    evaluated = place.ok("mlflow", "evaluate_model", model_uri=uri, data=files[0], metric="roc_auc", **ASKED)
    scores = pd.read_parquet(place.root / evaluated["scores_path"])
    assert scores["probability"].to_numpy() == pytest.approx(chances, abs=1e-5)
    assert set(scores["prediction"]) == {"no", "yes"} and evaluated["value"] > 0.7
    assert ("labels without probabilities" in evaluated["message"]) == (kind == "pyfunc")
    explained = place.ok("mlflow", "column_importance", model_uri=uri, data=files[0], **ASKED)
    assert explained["most_important"][0] == "amount"
    assert json.loads((place.root / explained["importance_path"]).read_text()).keys() == {"amount", "visits", "plan"}
    scored = place.ok("mlflow", "score_rows", model_uri=uri, data=files, **ASKED)
    assert pd.read_parquet(place.root / scored["scores_path"])["probability"].notna().all()

    place.ok("serving", "deploy_model", model_uri=uri, version=str(version), name=name)
    place.ok("serving", "start_canary", model_uri=challenger, version="99", percent=20)
    sent = place.ok("serving", "send_traffic", data=files[0], rows=SENT, **SHARED)
    evidence = pd.read_parquet(place.root / sent["evidence_path"])
    assert (sent["champion"]["errors"], sent["champion"]["scored"]) == (0, SENT)
    assert evidence["champion_probability"].to_numpy(dtype="float64") == pytest.approx(chances[:SENT], abs=1e-5)
    loss = scores["loss"].to_numpy()[:SENT]
    assert evidence["champion_loss"].to_numpy(dtype="float64") == pytest.approx(loss, abs=1e-4)


def test_nulls_where_the_signature_has_whole_numbers_are_told_with_column_and_rows(place: Project) -> None:
    table = rows(400, seed=3)
    version, _ = register(store_of(place.root), "signature", "team_holes", table)
    holes = table.astype({"visits": "float64"})
    holes.loc[10:29, "visits"] = np.nan
    holes.to_parquet(place.root / "holes.parquet")
    uri = f"models:/team_holes/{version}"
    refused = place.call("mlflow", "evaluate_model", model_uri=uri, data="holes.parquet", metric="roc_auc", **ASKED)
    assert (
        f"{uri} does not predict these rows: it cannot answer the 20 of 400 rows where visits is null"
        in refused.message
    )
    assert "max_null_share: 0" in refused.message and "basic" not in refused.message, "no rows of the table"


def test_what_an_answer_means_is_asked_for_and_the_goal_can_say_it(place: Project) -> None:
    table = rows(400, seed=4)
    turned = table.assign(churned=np.where(table["churned"] == "yes", "active", "lost"))  # 1, for lost, sorts last
    other = table.assign(churned=np.where(table["churned"] == "yes", "bad", "good"))  # 1, for bad, sorts first
    for name, labelled in (("turned", turned), ("other", other)):
        labelled.to_parquet(place.root / f"{name}.parquet")
    version, _ = register(store_of(place.root), "column", "team_scores", table)
    uri = f"models:/team_scores/{version}"
    for name, label in (("turned", "active"), ("other", "bad")):
        asked = {"model_uri": uri, "data": [f"{name}.parquet"], **ASKED}
        refused = place.call("mlflow", "read_output", **asked)
        assert "it says the opposite of the labels" in refused.message, refused
        assert f'probably `output: {{probability: 0, of: "{label}"}}`' in refused.message
        read = place.ok("mlflow", "read_output", **asked, output={"probability": 0, "of": label})
        assert (read["kind"], read["supposed"]) == ("probability", "")
        stated = {"data": f"{name}.parquet", "metric": "roc_auc", **ASKED, "output": {"probability": 0, "of": label}}
        assert place.ok("mlflow", "evaluate_model", model_uri=uri, **stated)["value"] > 0.7


# --- which version is the champion


def named(place: Project, name: str, count: int) -> Any:
    """A client, for a registered model with so many versions, none of which is named."""
    register(store_of(place.root), "labels", name, rows(100, seed=5), count)
    return client(store_of(place.root))


def test_the_champion_is_found_by_whatever_names_it_and_those_names_move_with_a_promotion(place: Project) -> None:
    made = named(place, "team_stage", 3)
    made.transition_model_version_stage("team_stage", "2", "Production")
    found = place.ok("mlflow", "get_champion", name="team_stage")
    assert (found["version"], found["named_by"]) == (2, "stage Production")
    made.set_registered_model_alias("team_stage", "prod-live", "2")
    promoted = place.ok("mlflow", "promote_version", name="team_stage", version=3, reason="better")
    assert promoted["previous_version"] == 2
    versions = {v["version"]: v for v in place.ok("mlflow", "list_versions", name="team_stage")["versions"]}
    assert versions[3]["aliases"] == ["champion", "prod-live"] and versions[3]["stage"] == "Production"
    assert versions[2]["aliases"] == ["previous_champion"] and versions[2]["stage"] == "Archived"
    place.ok("mlflow", "promote_version", name="team_stage", version=2, reason="back")
    versions = {v["version"]: v for v in place.ok("mlflow", "list_versions", name="team_stage")["versions"]}
    assert versions[2]["aliases"] == ["champion", "prod-live"] and versions[2]["stage"] == "Production"


def test_versions_that_nothing_names_and_several_that_are_named_are_no_champion(place: Project) -> None:
    made = named(place, "team_unnamed", 3)
    none = place.call("mlflow", "get_champion", name="team_unnamed")
    assert none.status is Status.NO_DATA and "has no champion yet" in none.message
    made.transition_model_version_stage("team_unnamed", "1", "Production")
    made.set_registered_model_alias("team_unnamed", "LIVE", "3")
    several = place.call("mlflow", "get_champion", name="team_unnamed")
    assert several.status is Status.NO_DATA and "versions 3, 1 of team_unnamed are all named" in several.message
    for stated, version in (("2", 2), ("v1", 1), ("live", 3), ("production", 1)):
        assert place.ok("mlflow", "get_champion", name="team_unnamed", champion=stated)["version"] == version
    wrong = place.call("mlflow", "get_champion", name="team_unnamed", champion="9")
    assert "`champion: 9` of the goal is none of its versions" in wrong.message and "3 (LIVE)" in wrong.message


def test_a_folder_of_an_older_mlflow_is_a_store_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, table = f"file://{tmp_path}/mlruns", rows(300, seed=6)
    version, chances = register(uri, "encoded", "team_files", table)
    client(uri).transition_model_version_stage("team_files", str(version), "Production")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")  # relative to the project, wherever a process runs
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    table.to_parquet(tmp_path / "rows.parquet")
    place = Project(tmp_path)
    try:
        found = place.ok("mlflow", "get_champion", name="team_files")
        assert found["named_by"] == "stage Production"
        asked = {"model_uri": found["model_uri"], "data": "rows.parquet", "metric": "roc_auc", **ASKED}
        scores = pd.read_parquet(tmp_path / place.ok("mlflow", "evaluate_model", **asked)["scores_path"])
        assert scores["probability"].to_numpy() == pytest.approx(chances, abs=1e-5)
        trained = place.ok("mlflow", "train_model", train=["rows.parquet"], **ASKED, metric="roc_auc")
        registered = place.ok("mlflow", "register_model", model_uri=trained["model_uri"], name="team_files")
        place.ok("mlflow", "promote_version", name="team_files", version=registered["version"], reason="better")
        place.ok("serving", "deploy_model", model_uri=registered["model_uri"], version="2", name="team_files")
    finally:
        for backend in place.backends.values():
            backend.close()


def test_a_database_of_another_version_is_told_with_what_to_do(
    tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    shutil.copyfile(mlflow_database, tmp_path / "old.db")
    with sqlite3.connect(tmp_path / "old.db") as base:
        base.execute("update alembic_version set version_num = 'acf3f17fdcc7'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/old.db")
    place = Project(tmp_path)
    told = place.call("mlflow", "get_champion", name="any").message
    place.backends["mlflow"].close()
    assert "made by an older MLflow" in told and f"mlflow db upgrade sqlite:///{tmp_path}/old.db" in told
