"""A run over a registry that somebody else filled: whose champion it is is a person's word, and what it answers is read
the same way in every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks import assess_champion
from tests.crew.test_loop import Played
from tests.crew.test_people import answer_within, choosing, no_model, person  # noqa: F401 - a fixture
from tests.helpers.foreign_registry import client, store_of, tracked
from tests.helpers.tiny_project import make_project, rows

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
UNTIL_CHAMPION = ["version_data", "check_data", "establish_champion", "detect_drift", "foresee", "assess_champion"]


def filled(project: Path, *, count: int = 1) -> list[str]:
    """Versions of a model of others that answers a table, with 1 for yes; none of them is named."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = rows(1000, turned=False, seed=9)
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough")
    made = make_pipeline(encode, LogisticRegression()).fit(table[["a", "b", "c"]], (table["y"] == "yes").astype(int))
    with tracked(store_of(project)) as mlflow:
        import mlflow.pyfunc as pyfunc

        class Scorer(pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                chances = made.predict_proba(model_input)[:, 1]
                return pd.DataFrame({"prediction": (chances > 0.5).astype(int), "score": np.round(chances, 6)})

        mlflow.set_experiment("team")
        with mlflow.start_run():
            info = pyfunc.log_model(name="model", python_model=Scorer(), pip_requirements=["scikit-learn"])
        return [str(mlflow.register_model(info.model_uri, "tiny").version) for _ in range(count)]


@pytest.fixture
def project(tmp_path: Path, mlflow_database: Path) -> Callable[..., Path]:
    def make(*, timeout_s: float = 60, **goal: Any) -> Path:
        made = make_project(tmp_path / "p", mlflow_database=mlflow_database, **goal)
        answer_within(made, timeout_s)
        return made

    return make


def test_where_versions_exist_and_nobody_names_one_nothing_is_trained(project: Callable[..., Path]) -> None:
    place = project(timeout_s=0.5, tasks=UNTIL_CHAMPION, story="same")
    assert filled(place, count=2) == ["1", "2"]
    played = Played(place)
    assert (played.outcome.outcome, played.outcome.exit_code) == ("undecided", 4)
    assert "tiny has 2 versions, and none is named its champion" in played.outcome.summary
    assert "State `champion` in the goal" in played.outcome.summary
    done = {(r["server"], r["action"]) for r in played.of("intent")}
    assert not {("mlflow", "train_model"), ("mlflow", "promote_version"), ("mlflow", "register_model")} & done
    assert client(store_of(place)).get_registered_model("tiny").aliases == {}
    skipped = {r["task"] for r in played.of("task_skipped")}
    assert skipped == {"detect_drift", "foresee", "assess_champion"}


def test_the_version_that_a_person_names_becomes_the_champion_and_is_judged(project: Callable[..., Path]) -> None:
    place = project(tasks=UNTIL_CHAMPION, story="same")
    filled(place, count=2)
    with person(place, choosing("version_1")) as seen:
        played = Played(place)
    assert [waiting.asks for waiting in seen]
    assert played.outcome.outcome == "no_action", played.outcome.summary
    assert client(store_of(place)).get_registered_model("tiny").aliases == {"champion": 1}
    assert "Version 1 of tiny is the champion, as ada said." in played.outcome.results["establish_champion"].summary


def test_a_champion_of_others_goes_through_the_whole_loop(project: Callable[..., Path]) -> None:
    place = project(champion="production")
    filled(place)
    client(store_of(place)).transition_model_version_stage("tiny", "1", "Production")
    played = Played(place)
    assert played.outcome.outcome == "promoted", played.outcome.summary
    versions = {v.version: v for v in client(store_of(place)).search_model_versions("name='tiny'")}
    assert (str(versions[2].current_stage), str(versions[1].current_stage)) == ("Production", "Archived")
    assessed = played.result("assess_champion", assess_champion.Result)
    assert assessed.reference_value > 0.8 and assessed.act, assessed
    traffic = played.data("serving", "send_traffic")
    assert traffic and sum(batch["champion"]["errors"] for batch in traffic) == 0


def test_what_cannot_be_known_ends_the_run_before_anything_is_trained(project: Callable[..., Path]) -> None:
    place = project(tasks=UNTIL_CHAMPION, story="same")
    filled(place)
    client(store_of(place)).set_registered_model_alias("tiny", "PROD", "1")
    goal = place / "config" / "goal.yaml"
    stated = yaml.safe_load(goal.read_text()) | {"output": {"probability": "chance"}}
    goal.write_text(yaml.safe_dump(stated))
    played = Played(place)
    assert (played.outcome.outcome, played.outcome.exit_code) == ("failed", 1)
    assert "its answers have no column 'chance'; they have the columns prediction, score" in played.outcome.summary
    assert not played.of("intent", server="mlflow", action="train_model")
